"""The gradient estimate of hard attention, on a problem small enough to enumerate all sampled locations.

Its mean over all sequences of locations, weighted by their probabilities, is exactly the gradient of the bound.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captioner.config import AttentionConfig
from captioner.nn.decoders import hard_attention
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from captioner.training.losses import BatchTotals, captioning_losses
from tests.nn.equations import attention_logits, finite_difference_gradient

V, D, P = 7, 4, 2
CAPTIONS = [[[4, 5], []], [[5]]]  # with <END> 3 + 1 + 2 words: 2**6 sequences of locations
CONFIG = AttentionConfig(
    embedding_dim=3, hidden_dim=4, attention_dim=3, dropout=0.0, attention="hard", gate="none", doubly_stochastic=0.0,
    hard_expected_share=0.0, hard_entropy=0.0,
)  # fmt: skip
SMOOTHING = 0.1


def make(config: AttentionConfig = CONFIG) -> tuple[Any, ImageFeatures, PackedCaptions]:
    torch.manual_seed(2)
    decoder = build_decoder(config, V, D).double().train()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    grid = torch.randn(len(CAPTIONS), P, D, dtype=torch.float64)
    return decoder, ImageFeatures(grid.mean(1), grid), pack_captions(CAPTIONS)


def force_locations(monkeypatch: pytest.MonkeyPatch, locations: tuple[int, ...]) -> None:
    """Make the decoder sample these locations, token by token in packed order."""
    left = list(locations)

    def sample(weights: Tensor, numbers: Tensor) -> Tensor:
        return torch.tensor([left.pop(0) for _ in range(len(weights))])

    monkeypatch.setattr(hard_attention, "sample_locations", sample)


def losses(decoder: Any, features: ImageFeatures, packed: PackedCaptions, **options: Any) -> dict[str, Tensor]:
    return captioning_losses(decoder, features, packed, label_smoothing=SMOOTHING, **options)


def gradient(decoder: Any, loss: Tensor) -> Tensor:
    """The gradient of all parameters as one vector, 0 for those that the loss does not depend on."""
    parameters = list(decoder.parameters())
    parts = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([
        (torch.zeros_like(p) if part is None else part).flatten() for p, part in zip(parameters, parts, strict=True)
    ])  # fmt: skip


@functools.cache
def estimates(baseline: float) -> tuple[Tensor, Tensor, Tensor]:
    """The probability (S,) and the estimate (S, parameters) of every sequence, and the gradient of the bound."""
    decoder, features, packed = make()
    decoder.hard.baseline.fill_(baseline)
    probabilities, found, bound = [], [], torch.zeros((), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        for locations in itertools.product(range(P), repeat=len(packed.targets)):
            force_locations(patch, locations)
            loss = losses(decoder, features, packed)["loss"]
            force_locations(patch, locations)
            answer = decoder(features, packed)
            probability = answer.sampled_attention.log_probs.sum().exp()
            cost = torch.nn.functional.cross_entropy(answer.logits, packed.targets, label_smoothing=SMOOTHING)
            bound = bound + probability * cost
            probabilities.append(probability.detach())
            found.append(gradient(decoder, loss))
    return torch.stack(probabilities), torch.stack(found), gradient(decoder, bound)


@pytest.mark.parametrize("baseline", [0.0, 1.9])
def test_the_mean_of_the_estimates_is_the_gradient_of_the_bound(baseline: float) -> None:
    probabilities, found, exact = estimates(baseline)
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(exact.abs().max()) > 0.1
    torch.testing.assert_close(probabilities @ found, exact, atol=1e-12, rtol=1e-9)


def test_without_the_second_term_the_mean_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: autograd alone does not give the gradient of the bound."""
    monkeypatch.setattr("captioner.training.losses.reinforce_term", lambda *_: 0.0)
    probabilities, found, exact = estimates.__wrapped__(0.0)
    assert float((probabilities @ found - exact).abs().max()) > 1e-3


def test_a_baseline_near_the_cost_lowers_the_variance() -> None:
    """Σ_s p(s) |g(s) − ḡ|², exactly, without a baseline and with the average cost of a token."""
    spread = {}
    for baseline in (0.0, 2.0):
        probabilities, found, exact = estimates(baseline)
        spread[baseline] = float(probabilities @ ((found - exact) ** 2).sum(1))
    assert spread[2.0] < 0.4 * spread[0.0]


def test_the_bound_is_that_of_the_equations() -> None:
    """Its gradient from the equations in NumPy, summed over each caption's sequences, by finite differences."""
    decoder, features, packed = make()
    _, _, exact = estimates(0.0)

    def bound() -> Tensor:
        total = 0.0
        for image, own in enumerate(CAPTIONS):
            for caption in own:
                said = [*caption, 2]
                for locations in itertools.product(range(P), repeat=len(said)):
                    grid, words = features.grid[image].numpy(), [1, *caption]
                    logits, looked = attention_logits(decoder, CONFIG, grid, words, list(locations))
                    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
                    wanted = (1 - SMOOTHING) * np.eye(V)[said] + SMOOTHING / V
                    probability = np.prod([alpha[cell] for alpha, cell in zip(looked, locations, strict=True)])
                    total += probability * float(-(wanted * log_p).sum())
        return torch.tensor(total / len(packed.targets), dtype=torch.float64)

    start = 0
    for name, parameter in decoder.named_parameters():
        own = exact[start : start + parameter.numel()]
        index = int(own.abs().argmax())
        assert float(own[index]) == pytest.approx(finite_difference_gradient(bound, parameter, index), abs=1e-7), name
        start += parameter.numel()


def test_the_reinforce_term_does_not_change_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, features, packed = make()
    force_locations(monkeypatch, (0, 1, 0, 1, 0, 1))
    found = losses(decoder, features, packed)
    assert float(found["loss"].detach()) == pytest.approx(float(found["words"]), abs=1e-12)
    assert found.keys() == {"loss", "words", "entropy"}


def test_in_expectation_the_gradient_is_that_of_soft_attention() -> None:
    """With `hard_expected_share=1` there is no REINFORCE term."""
    soft = AttentionConfig(**{**vars(CONFIG), "attention": "soft"})
    hard = AttentionConfig(**{**vars(CONFIG), "hard_expected_share": 1.0})
    (one, features, packed), (other, _, _) = make(soft), make(hard)
    gradients = [gradient(decoder, losses(decoder, features, packed)["loss"]) for decoder in (one, other)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-9)


def test_micro_batches_add_up_to_the_batch() -> None:
    """Micro-batches, and the parts of several processes, share one baseline and the totals of the whole step."""
    config = AttentionConfig(**{**vars(CONFIG), "hard_entropy": 0.1, "hard_at_test": "sample"})
    decoder, features, packed = make(config)
    decoder.eval()  # samples by the seeds of the images, which do not depend on micro-batches
    features = features._replace(seeds=torch.tensor([3, 4]))
    whole = losses(decoder, features, packed)["loss"]
    parts = [
        losses(decoder, features.images(lambda t, i=i: t[i : i + 1]), pack_captions(CAPTIONS[i : i + 1]),
               totals=BatchTotals.of(CAPTIONS))["loss"]
        for i in range(len(CAPTIONS))
    ]  # fmt: skip
    assert float(sum(parts).detach()) == pytest.approx(float(whole.detach()), abs=1e-12)
    torch.testing.assert_close(sum(gradient(decoder, part) for part in parts), gradient(decoder, whole))
