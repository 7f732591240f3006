"""Sampling: each token is sampled from the model's distribution, with a temperature and truncation if set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from captioner.config import DecodeConfig
from captioner.decode.constraints import MASKED, mask_forbidden_tokens
from captioner.decode.decoding_loop import run_decoding_loop
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis
from captioner.decode.scores import at_least_float32, top_tokens
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.linear import forget_changed_copies
from captioner.nn.types import ImageFeatures, repeat_rows, select_images
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens

LOW_TEMPERATURE = 1e-3  # below it, logits / temperature could overflow float32
FLOAT32_TINY = 1e-30  # two float32 logits that differ, divided by it, differ by more than any probability can show
NUCLEUS_CANDIDATES = 256  # tokens that nearly always contain top_p; sorting all V takes longer than the decoder's step


def sample(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    image_ids: Sequence[int | str] | None = None,
    phrases: PhraseStatistics | None = None,
) -> list[Hypothesis]:
    """One hypothesis per image, each token sampled from softmax(logits / temperature) over the allowed tokens.

    `top_k` keeps the k most probable tokens; of these, `top_p` keeps the smallest set of most probable tokens with at
    least this probability (Holtzman et al. 2020, section 3.1), `min_p` those with at least this share of the highest
    probability (Nguyen et al. 2025), and `typical_p` the most typical (Meister et al. 2023), in this order.

    The samples of an image depend only on `seed` and its id, not on its batch, its position there or the device.
    `image_ids`: one per image; None: its position in this call. ValueError for another number of ids.
    """
    count = features.vector.shape[0]
    ids = range(count) if image_ids is None else image_ids
    if len(ids) != count:
        raise ValueError(f"{len(ids)} image_ids were given for {count} images")
    uniform = uniform_samples(config.seed, ids, config.max_length + 1).to(features.vector.device)

    def select_tokens(logits: Float[Tensor, "N V"], images: list[int], length: int) -> Int[Tensor, " N"]:
        scaled = with_temperature(logits, config.temperature)
        if config.top_k:
            scaled = keep_top_k(scaled, config.top_k)
        if config.top_p < 1:
            scaled = keep_top_p(scaled, config.top_p)
        if config.min_p:
            scaled = keep_min_p(scaled, config.min_p)
        if config.typical_p < 1:
            scaled = keep_typical(scaled, config.typical_p)
        return sample_from_logits(scaled, uniform[images, length])

    return run_decoding_loop(decoder, features, config, special, select_tokens, phrases)


class SampledCaption(NamedTuple):
    """A caption sampled during training: its token ids, and whether it reached <END> or was cut at `max_length`."""

    tokens: tuple[int, ...]
    finished: bool


@torch.inference_mode()
def sample_captions(
    decoder: Decoder[Any],
    features: ImageFeatures,
    special: SpecialTokens,
    *,
    count: int,
    max_length: int,
    seed: int,
    image_ids: Sequence[int | str],
) -> list[list[SampledCaption]]:
    """`count` captions per image, sampled from the model's own distribution, for self-critical training.

    The rows of an image are adjacent and share what is computed once per image. A row that has reached <END> therefore
    stays until all rows of its image have; this is faster than `sample` with `count` copies of the images. The samples
    of an image depend only on `seed` and its id.
    """
    forget_changed_copies(decoder)
    device, config = features.vector.device, DecodeConfig(name="sample", max_length=max_length)
    ids = [f"{image_id} {index}" for image_id in image_ids for index in range(count)]
    uniform = uniform_samples(seed, ids, max_length + 1).to(device)
    sampled = torch.full((len(ids), max_length + 1), special.end, device=device)
    state = repeat_rows(decoder.init_state(features), count)
    rows = torch.arange(len(ids), device=device)  # the rows of `sampled` whose images are active
    tokens = torch.full_like(rows, special.start)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    for length in range(max_length + 1):
        logits, state, _ = decoder.step(tokens, state)
        logits = at_least_float32(logits)
        # No constraint of this config depends on the tokens so far, so one empty hypothesis stands for all.
        mask_forbidden_tokens(logits, [PartialHypothesis()], config, special)
        tokens = sample_from_logits(logits, uniform[rows, length]).masked_fill(ended, special.end)
        sampled[rows, length] = tokens
        ended = ended | (tokens == special.end)
        is_active = ~ended.view(-1, count).all(dim=1)
        images = is_active.nonzero().squeeze(1)
        if not len(images):
            break
        if len(images) < len(is_active):
            active_rows = is_active.repeat_interleave(count).nonzero().squeeze(1)
            state = select_images(state, images, active_rows)
            rows, tokens, ended = rows[active_rows], tokens[active_rows], ended[active_rows]
    captions = [_until_end(tokens_of_row, special.end) for tokens_of_row in sampled.tolist()]
    return [captions[first : first + count] for first in range(0, len(captions), count)]


def _until_end(tokens: list[int], end: int) -> SampledCaption:
    """The tokens before <END>. Only <END> counts at the last position: another token there means a cut caption."""
    if end in tokens:
        return SampledCaption(tuple(tokens[: tokens.index(end)]), True)
    return SampledCaption(tuple(tokens[:-1]), False)


def uniform_samples(seed: int, image_ids: Sequence[int | str], count: int) -> Float[Tensor, "B T"]:
    """`count` random numbers in [0, 1) per image, from a generator of its own on the CPU."""
    rows = []
    for image_id in image_ids:
        digest = blake2b(f"{seed} {image_id}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        rows.append(torch.rand(count, generator=generator, dtype=torch.float32))
    return torch.stack(rows) if rows else torch.empty(0, count)


def image_seeds(seed: int, image_ids: Sequence[int | str]) -> Int[Tensor, " B"]:
    """One seed per image, from `seed` and its id alone, for a decoder that samples where to attend."""
    digests = (blake2b(f"attention {seed} {image_id}".encode(), digest_size=8).digest() for image_id in image_ids)
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


def keep_top_k(logits: Float[Tensor, "N V"], k: int) -> Float[Tensor, "N V"]:
    """The k highest logits of each row, the others at -inf; among equals the lowest token ids are kept."""
    values, tokens = top_tokens(logits, k)
    return torch.full_like(logits, MASKED).scatter_(1, tokens, values)


def keep_top_p(logits: Float[Tensor, "N V"], p: float) -> Float[Tensor, "N V"]:
    """The logits of the nucleus, the fewest most probable tokens whose probabilities sum to at least p; others -inf."""
    values, tokens = top_tokens(logits, NUCLEUS_CANDIDATES)
    total = logits.logsumexp(dim=1, keepdim=True)
    if bool(((values - total).exp().sum(dim=1) < p).any()):
        values, tokens = logits.sort(dim=1, descending=True, stable=True)
    cumulative = (values - total).exp().cumsum(dim=1)
    is_excluded = F.pad(cumulative[:, :-1], (1, 0)) >= p  # the tokens before have probability p already
    return torch.full_like(logits, MASKED).scatter_(1, tokens, values.masked_fill(is_excluded, MASKED))


def keep_min_p(logits: Float[Tensor, "N V"], share: float) -> Float[Tensor, "N V"]:
    """The logits of the tokens with at least `share` of the most probable token's probability; the others at -inf."""
    return logits.masked_fill(logits < logits.amax(dim=1, keepdim=True) + math.log(share), MASKED)


