"""What a metric is: a function from tokenized captions to scores, and what others must know about them.

docs/extending.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from captioner.metrics.ngrams import CaptionTable, Floats, Integers, NgramCounts, count_ngrams, encode
from captioner.text.object_words import Phrase

Caption = Sequence[str]
"""A caption as tokens."""


@dataclass(frozen=True)
class TokenizedCaptions:
    """The captions of I images, from which every metric is computed; n-grams are counted once, on first use.

    hypotheses: (I,) one generated caption per image. references: (I,) one or more reference captions per image.
    training: the captions of the training split, for metrics with `needs_training_captions`; None if not given.
    objects: (I,) the labels of the objects in each image, from annotations; None where they are not known.
    object_names, objects_source: see `ImageObjects`; None without `objects`.
    rare_at_most: `metric.rare_at_most`. split_tokens: treat a space inside a token as the end of a word in n-grams,
    as the official BLEU and CIDEr do (CoreNLP keeps one in "1 1/2"), and the official ROUGE-L does not.
    meteor_backend: `meteor.backend`.
    sets: (I, n) all captions of each image, the hypothesis first, for "Caption_sets"; None where there is only one.
    """

    hypotheses: Sequence[Caption]
    references: Sequence[Sequence[Caption]]
    training: Sequence[Caption] | None = None
    rare_at_most: int | None = None
    split_tokens: bool = False
    objects: Sequence[Collection[str]] | None = None
    object_names: Mapping[Phrase, str | None] | None = None
    objects_source: str | None = None
    meteor_backend: str = "auto"
    sets: Sequence[Sequence[Caption]] | None = None

    @cached_property
    def table(self) -> CaptionTable:
        """All captions as integers, for BLEU and CIDEr."""
        if not self._has_spaces_in_tokens:
            return self.unsplit_table
        return encode(
            [" ".join(caption).split() for caption in self.hypotheses],
            [[" ".join(caption).split() for caption in captions] for captions in self.references],
        )

    @cached_property
    def ngrams(self) -> list[NgramCounts]:
        """The n-grams of `table` for n = 1 … 4."""
        return count_ngrams(self.table)

    @cached_property
    def unsplit_table(self) -> CaptionTable:
        """All captions as integers, for ROUGE-L: a token is one word, whatever it contains."""
        return encode(self.hypotheses, self.references)

    @cached_property
    def unsplit_unigrams(self) -> NgramCounts:
        """The words of `unsplit_table`."""
        return count_ngrams(self.unsplit_table, longest=1)[0] if self._has_spaces_in_tokens else self.ngrams[0]

    @cached_property
    def hypothesis_texts(self) -> list[str]:
        """(I,) tokens joined by spaces."""
        return list(map(" ".join, self.hypotheses))

    @cached_property
    def reference_texts(self) -> list[list[str]]:
        """(I,) tokens joined by spaces."""
        return [list(map(" ".join, captions)) for captions in self.references]

    @cached_property
    def _has_spaces_in_tokens(self) -> bool:
        if not self.split_tokens:
            return False
        words = set(chain.from_iterable(self.hypotheses)).union(*chain.from_iterable(self.references))
        return any(len(word.split()) != 1 for word in words)


@dataclass
class MetricResult:
    """What a metric computed.

    per_image: score → (I,) values. corpus: score → value; a score that is only in `per_image` has their mean as its
    corpus value. unavailable: score → why it could not be computed. statistics: whatever the metric's `resample`
    needs to recompute corpus values that are not means. signature: what the scores depend on besides the scored
    captions and their references; only scores with equal signatures may be compared.
    """

    per_image: dict[str, Floats] = field(default_factory=dict)
    corpus: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    statistics: Any = None
    signature: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """One metric of `METRICS`.

    compute: raises `MetricUnavailable` if the metric cannot be computed on this machine.
    scores: the names of the scores that it can give, in the order of tables.
    monitors: those of them that `trainer.monitor` may name: higher is better, and quick enough for every validation.
    percentages: those that papers print times 100; by default all.
    lower_is_better: those that are better the lower they are; of all others, higher is better.
    needs_training_captions: whether `TokenizedCaptions.training` is read. Tokenizing it takes seconds.
    needs_objects: whether `TokenizedCaptions.objects` is read. Loading it takes seconds for COCO.
    resample: for corpus scores that are not means over images: (statistics, rows, weights) → score → (S,), the
        corpus values of S bootstrap samples. rows: (I,) the images' rows in `MetricResult.statistics`; weights:
        (S, I) how often each sample contains each image.
    bootstrap_by_default: whether evaluations compute confidence intervals, which for some metrics takes minutes.
    check: raises `MetricUnavailable` if the metric cannot be computed on this machine, as `compute` would, but in
        milliseconds; None where nothing is needed.
    """

    compute: Callable[[TokenizedCaptions], MetricResult]
    scores: tuple[str, ...]
    monitors: tuple[str, ...] = ()
    percentages: tuple[str, ...] | None = None
    lower_is_better: tuple[str, ...] = ()
    needs_training_captions: bool = False
    needs_objects: bool = False
    resample: Callable[[Any, Integers, Floats], dict[str, Floats]] | None = None
    bootstrap_by_default: bool = True
    check: Callable[[], object] | None = None
