"""Wrong shapes are found in tests: in arguments and results, at every call that is not like one before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from tests import shapes
from tests.shapes import enforce_shapes, forget_calls

CODE = '''
from __future__ import annotations
from dataclasses import dataclass, field
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal
from jaxtyping import Float, Int
from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy import ndarray

lengths = []

def second(rows: Float[Tensor, "B D"], numbers: ndarray, names: tuple[str, ...] = ("x",), *, last: int = 3) -> int:
    return last + len(names)

def first(rows: Float[Tensor, "B D"], steps: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    return rows[: lengths[-1] if lengths else None, 0]

def third(parts: Mapping[str, Float[Tensor, "B D"]]) -> int:
    return len(parts)

def outer(rows: Float[Tensor, "B D"], factor) -> Float[Tensor, "B D"]:
    def inner(other: Float[Tensor, "B D"], by: int) -> Float[Tensor, "B D"]:
        return rows + other * by
    return inner(rows, factor)

def fourth(per: Literal["token", "caption"], kind: type[int]) -> str:
    return per

def sixth(one: int, /, two: int = 0, *more: int, key: str = "", **others: int) -> tuple[object, ...]:
    return one, two, more, key, others

def fifth(tokens: list[int], words: list[str]) -> int:
    return len(tokens)

@dataclass(frozen=True)
class State:
    hidden: Float[Tensor, "B H"]
    cell: Float[Tensor, "B H"]

@dataclass(frozen=True)
class NamedState(State):
    name: str

@dataclass
class Beam:
    tokens: list[int] = field(default_factory=list)
    width: int = 2

class Layer(nn.Module):
    def __init__(self, drops: int) -> None:
        super().__init__()
        self.drops = drops

    @property
    def half(self) -> int:
        return self.drops / 2

    @staticmethod
    def double(number: int) -> int:
        return 2 * number

    def forward(self, parts: tuple[Float[Tensor, "B D"], ...], *, scale: float = 1.0) -> Float[Tensor, "B D"]:
        """Forward."""
        return sum(parts)[:, self.drops :] * scale
'''


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """CODE as a module whose shapes are enforced."""
    (tmp_path / "shaped_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    enforce_shapes("shaped_code")
    import shaped_code

    yield shaped_code
    sys.meta_path[:] = finders
    del sys.modules["shaped_code"]


def refuses() -> Any:
    return pytest.raises(Exception, match="violates type hint")


def test_arguments(checked: ModuleType) -> None:
    rows, steps = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
    for _ in range(2):
        assert checked.first(rows, steps=steps).shape == (3,)
        for wrong in [(rows, steps[:2]), (rows[0], steps), (rows, steps.float()), (rows.int(), steps), (rows, None)]:
            with refuses():
                checked.first(*wrong)


def test_a_type_that_only_mypy_has_is_any(checked: ModuleType) -> None:
    assert checked.second(torch.zeros(3, 2), 5) == 4
    with refuses():
        checked.second(torch.zeros(3), 5)


def test_a_result_unlike_those_before(checked: ModuleType) -> None:
    rows, steps = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
    checked.first(rows, steps)
    checked.lengths.append(2)
    for _ in range(2):  # a refused call does not count as seen
        with refuses():
            checked.first(rows, steps=steps)
        with refuses():
            checked.first(rows, steps)
        with refuses():
            checked.first(torch.zeros(3, 1), steps)
    checked.lengths.append(3)
    assert len(checked.first(rows, steps)) == 3


def test_a_call_like_one_before_is_not_checked_again(checked: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, steps = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
    checks: list[str] = []

    def counting(*arguments: Any, **named: Any) -> Any:
        checks.extend(arguments)
        return original(*arguments, **named)

    original = shapes._original
    monkeypatch.setattr(shapes, "_original", counting)
    for _ in range(2):
        checked.first(rows, steps)
        forget_calls()  # as between two tests
    assert checks == ["context"]
    checked.first(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    assert checks == ["context"] * 2


def test_the_parts_of_a_mapping_are_checked_in_every_test(checked: ModuleType) -> None:
    right, wrong = (MappingProxyType({"a": rows}) for rows in (torch.zeros(3, 2), torch.zeros(3)))
    assert checked.third(right) == 1
    forget_calls()
    with refuses():
        checked.third(wrong)


def test_a_text_and_a_class_are_checked_as_such(checked: ModuleType) -> None:
    assert checked.fourth("token", int) == "token"
    for wrong in [("word", int), ("token", str)]:
        with refuses():
            checked.fourth(*wrong)


def test_every_module_by_itself(checked: ModuleType) -> None:
    right, wrong = checked.Layer(0), checked.Layer(1)
    parts = (torch.zeros(3, 2), torch.zeros(3, 2))
    right(parts)
    with refuses():
        wrong(parts)
    with refuses():
        right(parts, scale="1")
    assert isinstance(right, nn.Module)
    assert right.forward.__doc__ == "Forward."


@pytest.mark.parametrize("count", [4, 40])
@pytest.mark.parametrize("wrong_first", [False, True])
def test_parts_that_are_not_alike_are_all_looked_at(checked: ModuleType, count: int, wrong_first: bool) -> None:
    """Those of a short container at once, those of a long one over many calls."""
    layer = checked.Layer(0)
    parts = [torch.zeros(1, 2), *[torch.zeros(3, 2)] * (count - 1)]

    def calls() -> None:
        for _ in range(1 if count < 8 else 1000):  # one part of a long container is checked, chosen by chance
            layer(tuple(parts if wrong_first else parts[::-1]))

    with refuses():
        calls()


@pytest.mark.parametrize("count", [3, 40])
def test_numbers_and_texts_of_a_container_are_looked_at(checked: ModuleType, count: int) -> None:
    tokens, words = [*range(count)], ["a"] * count
    for _ in range(2):
        assert checked.fifth(tokens, words) == count
        for wrong in ([(*tokens[1:], "a"), words], [words, words], [tokens, tokens], [[*tokens[:-1], "a"], words]):
            with refuses():
                for _ in range(1000):  # one part of a long container is checked, chosen by chance
                    checked.fifth(*wrong)


def test_a_function_inside_another(checked: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.zeros(3, 2)
    checked.outer(rows, 1)
    monkeypatch.setattr(shapes, "_with_types", lambda function: pytest.fail("a function like one before is checked"))
    checked.outer(rows, 1)
    monkeypatch.undo()
    with refuses():
        checked.outer(rows, "1")


def test_methods_of_all_kinds(checked: ModuleType) -> None:
    with refuses():
        checked.Layer("1")
    with refuses():
        _ = checked.Layer(1).half
    assert checked.Layer.double(2) == 4
    with refuses():
        checked.Layer.double("2")


def test_dataclasses(checked: ModuleType) -> None:
    rows = torch.zeros(3, 2)
    assert checked.NamedState(checked.State(rows, rows).hidden, cell=rows, name="x").name == "x"
    for wrong in [(rows, rows[:2]), (rows, [1.0])]:
        with refuses():
            checked.State(*wrong)
        with refuses():
            checked.NamedState(*wrong, "x")
    with refuses():
        checked.NamedState(rows, rows, 1)


def test_a_field_with_a_factory(checked: ModuleType) -> None:
    for _ in range(2):
        first, second = checked.Beam(), checked.Beam(width=3)
        assert (first.tokens, second.tokens, second.width) == ([], [], 3)
        assert first.tokens is not second.tokens
        with refuses():
            checked.Beam("a")


def test_parameters_of_all_kinds(checked: ModuleType) -> None:
    for _ in range(2):
        assert checked.sixth(1, 2, 3, 4, key="a", other=5) == (1, 2, (3, 4), "a", {"other": 5})
        assert checked.sixth(1) == (1, 0, (), "", {})
        for wrong, named in [(("1",), {}), ((1, 2, "3"), {}), ((1,), {"key": 1}), ((1,), {"other": "5"})]:
            with refuses():
                checked.sixth(*wrong, **named)
        with pytest.raises(TypeError, match=r"sixth\(\) missing 1 required positional argument: 'one'"):
            checked.sixth()
