"""METEOR 1.5 in Python, for many pairs of captions at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from captioner.files import cache_directory
from captioner.metrics.meteor.alignment import Match, align
from captioner.metrics.meteor.candidates import Candidates, find_candidates
from captioner.metrics.meteor.captions import Captions, Lexicon
from captioner.metrics.meteor.search import LONGEST_CAPTION, Alignments, align_all
from captioner.metrics.meteor.statistics import COLUMNS, addable, pair_statistics, scores
from captioner.metrics.ngrams import Floats, Integers

WORD_PAIRS_AT_ONCE = 1 << 18  # each word of a caption beside each of a reference: bounds the memory


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
        start = pairs = 0
        for end, (hypothesis, captions) in enumerate(zip(hypotheses, references, strict=True), 1):
            pairs += (hypothesis.count(" ") + 1) * sum(caption.count(" ") + 1 for caption in captions)
            if pairs >= WORD_PAIRS_AT_ONCE or end == len(references):
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
        longest_first = np.argsort(-lengths[references], kind="stable")
        for rows, align_pairs in (
            (longest_first[is_short[longest_first]], align_all),
            (np.flatnonzero(~is_short), _align_each),
        ):
            if len(rows):
                hypothesis, reference = hypotheses[rows], references[rows]
                candidates = find_candidates(captions, hypothesis, reference, self.lexicon)
                alignments = align_pairs(candidates, lengths[reference])
                found[rows] = pair_statistics(captions, hypothesis, reference, candidates, alignments, is_function)
        return found

    def _statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        counts = np.array([len(captions) for captions in references])
        texts = [*hypotheses, *(caption for captions in references for caption in captions)]
        index = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        places = np.array([index[text] for text in texts])
        captions = self.lexicon.encode(list(index))
        return self.best_statistics(captions, places[: len(hypotheses)], places[len(hypotheses) :], counts)


def _align_each(candidates: Candidates, reference_lengths: Integers) -> Alignments:
    """The alignments of pairs of captions of any length, one by one."""
    bounds = np.searchsorted(candidates.pair, np.arange(len(reference_lengths) + 1)).tolist()
    matches = [Match(*row) for row in np.stack(candidates[1:6], axis=1).tolist()]
    pair, chosen, chunks = [], [], []
    for index, (start, end) in enumerate(pairwise(bounds)):
        of_pair = matches[start:end]
        hypothesis_length = max((match.hypothesis_start + match.hypothesis_length for match in of_pair), default=0)
        alignment = align(of_pair, int(reference_lengths[index]), hypothesis_length)
        row_of = {match: row for row, match in enumerate(of_pair, start)}  # equal ones have equal statistics
        pair += [index] * len(alignment.matches)
        chosen += [row_of[match] for match in alignment.matches]
        chunks.append(alignment.chunks)
    return Alignments(np.array(pair, np.int64), np.array(chosen, np.int64), np.array(chunks))
