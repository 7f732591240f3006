"""The log-probability of given captions under a model, token by token (teacher forcing).

    log p(caption | image) = Σ_t log p(token_t | tokens before, image),   <END> included

each under the model's own softmax over the whole vocabulary: no temperature, no mask, no length penalty. A search gives
a finished hypothesis the same log-probability. A decoder that samples where to attend gives log p(caption | locations),
with the locations that the images' seeds determine, as in a search; with the expected context it samples nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.decode.hypothesis import check_not_nan
from captioner.decode.scores import at_least_float32, log_sum_exp
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures

LOGITS_PER_PASS = 2**24  # 64 MiB in float32
CAPTIONS_PER_PASS = 256  # a decoder with attention copies an image's regions for each of its captions


class TokenLogProbs(NamedTuple):
    """The T tokens of a caption and <END>, under the model.

    log_probs: (T + 1,) natural logarithms, float64, on the CPU. ranks: (T + 1,) the number of tokens of the vocabulary
    that the model finds more probable at this place, plus 1; None where they were not asked for.
    """

    log_probs: Float[Tensor, " T_and_1"]
    ranks: Int[Tensor, " T_and_1"] | None

    @property
    def total(self) -> float:
        """The log-probability of the caption, in nats."""
        return float(self.log_probs.sum())


def token_log_probs(
    decoder: Decoder[Any],
    features: ImageFeatures,
    captions: Sequence[Sequence[Sequence[int]]],
    vocabulary_size: int,
    *,
    with_ranks: bool = False,
) -> Iterator[tuple[int, int, TokenLogProbs]]:
    """(image, index of the caption, its tokens' log-probabilities) for every caption of B images, in order.

    decoder: in eval mode. features: of the B images; `captions[b]`: those of image b as token ids, without <START> and
    <END>. Memory does not grow with the number of captions: they are scored in passes of bounded size.
    Raises CaptionerError where a log-probability is not a number.
    """
    for part in _passes(captions, max(1, LOGITS_PER_PASS // vocabulary_size)):
        images = sorted({image for image, _ in part})
        of_image: list[list[Sequence[int]]] = [[] for _ in images]
        places = {image: row for row, image in enumerate(images)}
        for image, index in part:
            of_image[places[image]].append(captions[image][index])
        scored = _score_pass(decoder, _select(features, images), of_image, with_ranks)
        for (image, index), tokens in zip(part, scored, strict=True):
            check_not_nan(tokens.total, image, 0)
            yield image, index, tokens


def _passes(captions: Sequence[Sequence[Sequence[int]]], max_tokens: int) -> Iterator[list[tuple[int, int]]]:
    """(image, index) of all captions, in order, in parts of at most `max_tokens` tokens or of one caption."""
    part: list[tuple[int, int]] = []
    tokens = 0
    for image, of_image in enumerate(captions):
        for index, caption in enumerate(of_image):
            length = len(caption) + 1
            if part and (tokens + length > max_tokens or len(part) == CAPTIONS_PER_PASS):
                yield part
                part, tokens = [], 0
            part.append((image, index))
            tokens += length
    if part:
        yield part


@torch.inference_mode()
def _score_pass(
    decoder: Decoder[Any], features: ImageFeatures, captions: Sequence[Sequence[Sequence[int]]], with_ranks: bool
) -> list[TokenLogProbs]:
    """The log-probabilities of all captions, image by image."""
    packed = pack_captions(captions).to(features.vector.device)
    logits = at_least_float32(decoder(features, packed).logits)  # (M, V)
    of_target = logits.gather(1, packed.targets.unsqueeze(1))
    log_probs = (of_target - log_sum_exp(logits)).squeeze(1).cpu().double()
    ranks = (logits > of_target).sum(dim=1).cpu() + 1 if with_ranks else None
    rows = packed.rows.cpu()
    by_row = rows.argsort(stable=True)  # tokens caption by caption, each in the order of its tokens
    lengths = torch.bincount(rows, minlength=len(packed.images)).tolist()
    split = torch.split(log_probs[by_row], lengths)
    split_ranks = [None] * len(lengths) if ranks is None else torch.split(ranks[by_row], lengths)
    places = zip(packed.images.tolist(), packed.caption_indices.tolist(), strict=True)
    found = {place: TokenLogProbs(log, rank) for place, log, rank in zip(places, split, split_ranks, strict=True)}
    return [found[image, index] for image, of_image in enumerate(captions) for index in range(len(of_image))]


def _select(features: ImageFeatures, images: Sequence[int]) -> ImageFeatures:
    """The features of these images, in this order."""
    if len(images) == len(features.vector):
        return features
    rows = torch.tensor(images, device=features.vector.device)
    if features.seeds is None:  # each image's position in the batch is its seed
        features = features._replace(seeds=torch.arange(len(features.vector), device=rows.device))
    return features.images(lambda part: part.index_select(0, rows))