def keep_typical(logits: Float[Tensor, "N V"], p: float) -> Float[Tensor, "N V"]:
    """Locally typical sampling (Meister et al. 2023, section 4): the logits of the most typical tokens; others -inf.

    A token is the more typical the closer its information -ln p(token) is to the entropy H of the distribution. The
    fewest most typical tokens whose probabilities sum to at least p are kept; among equals the lowest token ids.
    """
    log_probs = logits.log_softmax(dim=1)
    probabilities = log_probs.exp()
    entropy = torch.special.entr(probabilities).sum(dim=1, keepdim=True)  # -Σ p ln p, where 0 ln 0 = 0
    order = (entropy + log_probs).abs().sort(dim=1, stable=True).indices
    cumulative = probabilities.gather(1, order).cumsum(dim=1)
    is_excluded = F.pad(cumulative[:, :-1], (1, 0)) >= p  # the tokens before have probability p already
    return logits.masked_fill(torch.zeros_like(is_excluded).scatter(1, order, is_excluded), MASKED)


def with_temperature(logits: Float[Tensor, "N V"], temperature: float) -> Float[Tensor, "N V"]:
    """logits / temperature, up to a constant per row, without overflow: near 0 the most probable token is left."""
    if LOW_TEMPERATURE <= temperature <= 1 / LOW_TEMPERATURE:
        return logits / temperature
    limited = min(max(temperature, FLOAT32_TINY), 1 / FLOAT32_TINY)
    return (logits - logits.amax(dim=1, keepdim=True)) / limited


def sample_from_logits(logits: Float[Tensor, "N V"], uniform: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """One token id per row: where the cumulative softmax exceeds `uniform`, which is in [0, 1)."""
    cumulative = logits.softmax(dim=1).cumsum(dim=1)
    threshold = uniform * cumulative[:, -1]  # below the total, even after rounding, so that some token exceeds it
    tokens = torch.searchsorted(cumulative, threshold[:, None], right=True).squeeze(1)
    return tokens.clamp(max=logits.shape[1] - 1)  # a row without a possible token is NaN, which nothing exceeds
