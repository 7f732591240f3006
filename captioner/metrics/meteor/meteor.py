"""METEOR 1.5 in Python, for many pairs of captions at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from captioner.files import cache_directory
from captioner.metrics.meteor.alignment import Match, align
from captioner.metrics.meteor.candidates import Candidates, find_candidates
from captioner.metrics.meteor.captions import Captions, Lexicon
from captioner.metrics.meteor.search import LONGEST_CAPTION, Alignments, align_all
from captioner.metrics.meteor.statistics import COLUMNS, addable, pair_statistics, scores
from captioner.metrics.ngrams import Floats, Integers

PAIRS_AT_ONCE = 2048  # bounds the memory


class Meteor:
    """METEOR 1.5: the statistics equal those of the jar, the scores to 1e-12.

    Raises MetricUnavailable where pycocoevalcap, whose word lists it reads, is not installed.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.lexicon = Lexicon(cache or cache_directory())

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """(I, 23) statistics of each hypothesis with the reference of its best score, the first of equal ones.

        hypotheses: (I,) captions; references: (I,) one or more captions each; both as tokens joined by spaces.
        """
        found = np.zeros((len(hypotheses), COLUMNS))
        start = end = pairs = 0
        for end, captions in enumerate(references, 1):
            pairs += len(captions)
            if pairs >= PAIRS_AT_ONCE or end == len(references):
                found[start:end] = self._statistics(hypotheses[start:end], references[start:end])
                start, pairs = end, 0
        return found

    def best_statistics(
        self, captions: Captions, hypotheses: Integers, references: Integers, counts: Integers
    ) -> Floats:
        """(I, 23) statistics of hypotheses, as `statistics`, of captions that are encoded already.

        hypotheses: (I,) and references: the captions of `captions` to compare, `counts` references for each hypothesis.
        """
        rows = self.pair_statistics(captions, np.repeat(hypotheses, counts), references).astype(np.float64)
        every = scores(addable(rows))
        image = np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((-every, image))  # it is stable: of equal scores the first stays first
        best: Floats = rows[order[np.cumsum(counts) - counts]]
        return best

    def pair_statistics(self, captions: Captions, hypotheses: Integers, references: Integers) -> Integers:
        """(P, 23) statistics of P pairs of encoded captions; hypotheses, references: (P,) captions."""
        found = np.zeros((len(references), COLUMNS), np.int64)
        lengths = captions.lengths
        is_short = np.maximum(lengths[hypotheses], lengths[references]) <= LONGEST_CAPTION
        is_function = self.lexicon.is_function[captions.words]
        short = np.flatnonzero(is_short)
        short = short[np.argsort(-lengths[references[short]], kind="stable")]
        for rows in (short, *np.flatnonzero(~is_short).reshape(-1, 1)):
            hypothesis, reference = hypotheses[rows], references[rows]
            candidates = find_candidates(captions, hypothesis, reference, self.lexicon)
            if rows is short:
                alignments = align_all(candidates, lengths[reference])
            else:
                alignments = _align_one(candidates, int(lengths[reference[0]]), int(lengths[hypothesis[0]]))
            found[rows] = pair_statistics(captions, hypothesis, reference, candidates, alignments, is_function)
        return found

    def _statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        counts = np.array([len(captions) for captions in references])
        texts = [*hypotheses, *(caption for captions in references for caption in captions)]
        index = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        places = np.array([index[text] for text in texts])
        captions = self.lexicon.encode(list(index))
        return self.best_statistics(captions, places[: len(hypotheses)], places[len(hypotheses) :], counts)


def _align_one(candidates: Candidates, reference_length: int, hypothesis_length: int) -> Alignments:
    """The alignment of one pair of captions of any length."""
    rows = [Match(*row) for row in np.stack(candidates[1:6], axis=1).tolist()]
    place = {match: index for index, match in enumerate(rows)}  # equal ones have equal statistics
    matches, chunks = align(rows, reference_length, hypothesis_length)
    chosen = np.array([place[match] for match in matches], np.int64)
    return Alignments(np.zeros_like(chosen), chosen, np.array([chunks]))
