"""Hard attention: one cell of the grid at each word, drawn by lot (Xu et al. 2015, section 4.1).

    s_t ~ Multinoulli(α_t),   z_t = a_{s_t}                                           eq. 8 and 9
    L   = Σ_s p(s | a) log p(y | s, a)  ≤  log p(y | a)                               eq. 10

A cell that was drawn has no gradient, so L's is estimated, with λ_r the weight of what is learnt from luck:

    ∂L ≈ ∂ log p(y | s̃, a) + λ_r (log p(y | s̃, a) − b) ∂ log p(s̃ | a) + λ_e ∂H[s̃]    the equation that ends section 4.1
    b_k = 0.9 b_{k−1} + 0.1 log p(y | s̃_k, a)

and, to lower the variance further, an image is given its expected context Σ_i α_ti a_i instead with probability 0.5.

Where this differs: b is a mean a word, times a caption's words, because the paper's batches hold captions of one length
and ours of many. It starts where training does, at −log V a word, that of a network that knows nothing. Drawing is done
here; `engine.reinforce` puts the estimate together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from captioner.config import AttentionConfig
from captioner.nn.layers.attention import attention_weights
from captioner.nn.layers.counter_rng import uniform
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import ImageFeatures, SampledAttention

_KEPT = 0.9  # of the baseline at each optimizer step


class HardAttention(nn.Module):
    """What a decoder that looks at one cell needs besides its energies. It learns nothing of its own.

    baseline: a buffer, so that checkpoints keep it: what a word has cost of late, in nats (−b). It moves once an
    optimizer step, by the mean over the whole step, so that portions and processes agree on it.
    """

    baseline: Tensor

    def __init__(self, config: AttentionConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.reinforce, self.entropy = config.hard_reinforce, config.hard_entropy
        self.expected_share = config.hard_expected_share
        self.at_test = config.hard_at_test
        self.register_buffer("baseline", torch.tensor(math.log(vocabulary_size)))

    def update_baseline(self, cost: float) -> None:
        """Move the baseline after an optimizer step whose words cost so many nats each."""
        self.baseline.mul_(_KEPT).add_((1 - _KEPT) * cost)

    def sampler(self, features: ImageFeatures, captions: PackedCaptions) -> AttentionSampler:
        """What decides where a batch of captions looks: torch's random numbers in training, the images' own at test.

        An image is looked at by expectation for all of its captions, or for none.
        """
        count, device = len(features.vector), features.vector.device
        if self.training:
            by_expectation = torch.rand(count, device=device) < self.expected_share
            numbers = torch.rand(len(captions.targets), device=device)
        else:
            by_expectation = torch.full((count,), self.at_test == "expected", device=device)
            seeds = seeds_of(features).index_select(0, captions.images)
            steps = enumerate(captions.batch_sizes)
            numbers = torch.cat([uniform(seeds[:going], torch.full_like(seeds[:going], step)) for step, going in steps])
        return AttentionSampler(numbers, by_expectation.index_select(0, captions.images), self)


@dataclass
class AttentionSampler:
    """The choices of one batch of captions, made step by step."""

    numbers: Float[Tensor, " M"]
    by_expectation: Bool[Tensor, " N"]
    attention: HardAttention
    log_probs: list[Tensor] = field(default_factory=list)
    entropies: list[Tensor] = field(default_factory=list)

    def sample(self, energies: Float[Tensor, "N P"], step: slice) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N P"]]:
        """α, and the weights of the context: 1 at the cell that was drawn, or α where the expectation is taken."""
        log_weights = torch.log_softmax(energies, dim=1, dtype=torch.promote_types(energies.dtype, torch.float32))
        weights, by_expectation = log_weights.exp(), self.by_expectation[: len(energies)]
        cells = sample_locations(weights.detach(), self.numbers[step])
        log_prob = log_weights.gather(1, cells.unsqueeze(1)).squeeze(1)
        self.log_probs.append(log_prob.masked_fill(by_expectation, 0.0))
        self.entropies.append(-(weights * log_weights).sum())
        return weights, torch.where(by_expectation.unsqueeze(1), weights, one_hot(cells, weights))

    def losses(self) -> tuple[SampledAttention, dict[str, Tensor]]:
        """For the loss: what was drawn, and the entropy, which is to be large."""
        attention = self.attention
        drawn = SampledAttention(torch.cat(self.log_probs), attention.baseline, attention.reinforce)
        return drawn, {"entropy": -attention.entropy * torch.stack(self.entropies).sum()}


def sample_locations(weights: Float[Tensor, "N P"], numbers: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The cell at which the cumulative weights pass a number in [0, 1): cell i with probability α_i."""
    cumulative = weights.cumsum(dim=1)
    threshold = numbers.to(cumulative.dtype) * cumulative[:, -1]  # below the total also when rounded
    cells = torch.searchsorted(cumulative, threshold.unsqueeze(1), right=True).squeeze(1)
    return cells.clamp(max=weights.shape[1] - 1)


def one_hot(cells: Int[Tensor, " N"], like: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """1 at each row's cell, else 0."""
    return torch.zeros_like(like).scatter_(1, cells.unsqueeze(1), 1.0)


def sampled_weights(
    energies: Float[Tensor, "N P"], seeds: Int[Tensor, " N"], counts: Int[Tensor, " N"]
) -> Float[Tensor, "N P"]:
    """While captioning: 1 at a cell drawn for word number `counts` of the image with this seed, else 0."""
    weights = attention_weights(energies)
    return one_hot(sample_locations(weights, uniform(seeds, counts)), weights)


def seeds_of(features: ImageFeatures) -> Int[Tensor, " B"]:
    """The images' own seeds, or, where nobody gave them any, their places in the batch."""
    vector = features.vector
    return torch.arange(len(vector), device=vector.device) if features.seeds is None else features.seeds
