"""The screened word against the argmax of the whole product."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captioner.nn.layers import word_screen
from captioner.nn.layers.linear import Linear, forget_changed_copies
from captioner.nn.layers.word_screen import ScreenedWeight, can_screen, most_probable_word
from tests.nn.layers.compiled import assert_wrong_libraries_are_not_used, needs_compiler
from tests.nn.layers.screening import screen_everything

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def _screens_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    screen_everything(monkeypatch)


def found(layer: Linear, hidden: Tensor, forbidden: tuple[int, ...] = ()) -> int | None:
    with torch.inference_mode():
        assert can_screen(layer, hidden)
        return most_probable_word(layer, hidden, forbidden)


def layer_of(weight: Tensor, bias: Tensor | None = None) -> Linear:
    layer = Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return layer


def expected(layer: Linear, hidden: Tensor, forbidden: tuple[int, ...] = ()) -> int:
    """The argmax of the logits in float64, rounded to float32, the first among equals."""
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    logits = (weight @ hidden[0].double().numpy() + bias).astype(np.float32)
    logits[list(forbidden)] = -math.inf
    return int(logits.argmax())


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e15])
@pytest.mark.parametrize(("words", "dim"), [(1, 1), (7, 3), (50, 33), (1000, 64), (300, 1000)])
def test_the_word_is_that_of_the_whole_product(words: int, dim: int, scale: float) -> None:
    for _ in range(20):
        layer, hidden = layer_of(torch.randn(words, dim), scale * torch.randn(words)), scale * torch.randn(1, dim)
        assert found(layer, hidden) == expected(layer, hidden)


def test_near_ties_are_decided_as_by_exact_numbers() -> None:
    """Of small integers every sum is exact; the best two logits differ by 1 of thousands, or by nothing."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        weight = torch.randint(-9, 10, (200, 64), generator=generator).float()
        hidden = torch.randint(-9, 10, (1, 64), generator=generator).float()
        best, second = int((weight @ hidden[0]).argmax()), int(torch.randint(200, (), generator=generator))
        weight[second] = weight[best]
        weight[second, int(torch.randint(64, (), generator=generator))] += 1
        layer = layer_of(weight)
        assert found(layer, hidden) == int((weight @ hidden[0]).argmax())


def test_of_equal_words_the_first_is_found() -> None:
    weight = torch.randn(1, 40).expand(300, 40).contiguous()
    layer, hidden = layer_of(weight), torch.randn(1, 40)
    assert found(layer, hidden) == 0
    assert found(layer, hidden, (0, 1, 2, 4)) == 3
    assert found(layer, torch.zeros(1, 40)) == 0
    assert found(layer_of(torch.zeros(9, 4), torch.tensor([0.0, 1, 1, 0, 0, 0, 0, 0, 0])), torch.zeros(1, 4)) == 1


