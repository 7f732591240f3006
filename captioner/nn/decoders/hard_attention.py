"""Hard attention: the decoder samples one location per step (Xu et al. 2015, section 4.1).

    s_t ~ Multinoulli(α_t),   z_t = a_{s_t}                                           eq. 8 and 9
    L   = Σ_s p(s | a) log p(y | s, a)  ≤  log p(y | a)                               eq. 10

The choice of a location has no gradient, so that of L is estimated by REINFORCE, with λ_r the weight of its term:

    ∂L ≈ ∂ log p(y | s̃, a) + λ_r (log p(y | s̃, a) − b) ∂ log p(s̃ | a) + λ_e ∂H[s̃]    last equation of section 4.1
    b_k = 0.9 b_{k−1} + 0.1 log p(y | s̃_k, a)

To lower the variance further, the paper gives an image its expected context Σ_i α_ti a_i with probability 0.5.

Deliberate differences: b is a mean per token, multiplied by the number of a caption's tokens, because the paper's
batches contain captions of one length and ours of many. It starts at −log V per token, the value of an untrained
network. Locations are sampled here; `captioner.training.reinforce` computes the REINFORCE term.
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
from captioner.nn.types import AuxiliaryLoss, ImageFeatures, SampledAttention

_BASELINE_DECAY = 0.9  # per optimizer step


class HardAttention(nn.Module):
    """The settings and the baseline of a decoder that samples where to attend. It has no parameters.

    baseline: −b, the exponential moving average of the cost per token in nats; a buffer, so checkpoints store it. It
    is updated once per optimizer step with the mean over the whole step, so micro-batches and ranks share its value.
    """

    baseline: Tensor

    def __init__(self, config: AttentionConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.reinforce, self.entropy = config.hard_reinforce, config.hard_entropy
        self.expected_share = config.hard_expected_share
        self.register_buffer("baseline", torch.tensor(math.log(vocabulary_size)))

    def update_baseline(self, cost: float) -> None:
        """Update the baseline after an optimizer step; `cost`: the step's mean cost per token, in nats."""
        self.baseline.mul_(_BASELINE_DECAY).add_((1 - _BASELINE_DECAY) * cost)

    def sampler(self, features: ImageFeatures, captions: PackedCaptions, at_test: str) -> AttentionSampler:
        """The sampler for a batch of captions.

        In training, torch's generator decides; in eval mode the images' seeds, and `at_test` is "expected" or "sample".
        All captions of an image use the expected context, or none does.
        """
        count, device = len(features.vector), features.vector.device
        if self.training:
            use_expected = torch.rand(count, device=device) < self.expected_share
            random = torch.rand(len(captions.targets), device=device)
        else:
            use_expected = torch.full((count,), at_test == "expected", device=device)
            seeds = seeds_of(features).index_select(0, captions.images)
            steps = enumerate(captions.batch_sizes)
            random = torch.cat([uniform(seeds[:size], torch.full_like(seeds[:size], step)) for step, size in steps])
        return AttentionSampler(random, use_expected.index_select(0, captions.images), self)


@dataclass
class AttentionSampler:
    """Samples the locations of one batch of captions, step by step.

    random: (M,), one number in [0, 1) per token; use_expected: (N,), the rows that use the expected context.
    """

    random: Float[Tensor, " M"]
    use_expected: Bool[Tensor, " N"]
    attention: HardAttention
    log_probs: list[Tensor] = field(default_factory=list)
    entropies: list[Tensor] = field(default_factory=list)

    def sample(self, energies: Float[Tensor, "N P"], step: slice) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N P"]]:
        """The weights α of this step, and those of the context: one-hot at the sampled location, or α if expected.

        `step`: the positions of the step's tokens in the packed order.
        """
        log_weights = torch.log_softmax(energies, dim=1, dtype=torch.promote_types(energies.dtype, torch.float32))
        weights, use_expected = log_weights.exp(), self.use_expected[: len(energies)]
        locations = sample_locations(weights.detach(), self.random[step])
        log_prob = log_weights.gather(1, locations.unsqueeze(1)).squeeze(1)
        self.log_probs.append(log_prob.masked_fill(use_expected, 0.0))
        self.entropies.append(-(weights * log_weights).sum())
        return weights, torch.where(use_expected.unsqueeze(1), weights, one_hot(locations, weights))

    def losses(self) -> tuple[SampledAttention, dict[str, AuxiliaryLoss]]:
        """After the last step: what REINFORCE needs, and the negative weighted entropy as the loss "entropy"."""
        attention = self.attention
        sampled = SampledAttention(torch.cat(self.log_probs), attention.baseline, attention.reinforce)
        return sampled, {"entropy": AuxiliaryLoss(-attention.entropy * torch.stack(self.entropies).sum())}


def sample_locations(weights: Float[Tensor, "N P"], random: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Location i with probability α_i: the one where the cumulative weights exceed `random`, which is in [0, 1)."""
    cumulative = weights.cumsum(dim=1)
    threshold = random.to(cumulative.dtype) * cumulative[:, -1]  # below the total, even after rounding
    locations = torch.searchsorted(cumulative, threshold.unsqueeze(1), right=True).squeeze(1)
    return locations.clamp(max=weights.shape[1] - 1)


def one_hot(locations: Int[Tensor, " N"], like: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """1 at each row's location, 0 elsewhere."""
    return torch.zeros_like(like).scatter_(1, locations.unsqueeze(1), 1.0)


def sampled_weights(
    energies: Float[Tensor, "N P"], seeds: Int[Tensor, " N"], counts: Int[Tensor, " N"]
) -> Float[Tensor, "N P"]:
    """In decoding: one-hot at the location sampled for token number `counts` of the image with this seed."""
    weights = attention_weights(energies)
    return one_hot(sample_locations(weights, uniform(seeds, counts)), weights)


def seeds_of(features: ImageFeatures) -> Int[Tensor, " B"]:
    """The images' seeds; where there are none, their positions in the batch."""
    vector = features.vector
    return torch.arange(len(vector), device=vector.device) if features.seeds is None else features.seeds
