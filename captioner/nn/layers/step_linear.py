"""A linear layer for the steps of a recurrence, whose weight gradient is one product over all steps.

`StepProduct` says how. The values are those of `nn.Linear` up to the order of additions; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from captioner.nn.layers.linear import Linear
from captioner.nn.layers.step_product import StepProduct


class StepLinear(Linear):
    """`Linear`; inside `deferred_weight_gradients` it has one weight gradient for all its uses.

    defers_gradients: False makes it an ordinary linear layer everywhere, as torch.compile requires.
    """

    defers_gradients: bool = True
    _product: StepProduct | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        if self._product is None:
            return super().forward(inputs)
        product = self._product(inputs.reshape(-1, inputs.shape[-1])).view(*inputs.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias


@contextmanager
def deferred_weight_gradients(*modules: nn.Module) -> Iterator[None]:
    """Inside, every StepLinear of `modules` collects its uses for one weight gradient.

    It has no effect where gradients are disabled, under autocast, where the types of the operands differ between the
    forward and the backward pass, and under torch.compile.
    """
    layers = [
        layer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, StepLinear) and layer.defers_gradients
    ]
    device = next((layer.weight.device.type for layer in layers), "cpu")
    if not torch.is_grad_enabled() or torch.is_autocast_enabled(device) or torch.compiler.is_compiling():
        layers = []
    try:
        for layer in layers:
            if layer.weight.requires_grad:
                layer._product = StepProduct(layer.weight, transposed=True)
        yield
    finally:
        for layer in layers:
            layer._product = None
