"""The repetition penalty (after Keskar et al. 2019, section 4.1), whatever array the logits are in.

ln p(word) of each word that the caption already has is multiplied by θ = `repetition_penalty` before a search chooses.
Keskar et al. divide its logit by θ instead, which means less or more according to a constant that could be added to all
logits; a log-probability has no such constant, and is never positive. Log-probabilities of captions stay the model's.
"""

from __future__ import annotations

from captioner.config import DecodeConfig


def repetition_gain(token: int, log_prob: float, tokens: tuple[int, ...], config: DecodeConfig) -> float:
    """What the penalty adds to the log-probability of the token after `tokens`: (θ − 1) ln p for a repeated one."""
    return (config.repetition_penalty - 1) * log_prob if config.repetition_penalty > 1 and token in tokens else 0.0


def tokens_to_rank(config: DecodeConfig, count: int, length: int) -> int:
    """How many of a row's most probable tokens contain the best `count` after the penalty.

    It lowers only tokens that the hypothesis has, `length` at most.
    """
    return count + (length if config.repetition_penalty > 1 else 0)
