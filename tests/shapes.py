"""Shape annotations are enforced in tests: every call of a function that is not like one seen before in the process.

Checks of all calls take as long as all that small models compute. What a check says depends on the types, shapes and
texts of the arguments and of the result alone, because a length's name stands for one length within a call only. So a
call like one before, whose result is like the one before too, is not checked again. Where more may matter, such as the
parts of a set or of a mapping, it is checked again in every test.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Collection, Hashable, Iterator
from types import CodeType
from typing import Any

import jaxtyping
import numpy as np
import torch
from torch import Tensor, nn

_original = jaxtyping.jaxtyped
_code: dict[Hashable, CodeType] = {}
"""For each function the definition of one that checks its calls."""
_seen: dict[Hashable, dict[Hashable, set[Hashable]]] = {}
"""For each function the kinds of arguments that were checked, and of the results that came of them."""
_opaque: list[tuple[set[Hashable], Hashable]] = []
"""The kinds in `_seen` that are forgotten after the test."""
UNLIKE = object()
"""The kind of a long container whose parts differ: a call with one is checked each time."""
MIXED = object()
"""A part of the kind of a short container whose parts differ: a call with one is checked for each part at once."""
_MIXED_PARTS = 8
_TYPE_SAYS_ALL = {"int", "float", "bool", "str", "Tensor", "torch.device"}
_known: set[type] = {type(None), bool, int, float}
"""Types met of whose values a check looks at nothing but the type."""
_KIND = (
    "(({0}.shape, {0}.dtype) if (__kind := type({0})) is __Tensor else __kind if __kind in __known else __kind_of({0}))"
)
"""The kind of what has this name, without calls for what most arguments are."""
_Factory = type(dataclasses._HAS_DEFAULT_FACTORY)  # type: ignore[attr-defined]
"""The type of the default value of a dataclass's field that has a factory."""
OPAQUE = object()
"""A part of the kind of another container: a call with one is checked once in each test."""


def enforce_shapes(*packages: str) -> None:
    """Enforce the annotations of packages that are imported later."""
    jaxtyping.jaxtyped = _jaxtyped  # with which the hook decorates every function and class
    jaxtyping.install_import_hook(packages, "beartype.beartype")


def forget_calls(*, all_tests: bool = False) -> None:
    """Check calls with parts that are not looked at again, as at the start of a test; or all calls, as of a process."""
    for results, kind in _opaque:
        results.discard(kind)
    _opaque.clear()
    for of_function in _seen.values() if all_tests else ():
        of_function.clear()


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
    # a function inside another is a new object each time, with the same code
    is_inner = "<locals>" in function.__qualname__
    identity = (function.__module__, function.__qualname__, function.__code__) if is_inner else function
    if identity not in _code:
        _code[identity] = _code_of_call(function)
        _seen[identity] = {}
    seen = _seen[identity]

    @functools.cache
    def checked() -> Callable[..., Any]:  # made when it is needed, which saves seconds at the start
        return typechecker(_with_types(function))  # type: ignore[no-any-return]

    @functools.cache
    def checked_again() -> Callable[..., Any]:
        return typechecker(_returning_its_result(function))  # type: ignore[no-any-return]

    def first(arguments: Hashable, /, *args: Any, **kwargs: Any) -> Any:
        with _original("context"):  # lengths with one name are equal, in arguments and result
            result = checked()(*args, **kwargs)
        return note(arguments, result, *args, **kwargs)

    def again(arguments: Hashable, result: Any, /, *args: Any, **kwargs: Any) -> Any:
        with _original("context"):
            checked_again()(result, *args, **kwargs)
        return note(arguments, result, *args, **kwargs)

    def note(arguments: Hashable, result: Any, /, *args: Any, **kwargs: Any) -> Any:
        kind = _kind(result)
        parts = [*_parts(arguments), *_parts(kind)]
        if UNLIKE in parts:
            return result
        if MIXED in parts:
            with _original("context"):
                _check_every_part(checked_again(), result, *args, **kwargs)
        results = seen.setdefault(arguments, set())
        results.add(kind)
        if OPAQUE in parts:
            _opaque.append((results, kind))
        return result

    names = {"__function": function, "__seen": seen.get, "__first": first, "__again": again, **_NAMES}
    exec(_code[identity], names)
    call = _with_defaults(names[function.__name__], function)
    functools.update_wrapper(call, function)
    call.checks_new_calls = True
    return call  # type: ignore[no-any-return]


_CALL = """
def {name}{parameters}:
    if __is_compiling():  # lengths may be symbols
        return __function({passed})
    if __results := __seen(__arguments := ({kinds})):
        __result = __function({passed})
        if {kind_of_result} in __results:
            return __result
        return __again(__arguments, __result, {passed})
    return __first(__arguments, {passed})
"""
"""A call of a function with its own parameters, which takes half the time of one that passes on what it is given."""


