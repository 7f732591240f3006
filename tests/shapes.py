"""Shape annotations are enforced in tests: every call of a function with arguments not seen before in the test.

Checks of all calls take as long as all that small models compute. A second call of a function or module with tensors
of the same shapes and types is not checked again in the same test.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Hashable
from typing import Any

import jaxtyping
import numpy as np
import torch
from torch import Tensor, nn

_original = jaxtyping.jaxtyped
_seen: set[Hashable] = set()
UNLIKE = object()
"""The kind of a container whose parts differ: a call with one is checked each time."""


def enforce_shapes(*packages: str) -> None:
    """Enforce the annotations of packages that are imported later."""
    jaxtyping.jaxtyped = _jaxtyped  # with which the hook decorates every function and class
    jaxtyping.install_import_hook(packages, "beartype.beartype")


def forget_calls() -> None:
    """Check every call again, as at the start of a test."""
    _seen.clear()


def _jaxtyped(decorated: Any = None, *, typechecker: Any) -> Any:
    """In place of `jaxtyping.jaxtyped`."""
    if decorated is None:
        return functools.partial(_jaxtyped, typechecker=typechecker)
    if inspect.isfunction(decorated):
        return _checks_new_calls(decorated, typechecker)
    if inspect.isclass(decorated) and dataclasses.is_dataclass(decorated):
        if not hasattr(decorated.__init__, "checks_new_calls"):  # inherited from a class that has them
            decorated.__init__ = _checks_new_calls(decorated.__init__, typechecker)  # type: ignore[method-assign]
        return decorated
    return _original(decorated, typechecker=typechecker)


def _checks_new_calls(function: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    @functools.cache
    def checked() -> Callable[..., Any]:  # made when it is needed, which saves seconds at the start
        return typechecker(_with_types(function))  # type: ignore[no-any-return]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # lengths may be symbols
            return function(*args, **kwargs)
        kinds = [*map(_kind, args), *map(_kind, kwargs.values())]
        seen = (function, *kwargs, *kinds)
        if seen in _seen:
            return function(*args, **kwargs)
        with _original("context"):  # lengths with one name are equal, in arguments and result
            result = checked()(*args, **kwargs)
        if UNLIKE not in kinds:
            _seen.add(seen)
        return result

    call.checks_new_calls = True  # type: ignore[attr-defined]
    return call


def _with_types(function: Any) -> Any:
    """A copy of the function whose annotations are no strings but types: Any for names that only mypy has."""
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    functools.update_wrapper(copy, function)
    del copy.__wrapped__
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = {name: _type(text, function.__globals__) for name, text in function.__annotations__.items()}
    return copy


def _type(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)
    except NameError:
        return Any


def _kind(value: Any) -> Hashable:
    """What a check of an argument depends on. The sizes of a module are its own: it stands for itself."""
    kind = type(value)
    if kind is Tensor or isinstance(value, (Tensor, np.ndarray)):
        return kind, value.shape, value.dtype
    if kind is tuple or kind is list or kind is dict:
        kinds = {_kind(part) for part in (value.values() if kind is dict else value)}
        # beartype looks at one part of a long container, by chance: one check says all only if all are alike
        return (kind, len(value), *kinds) if len(kinds) <= 1 and UNLIKE not in kinds else UNLIKE
    if isinstance(value, nn.Module):
        return kind, id(value)
    return kind
