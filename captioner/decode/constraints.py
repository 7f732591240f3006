"""Constraints on the next token: forbidden ones are masked in the logits before a search selects."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.hypothesis import PartialHypothesis
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens

MASKED = float("-inf")


def mask_forbidden_tokens(
    logits: Float[Tensor, "N V"],
    hypotheses: Sequence[PartialHypothesis],
    config: DecodeConfig,
    special: SpecialTokens,
    phrases: PhraseStatistics | None = None,
) -> None:
    """Set the logits of the tokens that may not follow `hypotheses[i]` to -inf in row i, in place.

    All hypotheses have the same length.

    - <PAD> and <START> are never allowed, <UNK> only with `allow_unknown`.
    - With `no_repeat_ngram` n > 0, no token may complete an n-gram that the caption already has.
    - With `no_unseen_phrase`, `no_doubled_phrase` and `no_bad_ending`, none may complete such a phrase. These need
      `phrases`, the statistics of the training captions.
    - <END> is not allowed before `min_length` words, unless no other token is allowed.
    """
    logits[:, special.pad] = MASKED
    logits[:, special.start] = MASKED
    if not config.allow_unknown:
        logits[:, special.unknown] = MASKED
    if config.no_repeat_ngram:
        _mask(logits, [repeating_tokens(hypothesis.tokens, config.no_repeat_ngram) for hypothesis in hypotheses])
    if phrases is not None and config.forbidden_phrases:
        kinds = config.forbidden_phrases
        _mask(logits, [phrases.forbidden(hypothesis.tokens, kinds) for hypothesis in hypotheses])
    if len(hypotheses[0].tokens) < config.min_length:
        end = logits[:, special.end].clone()
        logits[:, special.end] = MASKED
        no_allowed_token = logits.amax(dim=1) == MASKED
        logits[:, special.end] = end.masked_fill(~no_allowed_token, MASKED)


def repeating_tokens(tokens: Sequence[int], n: int) -> set[int]:
    """The tokens that would complete an n-gram that `tokens` already has."""
    last = tuple(tokens[len(tokens) - n + 1 :]) if len(tokens) >= n else None
    return {tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tuple(tokens[i : i + n - 1]) == last}


def _mask(logits: Float[Tensor, "N V"], forbidden: Sequence[Collection[int]]) -> None:
    """Set the logits of the tokens `forbidden[i]` to -inf in row i, in place."""
    rows = [row for row, tokens in enumerate(forbidden) for _ in tokens]
    if rows:
        tokens = list(chain.from_iterable(forbidden))
        logits[torch.tensor(rows, device=logits.device), torch.tensor(tokens, device=logits.device)] = MASKED
