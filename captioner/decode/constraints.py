"""What a search may not say: a function that forbids, before the search chooses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.hypothesis import PartialHypothesis
from captioner.text.vocabulary import SpecialTokens

MASKED = float("-inf")


def mask_forbidden_tokens(
    logits: Float[Tensor, "N V"], paths: Sequence[PartialHypothesis], config: DecodeConfig, special: SpecialTokens
) -> None:
    """Set the logits of what row i may not say after `paths[i]` to -inf, in place.

    Every path has the same number of words.

    - <PAD> and <START> never; <UNK> only with `allow_unknown`.
    - No word that would complete an n-gram a second time, where `no_repeat_ngram` is n > 0.
    - <END> not before `min_length` words, except where no word is left to say.
    """
    logits[:, special.pad] = MASKED
    logits[:, special.start] = MASKED
    if not config.allow_unknown:
        logits[:, special.unknown] = MASKED
    if config.no_repeat_ngram:
        _forbid_repeats(logits, paths, config.no_repeat_ngram)
    if len(paths[0].words) < config.min_length:
        end = logits[:, special.end].clone()
        logits[:, special.end] = MASKED
        no_allowed_token = logits.amax(dim=1) == MASKED
        logits[:, special.end] = end.masked_fill(~no_allowed_token, MASKED)


def repeating_tokens(words: Sequence[int], n: int) -> set[int]:
    """The words that, said next, would complete an n-gram that `words` already holds."""
    last = tuple(words[len(words) - n + 1 :]) if len(words) >= n else None
    return {words[i + n - 1] for i in range(len(words) - n + 1) if tuple(words[i : i + n - 1]) == last}


def _forbid_repeats(logits: Float[Tensor, "N V"], paths: Sequence[PartialHypothesis], n: int) -> None:
    pairs = [(row, word) for row, path in enumerate(paths) for word in repeating_tokens(path.words, n)]
    if pairs:
        rows, words = torch.tensor(pairs, device=logits.device).unbind(dim=1)
        logits[rows, words] = MASKED
