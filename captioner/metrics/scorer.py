"""Captions in, the field's figures out: the one place that knows all metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

import captioner
from captioner.config import TokenizerConfig
from captioner.errors import DataError, choose
from captioner.metrics.bleu import BleuStatistics, bleu, bleu_statistics
from captioner.metrics.cider import SCALE, SIGMA, cider, cider_d
from captioner.metrics.ngrams import LONGEST, CaptionTable, Floats, NgramCounts, count_ngrams, encode
from captioner.metrics.rouge import BETA, rouge_l
from captioner.text.tokenizers import build_tokenizer

ImageId = int | str

NAMES = ("Bleu", "ROUGE_L", "CIDEr", "CIDEr_plain")
DEFAULT_NAMES = ("Bleu", "ROUGE_L", "CIDEr")
NAMED_IN_ERRORS = 5  # image ids that a message lists


@dataclass(frozen=True)
class Scores:
    """What a set of captions scored. Fractions, unrounded: 0.2137, not 21.4 (CIDEr ranges to 10).

    corpus: figure → value: `Bleu_1` … `Bleu_4`, `ROUGE_L`, `CIDEr` (CIDEr-D, as COCO reports it), and
        on request `CIDEr_plain`.
    per_image: image id → figure → value.
    unavailable: metric → why it could not be computed here.
    signature: how the figures were made: all that must be equal before two of them may be compared.
    """

    corpus: dict[str, float]
    per_image: dict[ImageId, dict[str, float]]
    unavailable: dict[str, str]
    signature: dict[str, Any]
    bleu_statistics: BleuStatistics | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TokenScores:
    """The scores of tokenized captions: corpus values, and per image an array in the order given."""

    corpus: dict[str, float]
    per_image: dict[str, Floats]
    bleu_statistics: BleuStatistics | None = None


def score(
    hypotheses: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    *,
    names: Sequence[str] = DEFAULT_NAMES,
    tokenizer: TokenizerConfig | None = None,
) -> Scores:
    """Score one caption an image against the captions people wrote.

    Both mappings must hold the same image ids (int or str); an id that only one has, an image without a
    reference and a value of the wrong kind are a DataError, an unknown name a ConfigError. `tokenizer`
    defaults to `ptb`, as the COCO evaluation has it. The images' order does not matter.
    """
    for name in names:
        choose("metric.names", name, NAMES)
    _check(hypotheses, references)
    tokenize = build_tokenizer(tokenizer or TokenizerConfig())
    image_ids = list(hypotheses)
    sizes = [len(references[image_id]) for image_id in image_ids]
    hypothesis_tokens = tokenize.tokenize_all([hypotheses[image_id] for image_id in image_ids])
    flat = tokenize.tokenize_all([caption for image_id in image_ids for caption in references[image_id]])
    ends = np.cumsum(sizes).tolist()
    reference_tokens = [flat[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    scores = score_tokens(hypothesis_tokens, reference_tokens, names=names)
    columns = [values.tolist() for values in scores.per_image.values()]
    rows = zip(*columns, strict=True) if columns else ([] for _ in image_ids)
    return Scores(
        corpus=scores.corpus,
        per_image={
            image_id: dict(zip(scores.per_image, row, strict=True))
            for image_id, row in zip(image_ids, rows, strict=True)
        },
        unavailable={},
        signature={
            "captioner": captioner.__version__,
            "tokenizer": tokenize.name,
            "tokenizer_version": tokenize.version,
            "images": len(image_ids),
            "references": sum(sizes),
            "references_per_image": [min(sizes), max(sizes)],
            "ngrams": LONGEST,
            "bleu_reference_length": "closest",
            "rouge_beta": BETA,
            "cider": "CIDEr-D",
            "cider_sigma": SIGMA,
            "cider_scale": SCALE,
            "cider_document_frequencies": "the scored images' references",
        },
        bleu_statistics=scores.bleu_statistics,
    )


def score_tokens(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    names: Sequence[str] = DEFAULT_NAMES,
) -> TokenScores:
    """As `score`, for captions that are tokenized: `references[i]` are those of `hypotheses[i]`, one or more."""
    if not hypotheses or len(hypotheses) != len(references) or not all(references):
        raise DataError(
            f"{len(hypotheses)} hypotheses and {len(references)} lists of references: expected as many of one as of "
            "the other, at least one, and at least one reference in every list."
        )
    captions = _Counted(hypotheses, references)
    per_image: dict[str, Floats] = {}
    corpus: dict[str, float] = {}
    statistics = None
    if "Bleu" in names:
        statistics = bleu_statistics(captions.table, captions.ngrams)
        of_images, of_corpus = bleu(statistics), bleu(statistics.total())
        for order in range(LONGEST):
            per_image[f"Bleu_{order + 1}"] = of_images[:, order]
            corpus[f"Bleu_{order + 1}"] = float(of_corpus[order])
    if "ROUGE_L" in names:
        per_image["ROUGE_L"] = rouge_l(captions.table, captions.ngrams[0])
    if "CIDEr" in names:
        per_image["CIDEr"] = cider_d(captions.table, captions.ngrams)
    if "CIDEr_plain" in names:
        per_image["CIDEr_plain"] = cider(captions.table, captions.ngrams)
    for name, values in per_image.items():
        corpus.setdefault(name, math.fsum(values) / len(values))
    return TokenScores(corpus, per_image, statistics)


@dataclass(frozen=True)
class _Counted:
    """Captions and what is counted in them, once, when the first metric asks."""

    hypotheses: Sequence[Sequence[str]]
    references: Sequence[Sequence[Sequence[str]]]

    @cached_property
    def table(self) -> CaptionTable:
        return encode(self.hypotheses, self.references)

    @cached_property
    def ngrams(self) -> list[NgramCounts]:
        return count_ngrams(self.table)


def _check(hypotheses: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]]) -> None:
    missing = [image_id for image_id in references if image_id not in hypotheses]
    unknown = [image_id for image_id in hypotheses if image_id not in references]
    if missing or unknown:
        raise DataError(
            "Captions and references are not of the same images: "
            + " and ".join(
                f"{len(ids)} image ids {what} ({_listed(ids)})"
                for ids, what in ((missing, "have no caption"), (unknown, "have no references"))
                if ids
            )
            + "."
        )
    if not hypotheses:
        raise DataError("There are no captions to score.")
    for image_id, caption in hypotheses.items():
        if not isinstance(caption, str):
            raise DataError(f"The caption of image {image_id!r} is {type(caption).__name__}: expected one string.")
    for image_id, captions in references.items():
        if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
            raise DataError(f"The references of image {image_id!r} are not a list of strings: {captions!r:.80}.")
        if not captions:
            raise DataError(f"Image {image_id!r} has no references: give at least one, or leave the image out.")


def _listed(image_ids: Sequence[ImageId]) -> str:
    shown = ", ".join(repr(image_id) for image_id in image_ids[:NAMED_IN_ERRORS])
    return shown if len(image_ids) <= NAMED_IN_ERRORS else f"{shown}, …"
