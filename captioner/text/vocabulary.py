"""The words a model may say, and their numbers.

Made from the training split's captions only; kept as JSON with the checkpoint that it belongs to.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.config import VocabularyConfig
from captioner.errors import CheckpointError, DataError


@dataclass(frozen=True)
class SpecialTokens:
    """Numbers of the tokens that are not words. They come first in every vocabulary."""

    pad: int = 0
    start: int = 1
    end: int = 2
    unknown: int = 3


SPECIAL_TOKENS = SpecialTokens()
SPECIAL_NAMES = ("<PAD>", "<START>", "<END>", "<UNK>")


class Vocabulary:
    """Tokens ↔ numbers 0 … V−1. Number i is `tokens[i]`; the first four are the special tokens."""

    special = SPECIAL_TOKENS

    def __init__(self, words: Iterable[str]) -> None:
        """`words` without the special tokens, each once, most frequent first."""
        self.tokens: tuple[str, ...] = (*SPECIAL_NAMES, *words)
        # Words only: a caption in which somebody wrote "<END>" does not end there.
        self._numbers = {token: number for number, token in enumerate(self.tokens) if number >= len(SPECIAL_NAMES)}
        if len(set(self.tokens)) != len(self.tokens):
            twice = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise DataError(f"A vocabulary holds each token once, but {', '.join(map(repr, twice[:5]))} came twice.")

    @classmethod
    def from_captions(cls, captions: Iterable[Sequence[str]], config: VocabularyConfig) -> Vocabulary:
        """Every token seen at least `min_count` times, by falling frequency, ties in alphabetical order."""
        counts = Counter(token for caption in captions for token in caption)
        for name in SPECIAL_NAMES:
            counts.pop(name, None)
        kept = sorted((word for word in counts if counts[word] >= config.min_count), key=lambda w: (-counts[w], w))
        if not kept:
            raise DataError(
                f"No word occurs {config.min_count} times in the training captions, so the vocabulary would be empty: "
                f"lower vocabulary.min_count (the most frequent of {len(counts)} words occurs "
                f"{max(counts.values(), default=0)} times)."
            )
        return cls(kept[: config.max_size])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        """Is this word one of the vocabulary's words? Special tokens are not words."""
        return token in self._numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Numbers of `tokens`; a word that is not in the vocabulary becomes <UNK>. Adds no <START>, no <END>."""
        unknown = self.special.unknown
        return [self._numbers.get(token, unknown) for token in tokens]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Tokens of `numbers`, special ones included."""
        return [self.tokens[number] for number in numbers]

    def to_json(self) -> str:
        """A JSON list of the tokens in the order of their numbers."""
        return json.dumps(list(self.tokens), ensure_ascii=False, indent=0)

    @classmethod
    def from_json(cls, text: str, source: str = "the vocabulary") -> Vocabulary:
        """What `to_json` wrote; `source` is named where it is something else (CheckpointError)."""
        try:
            tokens = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{source} is not JSON ({error}): restore it from a copy of the checkpoint."
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
        """Read what `save` wrote; CheckpointError where that is not what is there."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}).") from error
        return cls.from_json(text, str(path))
