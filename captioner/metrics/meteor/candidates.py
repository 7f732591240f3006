"""Candidate matches between a generated caption and a reference, in the order in which METEOR's modules find them."""

from __future__ import annotations

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
        self._ranks_of = lru_cache(maxsize=100_000)(self._find_ranks)
        self._synsets = lru_cache(maxsize=100_000)(lambda word: synsets_of(word, self.resources))
        self._modules: dict[str, dict[str, tuple[int, ...]]] = {}  # word → other word → the modules that match them
        self.phrases = lru_cache(maxsize=50_000)(self._find_phrases)

    def find(self, hypothesis: tuple[str, ...], reference: tuple[str, ...]) -> list[Match]:
        """All candidates: equal words, equal stems, synonyms, then paraphrases.

        A paraphrase that the table has in both directions is found twice, and so is never certain.
        """
        single: tuple[list[Match], ...] = ([], [], [])
        for start, word in enumerate(reference):
            known = self._modules.setdefault(word, {word: (EXACT,)})
            for hypothesis_start, other in enumerate(hypothesis):
                modules = known.get(other)
                if modules is None:
                    modules = known[other] = self._modules_of(other, word)
                for module in modules:
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

    def _find_phrases(self, words: tuple[str, ...]) -> _Phrases:
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
        pairs = []
        for start, length, place in phrases:
            ranks = self._ranks_of(place)
            found = [paraphrase for paraphrase in spans if paraphrase in ranks]
            for paraphrase in sorted(found, key=ranks.__getitem__) if len(found) > 1 else found:
                pairs += [(start, length, *span) for span in spans[paraphrase]]
        return pairs

    def _find_ranks(self, place: int) -> dict[int, int]:
        """The paraphrases of a phrase → their rank in the table."""
        return {paraphrase: rank for rank, paraphrase in enumerate(self._paraphrases.of(place))}

    def _modules_of(self, word: str, other: str) -> tuple[int, ...]:
        """The modules that match two different words."""
        stems, synonyms = stem(word) == stem(other), not self._synsets(word).isdisjoint(self._synsets(other))
        return (STEM,) * stems + (SYNONYM,) * synonyms
