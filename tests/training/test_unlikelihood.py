"""The unlikelihood of repeated words against its equation, by loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import ObjectiveConfig
from captioner.nn.packing import PackedCaptions, pack_captions, unpack
from captioner.nn.types import DecoderOutput, ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.losses import BatchTotals, captioning_losses
from captioner.training.unlikelihood import negative_candidates, unlikelihood

V = 8
CAPTIONS = st.lists(
    st.lists(st.lists(st.integers(3, V - 1), max_size=6), min_size=1, max_size=3), min_size=1, max_size=3
)


def logits_of(packed: PackedCaptions, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (len(packed.targets), V)))


def by_loops(packed: PackedCaptions, logits: torch.Tensor) -> float:
    """−Σ_t Σ_{c ∈ C_t} log(1 − p(c)), C_t = {words read before x_t} without x_t, <START> and <UNK> (id 3)."""
    total = 0.0
    rows = [unpack(part, packed) for part in (packed.inputs, packed.targets, torch.arange(len(packed.targets)))]
    for inputs, targets, places in zip(*rows, strict=True):
        for t, (target, place) in enumerate(zip(targets, places, strict=True)):
            candidates = {word for word in inputs[: t + 1] if word > 3} - {target}
            row = logits[place].detach().numpy()
            p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
            for candidate in candidates:
                total -= np.log(1 - p[candidate])
    return total


@given(captions=CAPTIONS, seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_it_is_its_equation(captions: list[list[list[int]]], seed: int) -> None:
    packed = pack_captions(captions)
    logits = logits_of(packed, seed=seed)
    assert float(unlikelihood(logits, packed)) == pytest.approx(by_loops(packed, logits), rel=1e-8)


def test_the_words_read_are_the_candidates_not_the_references() -> None:
    packed = pack_captions([[[4, 5, 4]]])
    own = packed._replace(inputs=torch.tensor([SPECIAL_TOKENS.start, 6, 3, 6]))
    tokens, words = negative_candidates(own)  # targets 4, 5, 4, <END>; 6 is read before the second and later ones
    assert sorted(zip(tokens.tolist(), words.tolist(), strict=True)) == [(1, 6), (2, 6), (3, 6)]


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_gradient_by_finite_differences(scale: float) -> None:
    packed = pack_captions([[[4, 5, 4, 6], [7, 7]], [[5, 6, 5, 6]]])
    logits = logits_of(packed, scale).requires_grad_()
    unlikelihood(logits, packed).backward()
    assert logits.grad is not None
    for place in [int(i) for i in logits.grad.abs().flatten().argsort(descending=True)[:20]]:
        values = []
        for step in (1e-6, -1e-6):
            moved = logits.detach().clone()
            moved.view(-1)[place] += step
            values.append(float(unlikelihood(moved, packed)))
        assert float(logits.grad.flatten()[place]) == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_word_that_is_certain_has_a_finite_loss_and_gradient(kind: torch.dtype) -> None:
    """Where p rounds to 1: the other V − 1 words are alike, so 1 − p is (V − 1) exp(−60) × p."""
    packed = pack_captions([[[4]]])  # <END> is predicted after 4, the only candidate
    logits = torch.zeros(2, V, dtype=kind)
    logits[1, 4] = 60.0
    logits.requires_grad_()
    loss = unlikelihood(logits, packed)
    assert float(loss.detach()) == pytest.approx(60 - np.log(V - 1), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    expected = [-1 / (V - 1)] * V
    expected[4] = 1.0
    assert logits.grad[1].tolist() == pytest.approx(expected, rel=1e-2)
    assert logits.grad[0].abs().sum() == 0


def test_it_is_added_to_the_loss_as_a_mean_per_token() -> None:
    packed = pack_captions([[[4, 5, 4, 6]]])
    logits = logits_of(packed)
    model = lambda features, captions: DecoderOutput(logits)  # noqa: E731
    features = ImageFeatures(torch.zeros(1, 1))
    plain, penalized = (
        captioning_losses(
            model,  # type: ignore[arg-type]
            features,
            packed,
            label_smoothing=0.1,
            totals=BatchTotals(words=10, captions=2, images=2),
            objective=ObjectiveConfig(unlikelihood=weight),
        )
        for weight in (0.0, 0.5)
    )
    assert plain.keys() == {"loss", "words"}
    assert float(penalized["unlikelihood"]) == pytest.approx(by_loops(packed, logits) / 10)
    assert float(penalized["loss"]) == pytest.approx(float(plain["loss"]) + 0.5 * by_loops(packed, logits) / 10)
