"""One hypothesis per image, token by token: the loop that greedy search and sampling share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.constraints import MASKED, mask_forbidden_tokens, penalize_repetition
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis, check_not_nan
from captioner.decode.repetition import repetition_gain
from captioner.decode.scores import at_least_float32
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.linear import forget_changed_copies
from captioner.nn.types import ImageFeatures, select_images
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens

TokenSelector = Callable[[Float[Tensor, "N V"], list[int], int], Int[Tensor, " N"]]
"""(logits (N, V) with forbidden tokens at -inf, the image of each row, the length so far) → the next tokens (N,)."""


@torch.inference_mode()
def run_decoding_loop(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    select_tokens: TokenSelector,
    phrases: PhraseStatistics | None = None,
) -> list[Hypothesis]:
    """The hypothesis of every image that `select_tokens` builds, up to <END> or `max_length` words.

    After the last word there is one more step, in which only <END> counts: it finishes the caption. If another token is
    selected there, the caption stays as it is, unfinished.
    """
    forget_changed_copies(decoder)
    device = features.vector.device
    images = list(range(features.vector.shape[0]))  # the image of each row; finished ones are removed
    hypotheses = [PartialHypothesis() for _ in images]
    attention: list[Tensor | None] = []
    state = decoder.init_state(features)
    tokens = torch.full((len(images),), special.start, device=device)
    length = 0

    while images:
        logits, state, weights = decoder.step(tokens, state)
        attention.append(weights)
        logits = at_least_float32(logits)
        total = logits.logsumexp(dim=1)  # the model's own normalizer, before tokens are masked
        mask_forbidden_tokens(logits, [hypotheses[image] for image in images], config, special, phrases)
        penalized = penalize_repetition(logits, total, [hypotheses[image] for image in images], config)
        tokens = select_tokens(penalized, images, length)
        log_probs = logits.gather(1, tokens[:, None]).squeeze(1) - total

        active = []
        for row, (image, token, log_prob) in enumerate(zip(images, tokens.tolist(), log_probs.tolist(), strict=True)):
            check_not_nan(log_prob, image, length)
            if log_prob == MASKED:  # no allowed token has a probability: the caption stays unfinished
                continue
            if token == special.end:
                hypotheses[image] = hypotheses[image].end(log_prob)
            elif length < config.max_length:
                repetition = repetition_gain(token, log_prob, hypotheses[image].tokens, config)
                hypotheses[image] = hypotheses[image].append(token, log_prob, row, repetition=repetition)
                active.append(row)
        if 0 < len(active) < len(images):
            rows = torch.tensor(active, device=device)
            state, tokens = select_images(state, rows, rows), tokens[rows]
        images = [images[row] for row in active]
        length += 1
    return [hypothesis.complete(attention, config.length_penalty, _stack) for hypothesis in hypotheses]


def _stack(weights: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(weights))
