"""The losses against their equations in NumPy, with loops over padded arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captioner.nn.layers.doubly_stochastic import doubly_stochastic_loss, doubly_stochastic_penalty
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import AuxiliaryLoss, DecoderOutput, ImageFeatures
from captioner.training.losses import BatchTotals, captioning_losses

V, P, END = 9, 6, 2
CAPTIONS = st.lists(
    st.lists(st.lists(st.integers(3, V - 1), max_size=5), min_size=1, max_size=3), min_size=1, max_size=3
)
FEATURES = ImageFeatures(torch.zeros(1, 1))


class Answer(NamedTuple):
    """Padded: logits (N, T, V), targets (N, T), −1 after the end, attention (N, T, P), zero after the end."""

    logits: np.ndarray
    targets: np.ndarray
    attention: np.ndarray


def random_answer(captions: list[list[list[int]]], seed: int = 0) -> Answer:
    rows = [[*words, END] for own in captions for words in own]
    generator = np.random.default_rng(seed)
    length = max(map(len, rows))
    targets = np.array([row + [-1] * (length - len(row)) for row in rows])
    attention = generator.dirichlet(np.ones(P), size=targets.shape) * (targets >= 0)[:, :, None]
    return Answer(generator.normal(0, 3, (*targets.shape, V)), targets, attention)


def packed(answer: Answer, captions: list[list[list[int]]]) -> tuple[PackedCaptions, DecoderOutput]:
    """The arrays in packed order, as a decoder returns them."""
    layout = pack_captions(captions)
    sources = [(image, slot) for image, own in enumerate(captions) for slot in range(len(own))]
    steps = torch.cat([torch.full((size,), step) for step, size in enumerate(layout.batch_sizes)])
    padded_rows = [sources.index((int(layout.images[row]), int(layout.caption_indices[row]))) for row in layout.rows]
    logits, attention = (
        torch.from_numpy(array[padded_rows, steps.numpy()]) for array in (answer.logits, answer.attention)
    )
    assert layout.targets.tolist() == answer.targets[padded_rows, steps.numpy()].tolist()
    return layout, DecoderOutput(logits, attention)


def losses(
    answer: DecoderOutput,
    layout: PackedCaptions,
    totals: BatchTotals | None = None,
    label_smoothing: float = 0.0,
    doubly_stochastic: float = 0.0,
) -> dict[str, Tensor]:
    """The losses of a model that returns `answer`, with the attention penalty as its auxiliary loss if it attends."""
    if answer.attention is not None:
        penalty = doubly_stochastic_loss(answer.attention, layout, doubly_stochastic)
        answer = answer._replace(losses={**penalty, **answer.losses})
    model: Any = lambda features, captions: answer  # noqa: E731
    return captioning_losses(model, FEATURES, layout, totals=totals, label_smoothing=label_smoothing)


def cross_entropy(answer: Answer, smoothing: float) -> float:
    """−Σ_v q(v) ln p(v), q = (1 − ε)·[v is the target] + ε/V, mean over the targets that are not padding."""
    total, words = 0.0, 0
    for logits, targets in zip(answer.logits, answer.targets, strict=True):
        for row, target in zip(logits, targets, strict=True):
            if target < 0:
                continue
            log_p = row - np.log(np.exp(row - row.max()).sum()) - row.max()
            wanted = np.full(V, smoothing / V)
            wanted[target] += 1 - smoothing
            total -= float(wanted @ log_p)
            words += 1
    return total / words


def penalty(attention: np.ndarray) -> float:
    """Mean over captions and regions of (1 − Σ_t α)²."""
    values = []
    for caption in attention:
        for cell in range(P):
            looked = 0.0
            for step in caption:
                looked += step[cell]
            values.append((1 - looked) ** 2)
    return float(np.mean(values))


@given(captions=CAPTIONS, smoothing=st.sampled_from([0.0, 0.1, 0.9]), weight=st.sampled_from([0.0, 0.5, 1.0]))
@settings(deadline=None, max_examples=40)
def test_losses_are_their_equations(captions: list[list[list[int]]], smoothing: float, weight: float) -> None:
    answer = random_answer(captions)
    layout, given_packed = packed(answer, captions)
    found = losses(given_packed, layout, label_smoothing=smoothing, doubly_stochastic=weight)
    words = cross_entropy(answer, smoothing)
    assert float(found["words"]) == pytest.approx(words, rel=1e-9)
    assert found.keys() == ({"loss", "words", "attention"} if weight else {"loss", "words"})
    expected = words + weight * penalty(answer.attention)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-9)
    if weight:
        assert float(found["attention"]) == pytest.approx(penalty(answer.attention), rel=1e-9)


@given(captions=CAPTIONS, data=st.data())
@settings(deadline=None, max_examples=25)
def test_the_order_of_captions_does_not_matter(captions: list[list[list[int]]], data: st.DataObject) -> None:
    """Captions of an image, and images of a batch, in another order have equal losses."""
    answer = random_answer(captions)
    flat = [words for own in captions for words in own]
    order = data.draw(st.permutations(range(len(flat))))
    one_an_image = [[words] for words in flat]
    shuffled = Answer(*(array[order] for array in answer))
    first = losses(*reversed(packed(answer, one_an_image)), label_smoothing=0.1, doubly_stochastic=1.0)
    grouped = losses(*reversed(packed(answer, captions)), label_smoothing=0.1, doubly_stochastic=1.0)
    second = losses(*reversed(packed(shuffled, [[flat[i]] for i in order])), label_smoothing=0.1, doubly_stochastic=1.0)
    for name, value in first.items():
        assert float(value) == pytest.approx(float(second[name]), rel=1e-9)
        assert float(value) == pytest.approx(float(grouped[name]), rel=1e-9)


@given(captions=CAPTIONS, cut=st.integers(1, 2))
@settings(deadline=None, max_examples=25)
def test_micro_batches_add_up_to_the_batch(captions: list[list[list[int]]], cut: int) -> None:
    """With the totals of the whole batch, the losses of its micro-batches sum to those of the batch."""
    flat = [[words] for own in captions for words in own]
    answer, options = random_answer(flat), {"label_smoothing": 0.1, "doubly_stochastic": 0.5}
    whole = losses(*reversed(packed(answer, flat)), **options)
    sums = dict.fromkeys(whole, 0.0)
    for start, stop in ((0, cut), (cut, len(flat))):
        if flat[start:stop]:
            rows = Answer(*(array[start:stop] for array in answer))
            layout, micro_batch = packed(rows, flat[start:stop])
            for name, value in losses(micro_batch, layout, totals=BatchTotals.of(flat), **options).items():
                sums[name] += float(value)
    assert sums == pytest.approx({name: float(value) for name, value in whole.items()}, rel=1e-9)


def test_attention_that_sums_to_one_per_region_has_no_penalty() -> None:
    layout = pack_captions([[[4] * (P - 1)]])
    assert float(doubly_stochastic_penalty(torch.eye(P), layout)) == 0.0
    looked_at_one = torch.zeros(P, P)
    looked_at_one[:, 0] = 1.0
    assert float(doubly_stochastic_penalty(looked_at_one, layout)) == pytest.approx(((P - 1) ** 2 + (P - 1)) / P)


def test_a_decoder_that_does_not_attend_has_no_penalty() -> None:
    captions = [[[4, 5], [6]]]
    layout, answer = packed(random_answer(captions), captions)
    found = losses(DecoderOutput(answer.logits, None), layout, doubly_stochastic=1.0)
    assert found.keys() == {"loss", "words"}


@pytest.mark.parametrize("totals", [None, BatchTotals(words=10, captions=4, images=3)])
def test_auxiliary_losses_are_added_as_means(totals: BatchTotals | None) -> None:
    captions = [[[4, 5], [6]]]
    layout, answer = packed(random_answer(captions), captions)
    own = torch.tensor(6.0, requires_grad=True)
    words = 5 if totals is None else totals.words
    plain = losses(DecoderOutput(answer.logits), layout, totals)
    found = losses(DecoderOutput(answer.logits, losses={"reconstruction": AuxiliaryLoss(own)}), layout, totals)
    assert found.keys() == {"loss", "words", "reconstruction"}
    assert float(found["reconstruction"]) == pytest.approx(6 / words)
    assert found["loss"].item() == pytest.approx(float(plain["loss"]) + 6 / words)
    found["loss"].backward()
    assert own.grad is not None
    assert float(own.grad) == pytest.approx(1 / words)


def test_only_the_loss_has_a_gradient() -> None:
    captions = [[[4, 5], [6]]]
    layout, answer = packed(random_answer(captions), captions)
    logits, attention = answer.logits.requires_grad_(), answer.attention
    assert attention is not None
    found = losses(DecoderOutput(logits, attention.requires_grad_()), layout, doubly_stochastic=0.5)
    assert [name for name, value in found.items() if value.requires_grad] == ["loss"]
    found["loss"].backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert attention.grad is not None
    assert attention.grad.abs().sum() > 0
