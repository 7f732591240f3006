"""Sampling: every word drawn from the model's distribution, sharpened or cut as the settings say."""

from __future__ import annotations

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
from captioner.nn.types import ImageFeatures, repeat_rows, select_images
from captioner.text.vocabulary import SpecialTokens

NUCLEUS = 256  # words that nearly always hold top_p: to sort all V takes longer than the decoder's step


def sample(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    image_ids: Sequence[int | str] | None = None,
) -> list[Hypothesis]:
    """One hypothesis an image, each word drawn from softmax(logits / temperature) over the allowed words.

    `top_k` keeps the k most probable words; `top_p` then keeps the smallest set of most probable words that
    has at least this probability (Holtzman et al. 2020, section 3.1), counted among what `top_k` left.

    What an image draws depends on `seed` and on its id alone, so not on the batch it is in, on its place there
    or on the device. Without `image_ids` (one an image, of any kind) its place in this call is its id.
    """
    count = features.vector.shape[0]
    ids = range(count) if image_ids is None else image_ids
    if len(ids) != count:
        raise ValueError(f"{len(ids)} image_ids were given for {count} images")
    draws = uniform_samples(config.seed, ids, config.max_length + 1).to(features.vector.device)

    def choose(logits: Float[Tensor, "N V"], images: list[int], length: int) -> Int[Tensor, " N"]:
        scaled = logits / config.temperature
        if config.top_k:
            scaled = keep_top_k(scaled, config.top_k)
        if config.top_p < 1:
            scaled = keep_top_p(scaled, config.top_p)
        return sample_from_logits(scaled, draws[images, length])

    return run_decoding_loop(decoder, features, config, special, choose)


class SampledCaption(NamedTuple):
    """One caption drawn at training time: its words, and whether it reached <END> or was cut at `max_length`."""

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
    """`count` captions of every image, drawn from the model's own distribution, for training with a reward.

    The rows of an image stand side by side and share what is computed once an image, so a row that has said <END>
    stays until all of its image's have: cheaper than `count` times the images, which is how `sample` would do it.
    What an image draws depends on `seed` and on its id alone.
    """
    device, config = features.vector.device, DecodeConfig(name="sample", max_length=max_length)
    ids = [f"{image_id} {slot}" for image_id in image_ids for slot in range(count)]
    draws = uniform_samples(seed, ids, max_length + 1).to(device)
    said = torch.full((len(ids), max_length + 1), special.end, device=device)
    state = repeat_rows(decoder.init_state(features), count)
    rows = torch.arange(len(ids), device=device)  # of `said`: those whose images are still at work
    tokens = torch.full_like(rows, special.start)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    for length in range(max_length + 1):
        logits, state, _ = decoder.step(tokens, state)
        logits = at_least_float32(logits)
        mask_forbidden_tokens(
            logits, [PartialHypothesis()], config, special
        )  # no rule of this config asks what was said before
        tokens = sample_from_logits(logits, draws[rows, length]).masked_fill(ended, special.end)
        said[rows, length] = tokens
        ended = ended | (tokens == special.end)
        at_work = ~ended.view(-1, count).all(dim=1)
        images = at_work.nonzero().squeeze(1)
        if not len(images):
            break
        if len(images) < len(at_work):
            stay = at_work.repeat_interleave(count).nonzero().squeeze(1)
            state = select_images(state, images, stay)
            rows, tokens, ended = rows[stay], tokens[stay], ended[stay]
    drawn = [_until_end(words, special.end) for words in said.tolist()]
    return [drawn[first : first + count] for first in range(0, len(drawn), count)]


def _until_end(words: list[int], end: int) -> SampledCaption:
    """The last place is <END>'s alone: another word there means that the caption was cut."""
    return (
        SampledCaption(tuple(words[: words.index(end)]), True)
        if end in words
        else SampledCaption((*words[:-1],), False)
    )


def uniform_samples(seed: int, image_ids: Sequence[int | str], count: int) -> Float[Tensor, "B T"]:
    """`count` numbers in [0, 1) for each image, from a generator of its own on the CPU."""
    rows = []
    for image_id in image_ids:
        digest = blake2b(f"{seed} {image_id}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        rows.append(torch.rand(count, generator=generator, dtype=torch.float32))
    return torch.stack(rows) if rows else torch.empty(0, count)


def image_seeds(seed: int, image_ids: Sequence[int | str]) -> Int[Tensor, " B"]:
    """For a decoder that draws by lot where to look: a number for each image, from `seed` and its id alone."""
    digests = (blake2b(f"attention {seed} {image_id}".encode(), digest_size=8).digest() for image_id in image_ids)
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


def keep_top_k(logits: Float[Tensor, "N V"], k: int) -> Float[Tensor, "N V"]:
    """All but the k highest of each row at -inf; of equal ones the lowest numbers stay."""
    values, words = top_tokens(logits, k)
    return torch.full_like(logits, MASKED).scatter_(1, words, values)


def keep_top_p(logits: Float[Tensor, "N V"], p: float) -> Float[Tensor, "N V"]:
    """All but the nucleus at -inf: the fewest of the most probable words whose probabilities sum to p or more."""
    values, words = top_tokens(logits, NUCLEUS)
    total = logits.logsumexp(dim=1, keepdim=True)
    if bool(((values - total).exp().sum(dim=1) < p).any()):
        values, words = logits.sort(dim=1, descending=True, stable=True)
    up_to = (values - total).exp().cumsum(dim=1)
    enough_before = F.pad(up_to[:, :-1], (1, 0)) >= p
    return torch.full_like(logits, MASKED).scatter_(1, words, values.masked_fill(enough_before, MASKED))


def sample_from_logits(logits: Float[Tensor, "N V"], uniform: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The word at which the cumulative softmax passes `uniform`, which is below 1: one number a row decides."""
    cumulative = logits.softmax(dim=1).cumsum(dim=1)
    threshold = uniform * cumulative[:, -1]  # below the total also when rounded, so that some word passes it
    words = torch.searchsorted(cumulative, threshold[:, None], right=True).squeeze(1)
    return words.clamp(max=logits.shape[1] - 1)  # a row without any possible word gives NaN, which nothing passes
