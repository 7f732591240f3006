"""Precisions: an error where the device lacks them, and close to float32 elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from captioner.config import AttentionConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.show_attend_tell import AttentionDecoder
from captioner.nn.layers.doubly_stochastic import doubly_stochastic_penalty
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.training import precision
from captioner.training.cross_entropy import memory_efficient_cross_entropy
from captioner.training.precision import (
    autocast,
    build_scaler,
    check_precision,
    float32_matmul_precision,
    has_bfloat16_units,
    is_faster_when_rounded,
    iterate_with_autocast,
)

CPU = torch.device("cpu")


def test_float16_on_a_cpu_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"needs a GPU.*bfloat16"):
        check_precision("float16", CPU)
    check_precision("bfloat16", CPU)
    check_precision("float16", torch.device("cuda"))


def test_a_gpu_that_emulates_bfloat16_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ConfigError, match=r"newer GPU than Tesla T4.*float16"):
        check_precision("bfloat16", torch.device("cuda"))
    check_precision("float16", torch.device("cuda"))


def test_autocast_applies_to_products_and_is_off_by_default() -> None:
    left, right = torch.randn(4, 4), torch.randn(4, 4)
    with autocast("float32", CPU):
        assert (left @ right).dtype == torch.float32
    with autocast("bfloat16", CPU):
        assert (left @ right).dtype == torch.bfloat16


def test_medium_precision_rounds_operands_and_nothing_else() -> None:
    """To bfloat16 (8 bits of fraction) if the processor has instructions for it, else not at all; sums are exact."""
    torch.manual_seed(0)
    left, right = torch.randn(64, 256, requires_grad=True), torch.randn(256, 64)
    exact = left.detach().double() @ right.double()
    with float32_matmul_precision("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
        product = left @ right
        product.sum().backward()
    assert torch.get_float32_matmul_precision() == "highest"
    assert product.dtype == torch.float32
    rounding = 2**-8 * (left.detach().abs() @ right.abs())  # of two operands, each by half of 2^-8 at most
    assert ((product.detach() - exact).abs() <= rounding).all()
    rounded = left.detach().bfloat16().double() @ right.bfloat16().double()
    nearest = min(float((product.detach() - one).abs().max()) for one in (exact, rounded))
    assert nearest < 1e-3, "neither the exact product nor that of rounded operands"


def test_the_matmul_precision_is_restored_also_after_an_error() -> None:
    with pytest.raises(KeyError), float32_matmul_precision("medium"):
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"
    with float32_matmul_precision("highest"):
        assert torch.get_float32_matmul_precision() == "highest"


def test_items_are_computed_under_autocast_and_used_outside() -> None:
    def make() -> Iterator[torch.dtype]:
        for _ in range(2):
            yield (torch.ones(1, 1) @ torch.ones(1, 1)).dtype

    for dtype in iterate_with_autocast(make(), "bfloat16", CPU):
        assert dtype == torch.bfloat16
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.float32


def test_only_float16_needs_a_scaler() -> None:
    assert not build_scaler("bfloat16", CPU).is_enabled()
    assert not build_scaler("float32", CPU).is_enabled()
    assert build_scaler("float16", CPU).is_enabled()


def test_sums_stay_in_float32() -> None:
    """Log-probabilities, and attention weights, whose sums over a caption the penalty uses."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(AttentionConfig(embedding_dim=8, hidden_dim=8, attention_dim=8, dropout=0.0), 20, 6)
    grid = torch.randn(2, 9, 6)
    captions = pack_captions([[[4, 5, 6]], [[7, 8]]])
    with autocast("bfloat16", CPU):
        answer = decoder(ImageFeatures(grid.mean(1), grid), captions)
        penalty = doubly_stochastic_penalty(answer.attention, captions)
        loss = memory_efficient_cross_entropy(answer.logits, captions.targets, 0.1)
        step = decoder.step(torch.tensor([1, 1]), decoder.init_state(ImageFeatures(grid.mean(1), grid)))
    assert answer.logits.dtype == torch.bfloat16
    assert {answer.attention.dtype, step.attention.dtype, penalty.dtype, loss.dtype} == {torch.float32}
    torch.testing.assert_close(answer.attention.sum(1), torch.ones(7), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("is_faster", [True, False])
def test_a_cpu_on_which_rounding_is_not_faster_computes_as_without_the_setting(
    is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "is_faster_when_rounded", lambda setting: is_faster)
    with float32_matmul_precision("medium", torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == ("medium" if is_faster else "highest")
    with float32_matmul_precision("medium", torch.device("meta")):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_cpu_without_the_instructions_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda: False)
    is_faster_when_rounded.cache_clear()
    assert not is_faster_when_rounded("medium")
    is_faster_when_rounded.cache_clear()


def test_the_trial_leaves_the_setting_as_it_was() -> None:
    is_faster_when_rounded.cache_clear()
    assert is_faster_when_rounded("medium") in {True, False}
    assert not is_faster_when_rounded("medium") or has_bfloat16_units()
    assert torch.get_float32_matmul_precision() == "highest"
