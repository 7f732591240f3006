"""Fluency: the share of generated captions with a phrase that people would not write.

The scores against references hardly notice "a man is playing in the ball". The statistics of human captions do: see
`captioner.text.phrases` for the definition, docs/fluency.md for what it finds, its false alarms and its limits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from captioner.metrics.metric import Caption, Metric, MetricResult, TokenizedCaptions
from captioner.text.phrases import KINDS, ImplausiblePhrase, PhraseStatistics

FEWEST_CAPTIONS = 2000
"""With fewer captions, hardly any phrase is expected so often that its absence means something."""

END = 0
SCORES = ("Implausible", *(f"Implausible_{kind}" for kind in KINDS))


class FluencyChecker:
    """Finds implausible phrases in captions of words, with the phrase statistics of other captions."""

    def __init__(self, captions: Sequence[Caption]) -> None:
        """`captions`: those that people wrote. DataError if there are none."""
        counts = Counter(chain.from_iterable(captions))
        # Numbered by frequency, equal ones by first occurrence: statistics keep only frequent words.
        self._numbers = {word: number for number, (word, _) in enumerate(counts.most_common(), END + 1)}
        self.statistics = PhraseStatistics.from_captions(map(self._encode, captions), END)

    def find(self, caption: Caption) -> list[tuple[str, str]]:
        """(kind, phrase) of each implausible phrase of a caption; a kind is one of `captioner.text.phrases.KINDS`."""
        words = {number: word for word, number in zip(caption, self._encode(caption), strict=True)} | {END: "<END>"}
        return [(phrase.kind, " ".join(words[number] for number in phrase.words)) for phrase in self._find(caption)]

    def kinds(self, caption: Caption) -> set[str]:
        """The kinds of implausible phrases that a caption has."""
        return {phrase.kind for phrase in self._find(caption)}

    def _find(self, caption: Caption) -> list[ImplausiblePhrase]:
        return self.statistics.find(self._encode(caption))

    def _encode(self, caption: Caption) -> list[int]:
        """Unknown words get numbers that no known word has, equal ones the same."""
        unknown = len(self._numbers) + 1
        others: dict[str, int] = {}
        return [self._numbers.get(word) or others.setdefault(word, unknown + len(others)) for word in caption]


def _compute(captions: TokenizedCaptions) -> MetricResult:
    """Each score per image is 1 for a caption with such a phrase, else 0."""
    if captions.training is not None:
        source, corpus = "training captions", captions.training
    else:
        source, corpus = "these references", list(chain.from_iterable(captions.references))
    if len(corpus) < FEWEST_CAPTIONS:
        why = f"it needs the statistics of at least {FEWEST_CAPTIONS} captions, but there are {len(corpus)} {source}"
        return MetricResult(unavailable=dict.fromkeys(SCORES, why))
    checker = FluencyChecker(corpus)
    kinds = list(map(checker.kinds, captions.hypotheses))
    flags = {"Implausible": [bool(found) for found in kinds]}
    flags |= {f"Implausible_{kind}": [kind in found for found in kinds] for kind in KINDS}
    return MetricResult(
        per_image={score: np.array(values, np.float64) for score, values in flags.items()},
        signature={"statistics": source, "captions": len(corpus), "sha256": _checksum(corpus)},
    )


def _checksum(captions: Sequence[Caption]) -> str:
    """SHA-256 of tokenized captions; it does not depend on their order."""
    digest = hashlib.sha256()
    for text in sorted(map(" ".join, captions)):
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()


METRIC = Metric(_compute, scores=SCORES, lower_is_better=SCORES, needs_training_captions=True)
