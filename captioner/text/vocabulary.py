"""The vocabulary: the tokens that a model can generate, and their ids.

It is built from the captions of the training split only, and stored as JSON in the checkpoint.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.config import VocabularyConfig
from captioner.errors import CheckpointError, DataError
from captioner.text.articles import Articles
from captioner.text.phrases import PhraseStatistics

if TYPE_CHECKING:
    from captioner.text.class_preferences import ClassPreferences


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of the tokens that are not words, the first of every vocabulary."""

    pad: int = 0
    start: int = 1
    end: int = 2
    unknown: int = 3


SPECIAL_TOKENS = SpecialTokens()
SPECIAL_NAMES = ("<PAD>", "<START>", "<END>", "<UNK>")


class Vocabulary:
    """Tokens ↔ token ids 0 … V−1. Id i is that of `tokens[i]`; the first four are the special tokens.

    A search needs its `phrases` for `decode.no_unseen_phrase` and the like.
    """

    special = SPECIAL_TOKENS

    @cached_property
    def class_preferences(self) -> ClassPreferences:
        """Which words ImageNet's classes speak for; a search needs it for `decode.class_weight`."""
        from captioner.text.class_preferences import ClassPreferences

        return ClassPreferences(self)

    def __init__(self, words: Iterable[str]) -> None:
        """`words`: without the special tokens, each once, the most frequent first. DataError for a repeated one."""
        self._phrases: PhraseStatistics | Callable[[], PhraseStatistics] | None = None
        self._articles: tuple[PhraseStatistics | None, Articles | None] = (None, None)  # of these statistics
        self.tokens: tuple[str, ...] = (*SPECIAL_NAMES, *words)
        # Without special tokens: a caption that contains the text "<END>" does not end there.
        self._ids = {token: index for index, token in enumerate(self.tokens) if index >= len(SPECIAL_NAMES)}
        if len(set(self.tokens)) != len(self.tokens):
            repeated = [token for token, count in Counter(self.tokens).items() if count > 1]
            listed = ", ".join(map(repr, repeated[:5]))
            raise DataError(f"A vocabulary has each token once, but these occur twice: {listed}.")

    @classmethod
    def from_captions(cls, captions: Iterable[Sequence[str]], config: VocabularyConfig) -> Vocabulary:
        """The tokens that occur at least `min_count` times, by decreasing frequency, equal ones in alphabetical order.

        DataError where there is none.
        """
        return cls.from_counts(Counter(token for caption in captions for token in caption), config)

    @classmethod
    def from_counts(cls, of_tokens: Mapping[str, int], config: VocabularyConfig) -> Vocabulary:
        """`from_captions` for captions in which each token occurs so often."""
        counts = {token: count for token, count in of_tokens.items() if token not in SPECIAL_NAMES}
        kept = sorted((word for word in counts if counts[word] >= config.min_count), key=lambda w: (-counts[w], w))
        if not kept:
            raise DataError(
                f"No word occurs {config.min_count} times in the training captions, so the vocabulary would be empty. "
                f"Lower vocabulary.min_count (the most frequent of {len(counts)} words occurs "
                f"{max(counts.values(), default=0)} times)."
            )
        return cls(kept[: config.max_size])

    @property
    def phrases(self) -> PhraseStatistics | None:
        """The phrase statistics of the training captions, in these token ids; None where they are not known."""
        if callable(self._phrases):
            self._phrases = self._phrases()
        return self._phrases

    @phrases.setter
    def phrases(self, phrases: PhraseStatistics | None) -> None:
        self._phrases = phrases

    def count_phrases_when_needed(self, count: Callable[[], PhraseStatistics]) -> None:
        """Set `phrases` to what `count` returns, which is called when they are first read: seconds for COCO."""
        self._phrases = count

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        """Whether this word is in the vocabulary. Special tokens are not words."""
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The ids of `tokens`; a word outside the vocabulary becomes <UNK>. No <START> or <END> is added."""
        unknown = self.special.unknown
        return [self._ids.get(token, unknown) for token in tokens]

    def decode(self, token_ids: Iterable[int]) -> list[str]:
        """The tokens with these ids, special ones included."""
        return [self.tokens[token_id] for token_id in token_ids]

    @property
    def articles(self) -> Articles | None:
        """Which words need "an"; None where `phrases` are not known or are not English."""
        if self._articles[0] is not self.phrases:
            self._articles = (self.phrases, Articles.learn(self.tokens, self.phrases))
        return self._articles[1]

    def decode_caption(self, token_ids: Sequence[int]) -> list[str]:
        """The tokens of a generated caption: those with these ids, "a" and "an" as the next word needs."""
        return self.decode(token_ids if self.articles is None else self.articles.agree(token_ids))

    def to_json(self) -> str:
        """A JSON list of the tokens in the order of their ids."""
        return json.dumps(list(self.tokens), ensure_ascii=False, indent=0)

    @classmethod
    def from_json(cls, text: str, source: str = "the vocabulary") -> Vocabulary:
        """The vocabulary that `to_json` wrote. CheckpointError for other content; it names `source`."""
        try:
            tokens = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{source} is not JSON ({error}). Restore it from a copy of the checkpoint."
            ) from error
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise CheckpointError(f"{source} should be a JSON list of strings.")
        if tuple(tokens[:4]) != SPECIAL_NAMES:
            raise CheckpointError(
                f"{source} should begin with {', '.join(SPECIAL_NAMES)}, but begins with {tokens[:4]}."
            )
        if len(set(tokens)) != len(tokens):
            raise CheckpointError(f"{source} lists a token twice.")
        return cls(tokens[4:])

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The vocabulary that `save` wrote. CheckpointError where the file cannot be read or has other content."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}).") from error
        return cls.from_json(text, str(path))
