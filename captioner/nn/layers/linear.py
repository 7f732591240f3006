"""A linear layer that is fast in a search, which multiplies a few rows by the same weights at every word.

In training, large float32 products of the forward pass are oneDNN's, too, which is part of PyTorch: it multiplies by
weights as they are up to one and a half times as fast as the library that PyTorch asks otherwise.

For few rows, an ordinary matrix product spends most of its time on bringing the weights into the order in which it
reads them. oneDNN can keep a copy of the weights in that order (which some processors like better for many rows, too);
one row is fastest with a transposed copy. The copies are made at the first use, of float32 weights on a CPU in
`torch.inference_mode`. The values are those of `nn.Linear` up to the order of additions; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

T = TypeVar("T")

_FEWEST_WEIGHTS = 2**14  # smaller products take less time than choosing how to compute them
_ROWS_HINT = 64  # oneDNN's order of the weights depends on it: this one is fast from 2 rows on
_LARGE = 2**26  # multiplications, from which on oneDNN is asked in training
_CHECKED_VALUES = 1024  # of a weight; see `forget_changed_copies`


@dataclass
class _Copies:
    """The copies of one layer's weight, as it was at `version`."""

    weight: Tensor
    address: int
    version: int
    values: Tensor  # some of the weight's
    made: dict[Callable[[Tensor], Any], Any] = field(default_factory=dict)  # each copy, by the function that made it

    def are_of(self, weight: Tensor) -> bool:
        """Whether the weight is still the one that was copied. torch counts changes in place."""
        return self.weight is weight and self.address == weight.data_ptr() and self.version == weight._version


class Linear(nn.Linear):
    """`nn.Linear`, faster in a search, and for large products in training."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        if can_copy(inputs, self.weight):
            return _product_with_copy(self, inputs)
        # is_plain first: it is false while a graph is exported, where comparing a size would fix the size
        if torch.is_grad_enabled() and is_plain(inputs, self.weight) and inputs.numel() * self.out_features >= _LARGE:
            product: Tensor = _Product.apply(inputs, self.weight, self.bias)
            return product
        return F.linear(inputs, self.weight, self.bias)


def can_copy(inputs: Tensor, weight: Tensor) -> bool:
    """Whether a search may multiply by a copy of the weight, which counts its changes."""
    return (
        torch.is_inference_mode_enabled()
        and weight.numel() >= _FEWEST_WEIGHTS
        and _is_float32_on_cpu(inputs, weight)
        and not weight.is_inference()
    )


def copy_of_weight(layer: nn.Linear, make: Callable[[Tensor], T]) -> T:
    """What `make` makes of the layer's weight, kept until the weight changes; see `can_copy`."""
    weight = layer.weight
    copies = _copies.get(layer)
    if copies is None or not copies.are_of(weight):
        copies = _copies[layer] = _Copies(weight, weight.data_ptr(), weight._version, _some(weight))
    if make not in copies.made:
        copies.made[make] = make(weight.detach())
    return cast("T", copies.made[make])


def forget_changed_copies(module: nn.Module) -> None:
    """Forget the copies of weights that were changed without torch's knowledge, as `weight.data` allows.

    A search calls it once. It compares a thousand values of each weight, spread over all of it; changes that torch
    counts are noticed at every product.
    """
    for layer in module.modules():
        if (
            isinstance(layer, Linear)
            and layer in _copies
            and not torch.equal(_some(layer.weight), _copies[layer].values)
        ):
            del _copies[layer]


_copies: WeakKeyDictionary[nn.Module, _Copies] = WeakKeyDictionary()


class _Product(torch.autograd.Function):
    """x Wᵀ + b by oneDNN, and its ordinary gradients."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        product = product_of_rows(inputs.reshape(-1, weight.shape[1]), weight, bias)
        return product.view(*inputs.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        rows, needs = gradient.reshape(-1, weight.shape[0]), ctx.needs_input_grad
        return (
            (rows @ weight).view(inputs.shape) if needs[0] else None,
            product_of_rows(rows.t(), inputs.reshape(-1, weight.shape[1]).t()) if needs[1] else None,
            rows.sum(0) if needs[2] else None,
        )


def product_of_rows(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b by oneDNN; x: (N, D); W: (C, D), as it is or in oneDNN's order; b: (C,). No gradient is recorded."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product


def in_order_of_onednn(weight: Tensor) -> Tensor:
    """A copy of W (C, D) in the order in which oneDNN reads it, for `product_of_rows`."""
    copy: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)
    return copy


def is_plain(inputs: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN may compute a product in training: of float32 on a CPU that is not to be rounded or compiled."""
    return _is_float32_on_cpu(inputs, weight) and torch.get_float32_matmul_precision() == "highest"


def _is_float32_on_cpu(inputs: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and inputs.numel() > 0
        and inputs.dtype == weight.dtype == torch.float32
        and inputs.device.type == weight.device.type == "cpu"
        and torch._C._has_mkldnn
        and not torch.is_autocast_enabled("cpu")
    )


def _product_with_copy(layer: Linear, inputs: Tensor) -> Tensor:
    """`inputs` times the layer's weight, by one of its copies."""
    weight, bias = layer.weight, layer.bias
    rows = inputs.reshape(-1, weight.shape[1])
    if len(rows) == 1:
        copy = copy_of_weight(layer, _transposed)
        product = torch.mm(rows, copy) if bias is None else torch.addmm(bias, rows, copy)
    else:
        product = product_of_rows(rows, copy_of_weight(layer, in_order_of_onednn), bias)
    return product.view(*inputs.shape[:-1], weight.shape[0])


def _transposed(weight: Tensor) -> Tensor:
    return weight.t().contiguous()


def _some(weight: Tensor) -> Tensor:
    """About `_CHECKED_VALUES` of its values, copied."""
    return weight.detach().flatten()[:: max(1, weight.numel() // _CHECKED_VALUES)].clone()