def test_the_bound_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The approximate logits, which the C function leaves in its own memory, against float64."""
    weight = torch.cat([torch.randn(400, 64), torch.rand(50, 64) ** 8, 3.0 * torch.eye(64)])
    bias = 5 * torch.randn(len(weight))
    screened = ScreenedWeight.of(weight)
    exact_weight = screened.steps[:, None].double() * screened.codes.double()
    errors = (weight.double() - exact_weight).norm(dim=1)
    assert (screened.errors.double() >= errors).all()
    assert (screened.lengths.double() >= exact_weight.norm(dim=1) * (1 - 1e-6)).all()
    memory: list[Tensor] = []
    empty = torch.empty

    def kept(*size: int, **kind: Any) -> Tensor:
        memory.append(empty(*size, **kind))
        return memory[-1]

    monkeypatch.setattr(torch, "empty", kept)
    library = word_screen._library()
    assert library is not None
    for _ in range(20):
        hidden = torch.randn(1, 64)
        word_screen._search(library, screened, weight, bias, hidden, [])
        approximate, exact = memory[-1].double(), weight.double() @ hidden[0].double() + bias.double()
        rest = float(hidden.abs().max()) / (2**15 - 1) / 2 * 64**0.5  # at most, of 64 rounded values
        margins = screened.errors.double() * hidden.norm() + screened.lengths.double() * rest + 2e-6 * bias.abs()
        assert ((approximate - exact).abs() <= margins).all()
        assert (approximate - exact).abs().max() > 1e-3  # the approximation is one


def test_sums_of_the_largest_integers_do_not_overflow() -> None:
    weight = torch.ones(4, 40_000)
    weight[1] *= -1
    weight[2, ::2] = 0.5
    layer = layer_of(weight)
    assert found(layer, torch.ones(1, 40_000)) == 0
    assert found(layer, -torch.ones(1, 40_000)) == 1


def test_what_cannot_be_found() -> None:
    layer, hidden = layer_of(torch.randn(5, 40)), torch.randn(1, 40)
    assert found(layer, hidden, (0, 1, 2, 3, 4)) is None
    assert found(layer, hidden, (1, 4, 1, 0, 3)) == 2
    never = layer_of(torch.randn(5, 40), torch.tensor([-math.inf] * 3 + [0.0, -math.inf]))
    assert found(never, hidden) == 3
    assert found(never, hidden, (3,)) is None
    for value in (math.nan, math.inf, -math.inf):
        hidden[0, 7] = value
        with pytest.raises(FloatingPointError, match="not finite"):
            found(layer, hidden)


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, hiddens = layer_of(torch.randn(999, 40)), torch.randn(30, 1, 40)
    words = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        words.append([found(layer, hidden) for hidden in hiddens])
    assert words[0] == words[1] == words[2]


def test_sees_every_change_of_the_weight() -> None:
    layer, hidden = layer_of(torch.randn(60, 40)), torch.randn(1, 40)
    found(layer, hidden)
    with torch.no_grad():
        layer.weight[9] = 100 * hidden[0]
    assert found(layer, hidden) == 9
    layer.weight.data[9] = 0.0
    layer.weight.data[8] = 100 * hidden[0]  # torch does not count this one
    forget_changed_copies(layer)
    assert found(layer, hidden) == 8
    with torch.no_grad():
        layer.bias[5] = 1e6
    assert found(layer, hidden) == 5


def test_weights_that_are_not_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = torch.randn(1, 40)
    with torch.inference_mode():
        for value in (math.nan, math.inf):
            weight = torch.randn(60, 40)
            weight[3, 4] = value
            assert not can_screen(layer_of(weight), hidden)
        assert not can_screen(layer_of(torch.randn(60, 40)).double(), hidden.double())
        made = layer_of(torch.randn(60, 40))
        made.weight = torch.nn.Parameter(torch.randn(40, 60).t())
        assert not can_screen(made, hidden)
        with torch.autocast("cpu", torch.bfloat16):
            assert not can_screen(layer_of(torch.randn(60, 40)), hidden)
    assert not can_screen(layer_of(torch.randn(60, 40)), hidden)  # with gradients
    with torch.inference_mode():
        monkeypatch.setattr(word_screen, "_is_faster", lambda: False)
        assert not can_screen(layer_of(torch.randn(60, 40)), hidden)
        monkeypatch.undo()
        assert not can_screen(layer_of(torch.randn(60, 40)), hidden)  # a small one


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONER_COMPILE", "0")
    with torch.inference_mode():
        assert not can_screen(layer_of(torch.randn(60, 40)), torch.randn(1, 40))


def test_a_library_that_finds_other_words_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mistakes = {"logit > highest": "logit < highest", "place < forbidden_count": "place < 0"}
    load = word_screen._load.__wrapped__
    assert_wrong_libraries_are_not_used(word_screen, load, mistakes, monkeypatch, tmp_path)


def test_the_trial_compares_with_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that the two move: only where screening takes less is it used."""
    monkeypatch.undo()
    now = [0.0]
    assert word_screen._library() is not None
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    for of_product, of_screening in ((2.0, 1.0), (1.0, 2.0)):

        def product(*_: object, seconds: float = of_product) -> None:
            now[0] += seconds

        def search(*_: object, seconds: float = of_screening) -> int:
            now[0] += seconds
            return 7

        monkeypatch.setattr(torch, "addmm", product)
        monkeypatch.setattr(word_screen, "_search", search)
        assert word_screen._is_faster.__wrapped__() == (of_screening < of_product)
