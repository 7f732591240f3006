"""Which tokens may not follow a hypothesis, whatever array the logits are in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

from captioner.config import DecodeConfig
from captioner.decode.hypothesis import PartialHypothesis
from captioner.errors import ConfigError
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens

MASKED = float("-inf")


def never_allowed(config: DecodeConfig, special: SpecialTokens) -> list[int]:
    """The tokens of no caption: <PAD> and <START>, and <UNK> without `allow_unknown`."""
    return [special.pad, special.start] + ([] if config.allow_unknown else [special.unknown])


def forbidden_next(
    hypotheses: Sequence[PartialHypothesis], config: DecodeConfig, phrases: PhraseStatistics | None
) -> tuple[list[int], list[int]]:
    """The rows and the tokens, two lists of one length, that repeat an n-gram or complete an implausible phrase."""
    forbidden: list[Collection[int]] = []
    rows: list[int] = []
    if config.no_repeat_ngram:
        forbidden += [repeating_tokens(hypothesis.tokens, config.no_repeat_ngram) for hypothesis in hypotheses]
    if phrases is not None and config.forbidden_phrases:
        kinds = config.forbidden_phrases
        forbidden += [phrases.forbidden(hypothesis.tokens, kinds) for hypothesis in hypotheses]
    for position, tokens in enumerate(forbidden):
        rows += [position % len(hypotheses)] * len(tokens)
    return rows, list(chain.from_iterable(forbidden))


def repeating_tokens(tokens: Sequence[int], n: int) -> set[int]:
    """The tokens that would complete an n-gram that `tokens` already has."""
    last = tuple(tokens[len(tokens) - n + 1 :]) if len(tokens) >= n else None
    return {tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tuple(tokens[i : i + n - 1]) == last}


def check_phrases(config: DecodeConfig, phrases: PhraseStatistics | None) -> None:
    """ConfigError for settings that need `phrases` where there are none."""
    if config.needs_phrases and phrases is None:
        raise ConfigError(
            f"{', '.join(f'decode.{setting}' for setting in config.guards)} needs the phrase statistics of the "
            "training captions, and this checkpoint has none: an older captioner wrote it. Leave the setting out, or "
            "train the run further (resume=… with more trainer.max_epochs), which stores them."
        )
