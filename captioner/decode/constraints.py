"""Constraints on the next token: forbidden ones are masked in the logits before a search selects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.forbidden_tokens import MASKED, forbidden_next, never_allowed, repeating_tokens
from captioner.decode.hypothesis import PartialHypothesis
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens

__all__ = ["MASKED", "mask_forbidden_tokens", "penalize_repetition", "repeating_tokens"]


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
    logits[:, never_allowed(config, special)] = MASKED
    rows, tokens = forbidden_next(hypotheses, config, phrases)
    if rows:
        logits[torch.tensor(rows, device=logits.device), torch.tensor(tokens, device=logits.device)] = MASKED
    if len(hypotheses[0].tokens) < config.min_length:
        end = logits[:, special.end].clone()
        logits[:, special.end] = MASKED
        no_allowed_token = logits.amax(dim=1) == MASKED
        logits[:, special.end] = end.masked_fill(~no_allowed_token, MASKED)


def penalize_repetition(
    logits: Float[Tensor, "N V"],
    total: Float[Tensor, " N"],
    hypotheses: Sequence[PartialHypothesis],
    config: DecodeConfig,
) -> Float[Tensor, "N V"]:
    """Log-probabilities after the repetition penalty (see `captioner.decode.repetition`); `logits` where it is off.

    total: the logsumexp of the logits before tokens were masked. All hypotheses have the same length.
    """
    if config.repetition_penalty == 1 or not hypotheses[0].tokens:
        return logits
    log_probs = logits - total[:, None]
    said = torch.tensor([hypothesis.tokens for hypothesis in hypotheses], device=logits.device)
    return log_probs.scatter(1, said, config.repetition_penalty * log_probs.gather(1, said))
