"""Captions as arrays: the numbers of their words, and their phrases that the table of paraphrases has.

What METEOR knows about a word (stem, synsets, function word) is looked up once, when the word is first seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioner.metrics.meteor.normalizer import clean, normalize
from captioner.metrics.meteor.numbering import Numbering
from captioner.metrics.meteor.paraphrases import LONGEST, MULTIPLIER, Paraphrases, hash_words, open_paraphrases
from captioner.metrics.meteor.resources import Resources, load_resources
from captioner.metrics.meteor.stemmer import stem
from captioner.metrics.meteor.synonyms import synsets_of
from captioner.metrics.ngrams import Integers
from captioner.metrics.ragged import ranges, starts_of


class Captions(NamedTuple):
    """C captions. Words and phrases of a caption lie behind each other, those of the next one follow.

    words: numbers of `Lexicon`; word_starts: (C + 1,) where each caption's begin, and the end of the last.
    phrase_start, phrase_length: words of the caption; phrase_place: in `Paraphrases`; phrase_starts: (C + 1,). The
    phrases of a caption are sorted by their start, then by their length.
    """

    words: Integers
    word_starts: Integers
    phrase_start: Integers
    phrase_length: Integers
    phrase_place: Integers
    phrase_starts: Integers

    @property
    def lengths(self) -> Integers:
        """(C,) words of each caption."""
        return np.diff(self.word_starts)


def join(parts: Sequence[Captions]) -> Captions:
    """All captions of some `Captions`, in their order."""
    words = np.concatenate([part.words for part in parts])
    lengths = np.concatenate([np.diff(part.word_starts) for part in parts])
    phrases = np.concatenate([np.diff(part.phrase_starts) for part in parts])
    start, length, place = (
        np.concatenate([part[field] for part in parts])
        for field in map(Captions._fields.index, ("phrase_start", "phrase_length", "phrase_place"))
    )
    return Captions(words, starts_of(lengths), start, length, place, starts_of(phrases))


class Lexicon:
    """The words that were seen, by number, and what METEOR knows about them.

    stems: (W,) number of the word's stem. is_function: (W,) 1 for a function word. synsets: numbers of the synsets of
    all words; synset_starts: (W + 1,) where each word's begin.

    Raises MetricUnavailable where METEOR's resources are missing.
    """

    def __init__(self, cache: Path) -> None:
        self.resources: Resources = load_resources()
        self.paraphrases: Paraphrases = open_paraphrases(cache)
        self.stems = self.is_function = self.synsets = np.zeros(0, np.int64)
        self.synset_starts = np.zeros(1, np.int64)
        self._hashes = np.zeros(0, np.uint64)
        self._words: Numbering[str] = Numbering()
        self._stems: Numbering[str] = Numbering()
        self._synsets: Numbering[str] = Numbering()

    def encode(self, captions: Sequence[str]) -> Captions:
        """Captions as arrays. They are tokens joined by spaces; METEOR splits them once more."""
        words: list[int] = []
        lengths: list[int] = []
        number = self._words.__getitem__
        for caption in captions:
            split = normalize(clean(caption), self.resources.abbreviations)
            lengths.append(len(split))
            words.extend(map(number, split))
        self._describe(self._words.added())
        numbers, counts = np.array(words, np.int64), np.array(lengths, np.int64)
        of_caption, start, length, place = self._phrases(numbers, counts)
        phrases = starts_of(np.bincount(of_caption, minlength=len(counts)))
        return Captions(numbers, starts_of(counts), start, length, place, phrases)

    def _phrases(self, words: Integers, lengths: Integers) -> tuple[Integers, Integers, Integers, Integers]:
        """Caption, start, length and place of every phrase in the captions that the table has."""
        hashes = self._hashes[words]
        words_left = ranges(-lengths, lengths) * -1  # in the caption, from each word on
        phrase, found = hashes, []
        for length in range(1, LONGEST + 1):
            if length > 1:
                phrase = phrase[:-1] * MULTIPLIER + hashes[length - 1 :]
            inside = words_left[: len(phrase)] >= length
            word = np.flatnonzero(inside & self.paraphrases.may_contain(phrase))
            found.append((word, np.full(len(word), length), phrase[word]))
        word, length_of, hash_of = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        different, phrase_of = np.unique(hash_of, return_inverse=True)
        place = self.paraphrases.find(different)[phrase_of]
        known = np.flatnonzero(place >= 0)
        known = known[np.argsort(word[known], kind="stable")]
        caption = np.repeat(np.arange(len(lengths)), lengths)[word[known]]
        start = word[known] - starts_of(lengths)[caption]
        return caption, start, length_of[known], place[known]

    def _describe(self, words: list[str]) -> None:
        """Look up what METEOR knows about new words."""
        if not words:
            return
        synsets = [[self._synsets[synset] for synset in synsets_of(word, self.resources)] for word in words]
        ends = self.synset_starts[-1] + np.cumsum([len(numbers) for numbers in synsets], dtype=np.int64)
        self.synset_starts = np.append(self.synset_starts, ends)
        self.synsets = np.append(self.synsets, np.array([n for numbers in synsets for n in numbers], np.int64))
        self.stems = np.append(self.stems, [self._stems[stem(word)] for word in words])
        functions = self.resources.function_words
        self.is_function = np.append(self.is_function, [int(word in functions) for word in words])
        self._hashes = np.append(self._hashes, hash_words(words))
