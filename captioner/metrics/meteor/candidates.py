"""Candidate matches between a generated caption and a reference, in the order in which METEOR's modules find them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from captioner.metrics.meteor.alignment import EXACT, PARAPHRASE, STEM, SYNONYM, Match
from captioner.metrics.meteor.paraphrases import LONGEST, open_paraphrases
from captioner.metrics.meteor.resources import Resources, load_resources
from captioner.metrics.meteor.stemmer import stem
from captioner.metrics.meteor.synonyms import synsets_of

_Phrases = list[tuple[int, int, int]]  # start, length, place in the table


class CandidateFinder:
    """Finds the candidate matches of captions; remembers what it has looked up about words and phrases.

    Raises MetricUnavailable where METEOR's resources are missing.
    """

    def __init__(self, cache: Path) -> None:
        self.resources: Resources = load_resources()
        self._paraphrases = open_paraphrases(cache)
        self._places: dict[str, int] = {}  # phrase → its place in the table, -1 for none
        self._paraphrases_of = lru_cache(maxsize=100_000)(self._paraphrases.of)
        self._synsets = lru_cache(maxsize=100_000)(lambda word: synsets_of(word, self.resources))
        self._modules = lru_cache(maxsize=1_000_000)(self._modules_of)

    def find(self, hypothesis: Sequence[str], reference: Sequence[str]) -> list[Match]:
        """All candidates: equal words, equal stems, synonyms, then paraphrases.

        A paraphrase that the table has in both directions is found twice, and so is never certain.
        """
        single: tuple[list[Match], ...] = ([], [], [])
        for start, word in enumerate(reference):
            for hypothesis_start, other in enumerate(hypothesis):
                for module in (EXACT,) if word == other else self._modules(other, word):
                    single[module].append(Match(start, 1, hypothesis_start, 1, module))
        reference_phrases, hypothesis_phrases = self.phrases(reference), self.phrases(hypothesis)
        backward = [
            Match(start, length, other_start, other_length, PARAPHRASE)
            for start, length, other_start, other_length in self._pairs(reference_phrases, hypothesis_phrases)
        ]
        forward = [
            Match(other_start, other_length, start, length, PARAPHRASE)
            for start, length, other_start, other_length in self._pairs(hypothesis_phrases, reference_phrases)
        ]
        return [*single[EXACT], *single[STEM], *single[SYNONYM], *backward, *forward]

    def phrases(self, words: Sequence[str]) -> _Phrases:
        """The phrases of a caption that the table has, by their start and then their length."""
        spans = [
            (start, length, " ".join(words[start : start + length]))
            for start in range(len(words))
            for length in range(1, min(LONGEST, len(words) - start) + 1)
        ]
        new = list(dict.fromkeys(phrase for _, _, phrase in spans if phrase not in self._places))
        if new:
            self._places.update(zip(new, self._paraphrases.find(new).tolist(), strict=True))
        placed = ((start, length, self._places[phrase]) for start, length, phrase in spans)
        return [(start, length, place) for start, length, place in placed if place >= 0]

    def _pairs(self, phrases: _Phrases, others: _Phrases) -> list[tuple[int, int, int, int]]:
        """Start and length of each phrase beside those of each of its paraphrases that is among the others."""
        spans: dict[int, list[tuple[int, int]]] = {}
        for start, length, place in others:
            spans.setdefault(place, []).append((start, length))
        return [
            (start, length, *span)
            for start, length, place in phrases
            for paraphrase in self._paraphrases_of(place)
            for span in spans.get(paraphrase, ())
        ]

    def _modules_of(self, word: str, other: str) -> tuple[int, ...]:
        """The modules that match two different words."""
        stems, synonyms = stem(word) == stem(other), not self._synsets(word).isdisjoint(self._synsets(other))
        return (STEM,) * stems + (SYNONYM,) * synonyms
