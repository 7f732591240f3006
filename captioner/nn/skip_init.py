"""Building a model whose weights are filled in afterwards, without initializing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_INITIALIZERS = frozenset({
    Tensor.fill_,
    Tensor.normal_,
    Tensor.uniform_,
    Tensor.zero_,
    nn.init.constant_,
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.uniform_,
})  # fmt: skip


class SkipInit(TorchFunctionMode):
    """Inside, tensors on the meta device are not initialized: they have no values, and asking takes half of building.

    Others are initialized as ever. To be entered inside `torch.device("meta")`.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in _INITIALIZERS:
            tensor = args[0] if args else (kwargs or {})["tensor"]
            if tensor.is_meta:
                return tensor
        return function(*args, **(kwargs or {}))
