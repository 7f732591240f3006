"""Score captions against references with the metrics of `captioner.metrics.registry.METRICS`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captioner.config import MeteorConfig, TokenizerConfig
from captioner.errors import ConfigError, DataError
from captioner.metrics.cider import SCALE, SIGMA
from captioner.metrics.coco_results import ImageId, check_same_images
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.metric import Caption, TokenizedCaptions
from captioner.metrics.ngrams import LONGEST, Floats
from captioner.metrics.registry import METRICS, VALIDATION_METRICS, check_names
from captioner.metrics.rouge import BETA
from captioner.text.object_words import ImageObjects
from captioner.text.tokenizers import Tokenizer, build_tokenizer
from captioner.version import __version__


@dataclass(frozen=True)
class TokenScores:
    """The scores of tokenized captions, in the order in which the captions were given.

    corpus: score → value. per_image: score → (I,) values, for the scores that single images have.
    unavailable: metric or score → why it could not be computed.
    means: the scores whose corpus value is the mean over images.
    statistics: metric → what its `resample` needs, with one row per image.
    signatures: metric in lower case → `MetricResult.signature`, for those that have one.
    """

    corpus: dict[str, float]
    per_image: dict[str, Floats]
    unavailable: dict[str, str] = field(default_factory=dict)
    means: list[str] = field(default_factory=list, repr=False)
    statistics: dict[str, Any] = field(default_factory=dict, repr=False)
    signatures: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Scores:
    """The scores of captions. Fractions, unrounded: 0.2137, not 21.4 (CIDEr ranges from 0 to 10).

    corpus: score → value: `Bleu_1` … `Bleu_4`, `ROUGE_L`, `CIDEr` (this is CIDEr-D, as COCO reports it);
        on request `CIDEr_plain`, `METEOR`, `SPICE`, `Bleu_4 (nltk)`, and those of `captioner.metrics.diversity` and
        `captioner.metrics.fluency`.
    per_image: image id → score → value, for the scores that single images have.
    unavailable: metric or score → why it could not be computed here; it is then in none of the others.
    signature: how the scores were computed. Only scores with equal signatures may be compared.
    means, statistics: as in `TokenScores`, for the bootstrap; rows of statistics in the order of `per_image`.
    without_words: how many of the captions have no token: they are empty, or punctuation that the tokenizer removes.
    """

    corpus: dict[str, float]
    per_image: dict[ImageId, dict[str, float]] = field(repr=False)
    unavailable: dict[str, str]
    signature: dict[str, Any]
    means: list[str] = field(default_factory=list, repr=False)
    statistics: dict[str, Any] = field(default_factory=dict, repr=False)
    without_words: int = 0


def score(
    hypotheses: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    *,
    names: Sequence[str] = VALIDATION_METRICS,
    tokenizer: TokenizerConfig | None = None,
    training_captions: Iterable[str] | None = None,
    rare_at_most: int | None = None,
    objects: ImageObjects | None = None,
    meteor: MeteorConfig | None = None,
    sets: Mapping[ImageId, Sequence[str]] | None = None,
) -> Scores:
    """Score one generated caption per image against the image's reference captions.

    hypotheses: image id → caption; references: image id → one or more captions. Both must have the same image ids,
    in any order. names: any of `METRICS`. tokenizer: by default `ptb`, which the COCO evaluation uses.
    training_captions, rare_at_most: for "Diversity": captions that are equal to one of the training captions are not
    novel, and words that occur in them at most `rare_at_most` times are rare (None: no recall of rare words). For
    "Fluency": the captions of its statistics (None: the references). objects: for "CHAIR": the annotated objects of
    every image. meteor: for "METEOR": by default without Java. sets: for "Caption_sets": image id → the n ≥ 2 captions
    of every image, its hypothesis first.

    Raises ConfigError for an unknown name; DataError for ids that only one side has, an image without a reference,
    and captions that are not text. A metric whose program is missing is listed in `Scores.unavailable`.
    """
    _check(hypotheses, references)
    tokenize = build_tokenizer(tokenizer or TokenizerConfig())
    check_names(names)
    if not any(METRICS[name].needs_training_captions for name in names):
        training_captions = None  # COCO's take seconds to tokenize
    image_ids = list(hypotheses)
    sizes = [len(references[image_id]) for image_id in image_ids]
    all_references = tokenize.tokenize_all([caption for image_id in image_ids for caption in references[image_id]])
    captions = TokenizedCaptions(
        hypotheses=tokenize.tokenize_all([hypotheses[image_id] for image_id in image_ids]),
        references=_in_groups(all_references, sizes),
        training=None if training_captions is None else tokenize.tokenize_all(list(training_captions)),
        rare_at_most=rare_at_most,
        split_tokens=tokenize.name == "ptb",
        objects=None if objects is None else [objects.labels.get(image_id, ()) for image_id in image_ids],
        object_names=None if objects is None else objects.names,
        objects_source=None if objects is None else objects.source,
        meteor_backend=(meteor or MeteorConfig()).backend,
        sets=None if sets is None else _tokenized_sets(sets, hypotheses, tokenize),
    )
    scores = _compute(captions, names)
    columns = {name: values.tolist() for name, values in scores.per_image.items()}
    return Scores(
        corpus=scores.corpus,
        per_image={
            image_id: {name: column[row] for name, column in columns.items()} for row, image_id in enumerate(image_ids)
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
            **scores.signatures,
        },
        means=scores.means,
        statistics=scores.statistics,
        without_words=sum(not words for words in captions.hypotheses),
    )


def score_tokens(
    hypotheses: Sequence[Caption],
    references: Sequence[Sequence[Caption]],
    *,
    names: Sequence[str] = VALIDATION_METRICS,
    training_captions: Sequence[Caption] | None = None,
    rare_at_most: int | None = None,
) -> TokenScores:
    """Score captions that are tokenized already.

    hypotheses: (I,) captions; references: (I,) one or more captions for each of them. names, training_captions,
    rare_at_most: see `score`. Raises ConfigError for an unknown name, DataError for lists of different lengths.
    """
    if not hypotheses or len(hypotheses) != len(references) or not all(references):
        raise DataError(
            f"{len(hypotheses)} hypotheses and {len(references)} lists of references: expected as many of one as of "
            "the other, at least one, and at least one reference in every list."
        )
    return _compute(TokenizedCaptions(hypotheses, references, training_captions, rare_at_most), names)


def _compute(captions: TokenizedCaptions, names: Sequence[str]) -> TokenScores:
    """Compute the metrics `names`, each once, in this order."""
    check_names(names)
    if captions.rare_at_most is not None and captions.training is None:
        raise ConfigError("Recall of rare words needs the training captions, in which rare words are counted.")
    scores = TokenScores({}, {})
    for name in dict.fromkeys(names):
        try:
            result = METRICS[name].compute(captions)
        except MetricUnavailable as error:
            scores.unavailable[name] = str(error)
            continue
        _check_new(name, {**result.per_image, **result.corpus}, scores)
        scores.per_image.update(result.per_image)
        # The exactly rounded sum: it does not depend on the order of the images.
        means = {score: math.fsum(values) / len(values) for score, values in result.per_image.items()}
        scores.corpus.update(means | result.corpus)
        scores.unavailable.update(result.unavailable)
        scores.means.extend(score for score in means if score not in result.corpus)
        if result.statistics is not None:
            scores.statistics[name] = result.statistics
        if result.signature:
            scores.signatures[name.lower()] = result.signature
    return scores


def _check_new(name: str, computed: Iterable[str], scores: TokenScores) -> None:
    """ConfigError if the metric `name` computed a score that an earlier metric has computed."""
    for score_name in computed:
        if score_name in scores.corpus:
            raise ConfigError(
                f"The metric {name} computed the score {score_name!r}, which a metric before it has computed, too: "
                "give it another name, and list it in Metric.scores."
            )


def _in_groups(captions: list[list[str]], sizes: Sequence[int]) -> list[list[list[str]]]:
    ends = np.cumsum(sizes).tolist()
    return [captions[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _tokenized_sets(
    sets: Mapping[ImageId, Sequence[str]], hypotheses: Mapping[ImageId, str], tokenizer: Tokenizer
) -> list[list[list[str]]]:
    """The captions of the images of `hypotheses`; DataError unless all have as many, two or more."""
    check_same_images(sets, hypotheses, "The sets of captions")
    of_images = [list(sets[image_id]) for image_id in hypotheses]
    sizes = sorted({len(of_image) for of_image in of_images})
    if sizes[0] < 2 or len(sizes) > 1:
        raise DataError(
            f"The images have {' or '.join(map(str, sizes))} captions: expected one number for all, at least 2."
        )
    tokens = tokenizer.tokenize_all([caption for of_image in of_images for caption in of_image])
    return _in_groups(tokens, [sizes[0]] * len(of_images))


def _checksum(references: Mapping[ImageId, Sequence[str]]) -> str:
    """SHA-256 of the references' text; it does not depend on the order of the images."""
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
