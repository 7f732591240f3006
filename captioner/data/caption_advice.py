"""Settings that do not fit the captions: lengths that are cut, languages without spaces, words that are unknown.

The defaults fit short English captions. `data check` and the start of a training say where they do not fit, and name
the setting. Everything is computed from the arrays of `TokenizedCaptions`, so 600,000 captions take a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from captioner.config import VocabularyConfig
from captioner.data.batches import TokenizedCaptions
from captioner.text.scripts import UNSPACED_SCRIPTS
from captioner.text.vocabulary import SPECIAL_NAMES, Vocabulary

CUT = 0.01  # share of the training captions; Flickr8k has 0.0002, COCO 0.0016
LONGER = 0.05  # share of the training captions; Flickr8k has 0.015, COCO 0.008
UNKNOWN = 0.1  # share of the words of the validation captions; Flickr8k has 0.034
FEWEST = 100  # words of the validation captions; fewer are no sample
UNSPACED = 0.05  # share of the letters

UNITS = {"char": "characters", "bpe": "subword units"}
"""Tokenizer → what its tokens are called; others have words."""

_OTHER_UNITS = {"char": "", "bpe": ", or choose fewer, shorter units by a lower tokenizer.subwords"}
"""Tokenizer → what else helps against unknown units; others have unknown words, which bpe divides."""

_DIVIDED = {"Chinese": 4.0, "Japanese": 4.0}
"""Language → letters per token below which its text is divided into words already; 12 for other languages."""


@dataclass(frozen=True)
class TrainingLengths:
    """The settings that limit the lengths of captions."""

    max_caption_length: int  # trainer.max_caption_length
    max_generated: int  # decode.max_length


def caption_advice(
    train: TokenizedCaptions,
    val: TokenizedCaptions,
    vocabulary: Vocabulary,
    settings: VocabularyConfig | None,
    tokenizer: str,
    lengths: TrainingLengths,
) -> list[str]:
    """A message for each setting that does not fit the captions; none for Flickr8k and COCO with the defaults.

    train, val: the tokenized captions of the two splits; settings: those of `vocabulary`, or None for
    a vocabulary that is that of a checkpoint (`init_from`); tokenizer: its name.
    """
    messages = [*_length_advice(train, UNITS.get(tokenizer, "words"), lengths)]
    if tokenizer in ("ptb", "whitespace"):
        messages += _script_advice(train, tokenizer)
    messages += _vocabulary_advice(val, vocabulary, settings, tokenizer)
    return messages


def unknown_share(captions: TokenizedCaptions, vocabulary: Vocabulary) -> float:
    """The share of the captions' tokens that are not in the vocabulary; 0 where there are no tokens."""
    indices = captions.indices.token_ids
    known = np.fromiter((token in vocabulary for token in captions.tokens), bool, len(captions.tokens))
    return float(1 - known[indices].mean()) if len(indices) else 0.0


def describe_units(captions: TokenizedCaptions, tokenizer: str) -> str:
    """What a learned tokenizer makes of the training captions: its units, and their number per caption."""
    lengths = np.diff(captions.indices.caption_offsets)
    return (
        f"tokenizer={tokenizer} uses {len(captions.tokens):,} units; a training caption has {lengths.mean():.1f} of "
        f"them on average, and at most {lengths.max()}."
    )


def _length_advice(captions: TokenizedCaptions, units: str, limits: TrainingLengths) -> Iterator[str]:
    lengths = np.diff(captions.indices.caption_offsets)
    if not len(lengths):
        return
    longest = f"99% of the captions have at most {int(np.quantile(lengths, 0.99, method='higher'))} {units}"
    cut, longer = (int((lengths > most).sum()) for most in (limits.max_caption_length, limits.max_generated))
    if cut > CUT * len(lengths):
        yield (
            f"{_percent(cut / len(lengths))} of the training captions ({cut:,} of {len(lengths):,}) have more than "
            f"{limits.max_caption_length} {units} and are cut: raise "
            f"trainer.max_caption_length={limits.max_caption_length} ({longest})."
        )
    if longer > LONGER * len(lengths):
        yield (
            f"{_percent(longer / len(lengths))} of the training captions ({longer:,} of {len(lengths):,}) are longer "
            f"than any generated caption can be: raise decode.max_length={limits.max_generated} ({longest})."
        )


def _script_advice(captions: TokenizedCaptions, tokenizer: str) -> Iterator[str]:
    """At most one message, about the script without spaces that has the most letters."""
    if not captions.tokens:
        return
    codes = np.frombuffer("".join(captions.tokens).encode("utf-32-le", "surrogatepass"), np.uint32)
    starts = np.cumsum([0, *map(len, captions.tokens[:-1])])
    count = np.bincount(captions.indices.token_ids, minlength=len(captions.tokens))
    present = np.flatnonzero(np.bincount(codes))
    is_letter = np.zeros(int(present[-1]) + 1, bool)
    is_letter[present] = [chr(code).isalpha() for code in present.tolist()]
    letters = int(np.add.reduceat(is_letter[codes], starts, dtype=np.int64) @ count)
    found: dict[str, tuple[int, int]] = {}  # language → its letters, tokens with such letters
    for language, ranges in UNSPACED_SCRIPTS.items():
        inside = np.zeros(len(codes), bool)
        for low, high in ranges:
            inside |= (codes >= low) & (codes <= high)
        of_token = np.add.reduceat(inside, starts, dtype=np.int64)
        if of_token.any():
            found[language] = int(of_token @ count), int(count[of_token > 0].sum())
    in_scripts = sum(of_language for of_language, _ in found.values())
    if not found or in_scripts < UNSPACED * max(letters, in_scripts):
        return
    language = max(found, key=lambda name: found[name][0])
    per_token = found[language][0] / found[language][1]
    if per_token < _DIVIDED.get(language, 12.0):
        return
    if language == "Chinese" and found.get("Japanese", (0, 0))[0] > 0.05 * found[language][0]:
        language = "Japanese"  # which is written with Chinese characters, too
    yield (
        f"{_percent(in_scripts / max(letters, in_scripts))} of the letters are in a script without spaces ({language}),"
        f" and tokenizer={tokenizer} divides at spaces: a word has {per_token:.1f} such letters on average. Choose "
        "tokenizer=char or tokenizer=bpe, or put spaces between the words and choose tokenizer=whitespace."
    )


def _vocabulary_advice(
    captions: TokenizedCaptions, vocabulary: Vocabulary, settings: VocabularyConfig | None, tokenizer: str
) -> Iterator[str]:
    units = UNITS.get(tokenizer, "words")
    unknown = unknown_share(captions, vocabulary)
    if unknown <= UNKNOWN or len(captions.indices.token_ids) < FEWEST:
        return
    cause, other = "they do not occur in train", _OTHER_UNITS.get(tokenizer, ", or choose tokenizer=bpe")
    advice = f"add training captions{other}"
    if settings is None:
        cause, advice = "it is that of init_from", "no caption will have them; without init_from the vocabulary is new"
    elif settings.max_size is not None and len(vocabulary) - len(SPECIAL_NAMES) >= settings.max_size:
        cause, advice = f"it has {settings.max_size:,} {units}", f"raise vocabulary.max_size={settings.max_size}"
    elif settings.min_count > 1:
        cause = f"it has those that occur at least {settings.min_count} times in train"
        advice = f"lower vocabulary.min_count={settings.min_count}"
    yield (
        f"Of 100 {units} of the validation captions, {100 * unknown:.0f} are unknown to the vocabulary ({cause}): "
        f"{advice}."
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
