"""Greedy search of one image that reads a quarter of the vocabulary matrix; the result is that of `decoding_loop`.

Each word is found by screening (`captioner.nn.layers.word_screen`). The log-probabilities, which need all logits, are
computed at the end: one product for all words of the caption instead of one each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.config import DecodeConfig
from captioner.decode.forbidden_tokens import forbidden_next, never_allowed
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis, check_not_nan
from captioner.decode.scores import log_sum_exp
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.linear import forget_changed_copies
from captioner.nn.layers.output import WordOutput, without_words
from captioner.nn.layers.word_screen import can_screen, most_probable_word
from captioner.nn.types import ImageFeatures
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens

_WORDS_AT_A_TIME = 32  # whose logits are computed together


@torch.inference_mode()
def screened_greedy(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    phrases: PhraseStatistics | None = None,
) -> Hypothesis | None:
    """What greedy search finds for the only image of `features`; None where words cannot be screened."""
    output = decoder.output if decoder.returns_output else None
    if not isinstance(output, WordOutput) or len(features.vector) != 1 or config.repetition_penalty > 1:
        return None
    if not can_screen(output.words, features.vector):
        return None
    forget_changed_copies(decoder)
    hypothesis, state = PartialHypothesis(), decoder.init_state(features)
    token = special.start
    vectors: list[Tensor] = []
    attention: list[Tensor | None] = []
    while not hypothesis.finished:
        with without_words(output):
            vector, state, weights = decoder.step(torch.tensor([token]), state)
        attention.append(weights)
        try:
            best = _most_probable(output.words, vector, hypothesis, config, special, phrases)
        except FloatingPointError:
            check_not_nan(math.nan, 0, len(hypothesis.tokens))
            raise
        if best is None or (best != special.end and len(hypothesis.tokens) == config.max_length):
            break  # no token is allowed, or the caption is as long as it may be: it stays unfinished
        token = best
        vectors.append(vector)
        hypothesis = hypothesis.end(0.0) if token == special.end else hypothesis.append(token, 0.0, row=0)
    tokens = [*hypothesis.tokens, special.end] if hypothesis.finished else [*hypothesis.tokens]
    log_probs = _log_probs(output.words, vectors, tokens)
    for position, log_prob in enumerate(log_probs):
        check_not_nan(log_prob, 0, position)
    return hypothesis._replace(log_prob=math.fsum(log_probs)).complete(attention, config.length_penalty, _stack)


def _most_probable(
    words: nn.Linear,
    vector: Float[Tensor, "1 H"],
    hypothesis: PartialHypothesis,
    config: DecodeConfig,
    special: SpecialTokens,
    phrases: PhraseStatistics | None,
) -> int | None:
    """The most probable of the tokens that `mask_forbidden_tokens` leaves; None where it leaves none."""
    forbidden = never_allowed(config, special) + forbidden_next([hypothesis], config, phrases)[1]
    if len(hypothesis.tokens) >= config.min_length:
        return most_probable_word(words, vector, forbidden)
    longer = most_probable_word(words, vector, [*forbidden, special.end])
    return most_probable_word(words, vector, forbidden) if longer is None else longer


def _log_probs(words: nn.Linear, vectors: list[Float[Tensor, "1 H"]], tokens: list[int]) -> list[float]:
    """ln p of each token, given the vector before it."""
    found: list[float] = []
    for start in range(0, len(tokens), _WORDS_AT_A_TIME):
        part = slice(start, start + _WORDS_AT_A_TIME)
        logits = words(torch.cat(vectors[part]))
        chosen = logits.gather(1, torch.tensor(tokens[part])[:, None])
        found += (chosen - log_sum_exp(logits)).squeeze(1).tolist()
    return found


def _stack(weights: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(weights))
