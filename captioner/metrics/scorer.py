"""Captions in, the field's figures out: the one place that knows all metrics.

To add a metric: a function from `_Captions` to `_Measured`, and one line in `METRICS`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from captioner.config import TokenizerConfig
from captioner.errors import ConfigError, DataError, choose
from captioner.metrics.bleu import BleuStatistics, bleu, bleu_statistics
from captioner.metrics.cider import SCALE, SIGMA, cider, cider_d
from captioner.metrics.coco_results import ImageId, check_same_images
from captioner.metrics.diversity import diversity, rare_word_recall, share_novel
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor import shared_meteor
from captioner.metrics.ngrams import LONGEST, CaptionTable, Floats, NgramCounts, count_ngrams, encode
from captioner.metrics.nltk_bleu import nltk_bleu_4
from captioner.metrics.rouge import BETA, rouge_l
from captioner.metrics.spice import spice
from captioner.text.tokenizers import build_tokenizer
from captioner.version import __version__

Caption = Sequence[str]  # as tokens

DEFAULT_NAMES = ("Bleu", "ROUGE_L", "CIDEr")


@dataclass(frozen=True)
class TokenScores:
    """The scores of captions that were given as tokens, in the order given.

    corpus: figure → value. per_image: figure → (I,), for the figures that an image has. unavailable: metric or
    figure → why. bleu_statistics, meteor_statistics: rows for I images, which the bootstrap draws from.
    """

    corpus: dict[str, float]
    per_image: dict[str, Floats]
    unavailable: dict[str, str] = field(default_factory=dict)
    bleu_statistics: BleuStatistics | None = field(default=None, repr=False)
    meteor_statistics: Floats | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Scores:
    """What captions scored. Fractions, unrounded: 0.2137, not 21.4 (CIDEr ranges from 0 to 10).

    corpus: figure → value: `Bleu_1` … `Bleu_4`, `ROUGE_L`, `CIDEr` (this is CIDEr-D, as COCO reports it);
        on request `CIDEr_plain`, `METEOR`, `SPICE`, `Bleu_4 (nltk)`, and those of `captioner.metrics.diversity`.
    per_image: image id → figure → value, for the figures that an image has.
    unavailable: metric or figure → why it could not be computed here; it is then in none of the others.
    signature: how the figures were made. Only figures with equal signatures may be compared.
    bleu_statistics, meteor_statistics: a row for each image of `per_image`, which the bootstrap draws from.
    """

    corpus: dict[str, float]
    per_image: dict[ImageId, dict[str, float]] = field(repr=False)
    unavailable: dict[str, str]
    signature: dict[str, Any]
    bleu_statistics: BleuStatistics | None = field(default=None, repr=False)
    meteor_statistics: Floats | None = field(default=None, repr=False)


def score(
    hypotheses: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    *,
    names: Sequence[str] = DEFAULT_NAMES,
    tokenizer: TokenizerConfig | None = None,
    training_captions: Iterable[str] | None = None,
    rare_at_most: int | None = None,
) -> Scores:
    """Score one caption an image against the captions that people wrote of it.

    Both mappings must hold the same image ids; their order does not matter. `names`: any of `METRICS`.
    `tokenizer` defaults to `ptb`, which is what the COCO evaluation uses. For "Diversity",
    `training_captions` are what a caption has to differ from to be novel, and `rare_at_most` asks for the
    recall of words that occur at most so often in them.

    An unknown name is a ConfigError. Ids that only one side has, an image without a reference and captions
    that are not text are a DataError. A metric whose program is missing is listed in `Scores.unavailable`.
    """
    _check(hypotheses, references)
    tokenize = build_tokenizer(tokenizer or TokenizerConfig())
    if "Diversity" not in names:
        training_captions = None  # nothing else reads them, and COCO's take seconds to tokenize
    image_ids = list(hypotheses)
    sizes = [len(references[image_id]) for image_id in image_ids]
    all_references = tokenize.tokenize_all([caption for image_id in image_ids for caption in references[image_id]])
    captions = _Captions(
        hypotheses=tokenize.tokenize_all([hypotheses[image_id] for image_id in image_ids]),
        references=_in_groups(all_references, sizes),
        training=None if training_captions is None else tokenize.tokenize_all(list(training_captions)),
        rare_at_most=rare_at_most,
        split_tokens=tokenize.name == "ptb",
    )
    scores = _measure(captions, names)
    columns = {figure: values.tolist() for figure, values in scores.per_image.items()}
    return Scores(
        corpus=scores.corpus,
        per_image={
            image_id: {figure: column[row] for figure, column in columns.items()}
            for row, image_id in enumerate(image_ids)
        },
        unavailable=scores.unavailable,
        signature={
            "captioner": __version__,
            "tokenizer": tokenize.name,
            "tokenizer_version": tokenize.version,
            "images": len(image_ids),
            "references": sum(sizes),
            "references_per_image": [min(sizes), max(sizes)],
            "references_sha256": _checksum(references),
            "bleu": {"max_n": LONGEST, "level": "corpus", "reference_length": "closest"},
            "rouge_l": {"beta": BETA},
            "cider": {
                "variant": "CIDEr-D",
                "max_n": LONGEST,
                "sigma": SIGMA,
                "scale": SCALE,
                "document_frequencies": "these references",
            },
        },
        bleu_statistics=scores.bleu_statistics,
        meteor_statistics=scores.meteor_statistics,
    )


def score_tokens(
    hypotheses: Sequence[Caption],
    references: Sequence[Sequence[Caption]],
    *,
    names: Sequence[str] = DEFAULT_NAMES,
    training_captions: Sequence[Caption] | None = None,
    rare_at_most: int | None = None,
) -> TokenScores:
    """As `score`, for captions that are tokenized: `references[i]`, one or more, are those of `hypotheses[i]`."""
    if not hypotheses or len(hypotheses) != len(references) or not all(references):
        raise DataError(
            f"{len(hypotheses)} hypotheses and {len(references)} lists of references: expected as many of one as of "
            "the other, at least one, and at least one reference in every list."
        )
    return _measure(_Captions(hypotheses, references, training_captions, rare_at_most), names)


@dataclass(frozen=True)
class _Captions:
    """What the metrics are computed from; n-grams are counted once, when the first metric asks.

    split_tokens: do as the official BLEU and CIDEr, which take a space inside a token (CoreNLP leaves one
    in "1 1/2") for the end of a word, where the official ROUGE-L does not.
    """

    hypotheses: Sequence[Caption]
    references: Sequence[Sequence[Caption]]
    training: Sequence[Caption] | None = None
    rare_at_most: int | None = None
    split_tokens: bool = False

    @cached_property
    def table(self) -> CaptionTable:
        if not self.has_spaces_in_tokens:
            return self.unsplit_table
        return encode(
            [" ".join(caption).split() for caption in self.hypotheses],
            [[" ".join(caption).split() for caption in captions] for captions in self.references],
        )

    @cached_property
    def ngrams(self) -> list[NgramCounts]:
        return count_ngrams(self.table)

    @cached_property
    def unsplit_table(self) -> CaptionTable:
        return encode(self.hypotheses, self.references)

    @cached_property
    def unsplit_unigrams(self) -> NgramCounts:
        return count_ngrams(self.unsplit_table, longest=1)[0] if self.has_spaces_in_tokens else self.ngrams[0]

    @cached_property
    def has_spaces_in_tokens(self) -> bool:
        if not self.split_tokens:
            return False
        words = set(chain.from_iterable(self.hypotheses)).union(*chain.from_iterable(self.references))
        return any(len(word.split()) != 1 for word in words)

    @cached_property
    def hypothesis_texts(self) -> list[str]:
        return list(map(" ".join, self.hypotheses))

    @cached_property
    def reference_texts(self) -> list[list[str]]:
        return [list(map(" ".join, captions)) for captions in self.references]


@dataclass
class _Measured:
    """What one metric gives. Where it gives values per image and no corpus value, that is their mean."""

    per_image: dict[str, Floats] = field(default_factory=dict)
    corpus: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    bleu_statistics: BleuStatistics | None = None
    meteor_statistics: Floats | None = None


def _bleu(captions: _Captions) -> _Measured:
    statistics = bleu_statistics(captions.table, captions.ngrams)
    names = [f"Bleu_{n}" for n in range(1, LONGEST + 1)]
    return _Measured(
        per_image=dict(zip(names, bleu(statistics).T, strict=True)),
        corpus=dict(zip(names, bleu(statistics.total()).tolist(), strict=True)),
        bleu_statistics=statistics,
    )


def _rouge_l(captions: _Captions) -> _Measured:
    return _Measured({"ROUGE_L": rouge_l(captions.unsplit_table, captions.unsplit_unigrams)})


def _cider_d(captions: _Captions) -> _Measured:
    return _Measured({"CIDEr": cider_d(captions.table, captions.ngrams)})


def _cider_plain(captions: _Captions) -> _Measured:
    return _Measured({"CIDEr_plain": cider(captions.table, captions.ngrams)})


def _meteor(captions: _Captions) -> _Measured:
    statistics = shared_meteor().statistics(captions.hypothesis_texts, captions.reference_texts)
    per_image, corpus = shared_meteor().evaluate(statistics)
    return _Measured({"METEOR": per_image}, {"METEOR": corpus}, meteor_statistics=statistics)


def _spice(captions: _Captions) -> _Measured:
    return _Measured({"SPICE": spice(captions.hypothesis_texts, captions.reference_texts)})


def _bleu_nltk(captions: _Captions) -> _Measured:
    return _Measured(corpus={"Bleu_4 (nltk)": nltk_bleu_4(captions.hypotheses, captions.references)})


def _diversity(captions: _Captions) -> _Measured:
    measured = _Measured(corpus=diversity(captions.hypotheses))
    if captions.training is None:
        measured.unavailable["Novel"] = "it needs the training captions (`training_captions`), which were not given"
        return measured
    measured.corpus["Novel"] = share_novel(captions.hypotheses, captions.training)
    if captions.rare_at_most is not None:
        recall = rare_word_recall(captions.hypotheses, captions.references, captions.training, captions.rare_at_most)
        if recall is None:
            measured.unavailable["Rare_recall"] = "no reference holds a rare word"
        else:
            measured.corpus["Rare_recall"] = recall
    return measured


METRICS: dict[str, Callable[[_Captions], _Measured]] = {
    "Bleu": _bleu,
    "ROUGE_L": _rouge_l,
    "CIDEr": _cider_d,
    "CIDEr_plain": _cider_plain,
    "METEOR": _meteor,
    "SPICE": _spice,
    "Bleu_nltk": _bleu_nltk,
    "Diversity": _diversity,
}


def _measure(captions: _Captions, names: Sequence[str]) -> TokenScores:
    if isinstance(names, str):
        raise ConfigError(f"metric.names={names!r} is one string: expected a list of names, such as [{names!r}].")
    for name in names:
        choose("metric.names", name, METRICS)
    if captions.rare_at_most is not None and captions.training is None:
        raise ConfigError("Recall of rare words needs the training captions, in which rare words are counted.")
    corpus: dict[str, float] = {}
    per_image: dict[str, Floats] = {}
    unavailable: dict[str, str] = {}
    of_bleu, of_meteor = None, None
    for name in dict.fromkeys(names):
        try:
            measured = METRICS[name](captions)
        except MetricUnavailable as error:
            unavailable[name] = str(error)
            continue
        per_image |= measured.per_image
        # The exactly rounded sum: it does not depend on the order of the images.
        means = {figure: math.fsum(values) / len(values) for figure, values in measured.per_image.items()}
        corpus |= means | measured.corpus
        unavailable |= measured.unavailable
        of_bleu = measured.bleu_statistics if of_bleu is None else of_bleu
        of_meteor = measured.meteor_statistics if of_meteor is None else of_meteor
    return TokenScores(corpus, per_image, unavailable, of_bleu, of_meteor)


def _in_groups(captions: list[list[str]], sizes: Sequence[int]) -> list[list[list[str]]]:
    ends = np.cumsum(sizes).tolist()
    return [captions[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _checksum(references: Mapping[ImageId, Sequence[str]]) -> str:
    """Of the references' text, whatever the order of the images."""
    digest = hashlib.sha256()
    for image_id in sorted(references, key=repr):
        digest.update(repr((image_id, list(references[image_id]))).encode())
    return digest.hexdigest()


def _check(hypotheses: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]]) -> None:
    if not references:
        raise DataError("There are no references to score captions against.")
    check_same_images(hypotheses, references, "The captions")
    for image_id, caption in hypotheses.items():
        if not isinstance(caption, str):
            raise DataError(f"The caption of image {image_id!r} is {caption!r:.80}: expected one string.")
    for image_id, captions in references.items():
        if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
            raise DataError(f"The references of image {image_id!r} are {captions!r:.80}: expected a list of strings.")
        if not captions:
            raise DataError(f"Image {image_id!r} has no references: give it at least one, or leave it out.")
