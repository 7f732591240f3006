"""The words that captions must or must not have, as people give them → constraints in token ids."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.config import DecodeConfig
from captioner.decode.constrained import Constraints, check_constraints
from captioner.errors import ConfigError, near_misses
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import SPECIAL_NAMES, Vocabulary


def word_constraints(
    must_have: Sequence[str],
    must_not: Sequence[str],
    config: DecodeConfig,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
) -> Constraints | None:
    """The constraints of one call, None without any; the arguments are those of `Captioner.caption`.

    ConfigError for words that the vocabulary lacks and for a search that knows no constraints.
    """
    if isinstance(must_have, str) or isinstance(must_not, str):
        raise ConfigError("must_have and must_not are lists of words or phrases, such as must_have=['dog'].")
    if not must_have and not must_not:
        return None
    check_constraints(config, must_have or must_not)
    for name, texts in (("must_have", must_have), ("must_not", must_not)):
        for text in texts:
            if not isinstance(text, str) or not all(map(tokenizer.tokenize, text.split("|"))):
                raise ConfigError(f"{name} has {text!r}, which names no word: expected such as 'dog' or 'red ball'.")
    required = tuple(tuple(_phrase(words, vocabulary, tokenizer) for words in one.split("|")) for one in must_have)
    excluded = tuple(_phrase(words, vocabulary, tokenizer) for words in must_not)
    for text in must_have:
        if all(any(_contains(words, other) for other in must_not) for words in text.split("|")):
            raise ConfigError(
                f"No caption can have {text!r} of must_have: must_not excludes it. Leave one of them out."
            )
    if tokenizer.model is None:
        return Constraints(required, excluded, vocabulary.articles)
    return Constraints(  # the tokens are units that it has learned, and words have several spellings in them
        required,
        articles=vocabulary.articles,
        excluded_words=tuple(" ".join(words.split()) for words in must_not),
        text_of=lambda ids: tokenizer.join(vocabulary.decode_caption(ids)),
    )


def _contains(phrase: str, part: str) -> bool:
    """Whether the words of `part` are in `phrase`, as they are written."""
    return f" {' '.join(part.split())} " in f" {' '.join(phrase.split())} "


def _phrase(text: str, vocabulary: Vocabulary, tokenizer: Tokenizer) -> tuple[int, ...]:
    tokens = tuple(tokenizer.tokenize(text))
    unknown = [token for token in tokens if token not in vocabulary]
    if unknown:
        words = vocabulary.tokens[len(SPECIAL_NAMES) :]
        raise ConfigError(
            f"{unknown[0]!r} is not in the model's vocabulary of {len(words):,} words.{near_misses(unknown[0], words)}"
        )
    ids = vocabulary.encode(tokens)
    return tuple(ids if vocabulary.articles is None else vocabulary.articles.agree(ids))