def _code_of_call(function: Any) -> CodeType:
    """`_CALL` for this function: the kinds are those of its arguments, as far as their annotations matter."""
    kinds, passed = [], []
    for one in inspect.signature(function).parameters.values():
        if one.annotation in _TYPE_SAYS_ALL:
            kinds.append(f"type({one.name}), ")
        elif one.annotation is not one.empty:
            kinds.append(f"{_KIND.format(one.name)}, ")
        before = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**", one.KEYWORD_ONLY: f"{one.name}="}
        passed.append(before.get(one.kind, "") + one.name)
    source = _CALL.format(
        name=function.__name__,
        parameters=_bare(function),
        passed=", ".join(passed),
        kinds="".join(kinds),
        kind_of_result=_KIND.format("__result"),
    )
    return compile(source, f"{__file__}, a call of {function.__qualname__}", "exec")


def _check_every_part(checked: Any, *args: Any, **kwargs: Any) -> None:
    """Call what beartype made once for each part of a short container: by itself it looks at one, chosen by chance."""
    chance = getattr(checked, "__kwdefaults__", None) or {}
    if (before := chance.get("__beartype_getrandbits")) is None:  # it looks at no container so
        return
    try:
        for part in range(_MIXED_PARTS):
            chance["__beartype_getrandbits"] = lambda bits, part=part: part
            checked(*args, **kwargs)
    finally:
        chance["__beartype_getrandbits"] = before


def _parts(kind: Hashable) -> Iterator[Hashable]:
    if type(kind) is tuple:
        for part in kind:
            yield from _parts(part)
    else:
        yield kind


def _with_types(function: Any) -> Any:
    """A copy of the function whose annotations are no strings but types: Any for names that only mypy has."""
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    return _annotated(copy, function)


def _bare(function: Any, *first: str) -> inspect.Signature:
    """The parameters of a function without annotations and default values."""
    parameters = inspect.signature(function).parameters.values()
    bare = [one.replace(default=one.empty, annotation=one.empty) for one in parameters]
    return inspect.Signature([*(inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in first), *bare])


def _with_defaults(copy: Any, function: Any) -> Any:
    copy.__defaults__, copy.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return copy


def _returning_its_result(function: Any) -> Any:
    """A function with the annotations of this one that takes its result first, and returns it."""
    names: dict[str, Any] = {}
    exec(f"def again{_bare(function, '_result')}: return _result", names)
    return _annotated(names["again"], function)


def _annotated(copy: Any, function: Any) -> Any:
    functools.update_wrapper(copy, function)
    del copy.__wrapped__
    _with_defaults(copy, function)
    copy.__annotations__ = {name: _type(text, function.__globals__) for name, text in function.__annotations__.items()}
    for one in inspect.signature(function).parameters.values():
        if isinstance(one.default, _Factory):  # a dataclass makes a new value in its place
            copy.__annotations__[one.name] = copy.__annotations__[one.name] | _Factory
    return copy


def _type(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)
    except NameError:
        return Any


def _kind(value: Any) -> Hashable:
    """All that a check of an argument or a result depends on."""
    kind = type(value)
    if kind is tuple or kind is list or kind is dict:
        return _kind_of_parts(kind, value)
    if kind in _known:
        return kind
    sort = _sort(kind)
    if sort == "one":
        _known.add(kind)
        return kind
    if sort == "array":
        return (value.shape, value.dtype) if kind is Tensor else (kind, value.shape, value.dtype)
    return kind, value if sort == "named" else OPAQUE


def _kind_of_parts(kind: type, value: Any) -> Hashable:
    """That of a tuple, list or dict."""
    kinds: Any
    if kind is dict:
        kinds = [(type(key), _kind_of_part(part)) for key, part in value.items()]
    elif len(found := {*map(type, value)}) == 1 and (found <= _known or str in found):  # thousands of token ids
        return kind, len(value) if kind is tuple else 0, *found
    elif len(value) > _MIXED_PARTS and found <= {str, *_known}:
        return UNLIKE
    else:
        kinds = [(part.shape, part.dtype) if type(part) is Tensor else _kind_of_part(part) for part in value]
    # beartype looks at one part of a long container, by chance: one check says all only if all are alike
    if len(different := {*kinds}) <= 1:
        return kind, len(kinds) if kind is tuple else 0, *different  # the length of a list is in no annotation
    return (kind, MIXED, *kinds) if len(kinds) <= _MIXED_PARTS else UNLIKE


def _kind_of_part(value: Any) -> Hashable:
    return str if type(value) is str else _kind(value)


_NAMES: dict[str, Any] = {
    "__is_compiling": torch.compiler.is_compiling,
    "__Tensor": Tensor,
    "__known": _known,
    "__kind_of": _kind,
}
"""What `_CALL` needs for all functions."""


@functools.cache
def _sort(kind: type) -> str:
    """What of a value of this type a check looks at."""
    if issubclass(kind, (Tensor, np.ndarray)):
        return "array"
    if issubclass(kind, (str, type)):  # a Literal names a text, type[…] a class
        return "named"
    if issubclass(kind, (nn.Module, tuple)) or not issubclass(kind, (Collection, Iterator)):  # tuple: a NamedTuple
        return "one"
    return "unknown"
