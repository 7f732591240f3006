"""The scores of the captions of a split: what an evaluation is, how captions are scored, and what is written.

Nothing here imports torch: captions from a file are scored without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from captioner.config import DecodeConfig, MeteorConfig, MetricConfig, TokenizerConfig
from captioner.data.dataset import CaptionDataset, ImageId
from captioner.errors import DataError
from captioner.evaluation.scoring_tokenizer import UNSPACED, scoring_tokenizer
from captioner.files import write_json
from captioner.metrics import METRICS, Scores, score
from captioner.metrics.bootstrap import bootstrap_intervals
from captioner.metrics.coco_results import read_results, write_results
from captioner.metrics.format import score_notices, write_per_image_csv
from captioner.metrics.grounding_scores import Grounding, grounding_record
from captioner.metrics.registry import print_factor
from captioner.schema import to_plain
from captioner.text.scripts import mostly_unspaced
from captioner.version import __version__


@dataclass(frozen=True)
class ReferenceLoss:
    """The loss of a model on the reference captions of a split: their −log-probability in nats, and their tokens."""

    nats: float
    tokens: int

    @property
    def scores(self) -> dict[str, float]:
        """`loss`: nats per token; `perplexity`: exp(loss)."""
        loss = self.nats / self.tokens
        return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}


@dataclass(frozen=True)
class Evaluation:
    """The generated captions of a split and their scores.

    skipped: image id → why the image could not be read. signature: all that must be equal for scores to be comparable.
    reference_loss: that of the model which generated the captions; None without a model or without references.
    caption_sets: the n captions of each image, that of `captions` first; None where there is one per image.
    """

    split: str
    captions: dict[ImageId, str]
    scores: Scores
    skipped: dict[ImageId, str]
    signature: dict[str, Any]
    notices: tuple[str, ...] = ()
    grounding: Grounding | None = None
    reference_loss: ReferenceLoss | None = None
    caption_sets: dict[ImageId, list[str]] | None = None

    @property
    def table_row(self) -> dict[str, float]:
        """What a table of scores shows: the corpus scores, and the loss and perplexity of the references."""
        return self.scores.corpus | ({} if self.reference_loss is None else self.reference_loss.scores)


def score_captions(
    captions: Mapping[ImageId, str],
    dataset: CaptionDataset,
    metric: MetricConfig,
    tokenizer: TokenizerConfig,
    training_captions: Iterable[str] | None = None,
    meteor: MeteorConfig | None = None,
    sets: Mapping[ImageId, Sequence[str]] | None = None,
) -> Scores:
    """Score captions against the split's references; images without references are left out.

    captions: image id → generated caption. tokenizer: the model's; see `scoring_tokenizer` for which one scores.
    training_captions: for metrics that need them, such as "Diversity". sets: all captions of each image, see `score`.
    Raises DataError if no image has a reference.
    """
    references = {
        image_id: of_image for image_id, of_image in dataset.references.items() if of_image and image_id in captions
    }
    if not references:
        raise DataError(f"No image of {dataset.name}'s {dataset.split} split has a reference caption to score against.")
    hypotheses = {image_id: captions[image_id] for image_id in references}
    return score(
        hypotheses,
        references,
        names=metric.names,
        tokenizer=scoring_tokenizer(metric, tokenizer, (text for texts in references.values() for text in texts)),
        training_captions=training_captions,
        rare_at_most=metric.rare_at_most,
        objects=dataset.objects,
        meteor=meteor,
        sets=None if sets is None else {image_id: sets[image_id] for image_id in references},
    )


def has_references(dataset: CaptionDataset) -> bool:
    """Whether any image of the split has a reference caption; those of test servers have none."""
    return any(image.captions for image in dataset)


def without_references(captions: Mapping[ImageId, str], metric: MetricConfig) -> Scores:
    """What is known of captions that have no references: no metric is available."""
    signature = {"captioner": __version__, "images": len(captions), "references": 0}
    return Scores({}, {}, dict.fromkeys(metric.names, "no references"), signature)


def evaluate_results(
    path: Path,
    dataset: CaptionDataset,
    tokenizer: TokenizerConfig,
    metric: MetricConfig,
    training_captions: Iterable[str] | None = None,
    meteor: MeteorConfig | None = None,
    *,
    subset: bool = False,
) -> Evaluation:
    """Score the captions in a file that `read_results` reads: one per image of the split that has references.

    subset: the file may have captions of some of these images only. The signature then says of how many.
    """
    image_ids = [image.image_id for image in dataset if image.captions]
    captions = read_results(path, image_ids, subset=subset)
    scores = score_captions(captions, dataset, metric, tokenizer, training_captions, meteor)
    if len(captions) < len(image_ids):
        scores.signature["subset"] = f"{len(captions):,} of {len(image_ids):,} images"
    signature = evaluation_signature(dataset, scores, None) | {"results": path.name}
    notices = (*dataset.notices, *score_notices(scores), *_units_notice(scores, dataset))
    return Evaluation(dataset.split, captions, scores, {}, signature, notices)


def _units_notice(scores: Scores, dataset: CaptionDataset) -> list[str]:
    """That captions in a script without spaces were divided at spaces, so that whole phrases were compared."""
    name = scores.signature["tokenizer"]
    if name == UNSPACED or not mostly_unspaced(caption for image in dataset for caption in image.captions):
        return []
    return [
        f"Most letters of the reference captions are in a script without spaces, and tokenizer={name} divides at "
        f"spaces: where the words are not separated, set tokenizer={UNSPACED}."
    ]


def evaluation_signature(dataset: CaptionDataset, scores: Scores, decode: DecodeConfig | None) -> dict[str, Any]:
    """All that must be equal for two sets of scores to be comparable."""
    return {
        "captioner": __version__,
        "data": dataset.name,
        "split": dataset.split,
        "decode": to_plain(decode) if decode is not None else None,
        **scores.signature,
    }


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    *,
    per_image: bool,
    extra: Mapping[str, Any] | None = None,
    metrics_file: str = "metrics.json",
) -> None:
    """Write `captions_<split>.json` (COCO's results format), `metrics.json` and, if `per_image`, a CSV file.

    Where images have several captions, `caption_sets_<split>.json` has them all: [{"image_id": …, "captions": […]}].

    extra: more entries for `metrics.json`; metrics_file: another name for it. Raises OSError.
    """
    write_results(folder / f"captions_{evaluation.split}.json", evaluation.captions)
    if evaluation.caption_sets is not None:
        sets = [{"image_id": key, "captions": captions} for key, captions in evaluation.caption_sets.items()]
        write_json(folder / f"caption_sets_{evaluation.split}.json", sets)
    write_json(folder / metrics_file, metrics_record(evaluation) | dict(extra or {}))
    if per_image:
        write_per_image_csv(folder / f"per_image_{evaluation.split}.csv", evaluation.scores, evaluation.captions)


def metrics_record(evaluation: Evaluation) -> dict[str, Any]:
    """The content of `metrics.json`: scores as unrounded fractions, why others are unavailable, and the signature.

    intervals: 95 % bootstrap intervals over images, except for METEOR_java, whose program would run for minutes.
    """
    record: dict[str, Any] = dict(evaluation.table_row)
    intervals = {}
    if evaluation.scores.per_image:
        statistics = evaluation.scores.statistics
        quick = {name: values for name, values in statistics.items() if METRICS[name].bootstrap_by_default}
        intervals = bootstrap_intervals(replace(evaluation.scores, statistics=quick))
    record["intervals"] = {name: [interval.low, interval.high] for name, interval in intervals.items()}
    if evaluation.grounding is not None:
        for name, interval in evaluation.grounding.scores.items():
            record[name] = interval.value
            record["intervals"][name] = [interval.low, interval.high]
        record["grounding"] = grounding_record(evaluation.grounding)
    record["unavailable"] = evaluation.scores.unavailable
    record["signature"] = evaluation.signature
    if "subset" in evaluation.signature:
        record["subset"] = evaluation.signature["subset"]
    if evaluation.skipped:
        record["skipped"] = {str(image_id): why for image_id, why in evaluation.skipped.items()}
    return record


def format_scores(rows: Sequence[tuple[str, Mapping[str, float]]], title: str = "") -> str:
    """A text table of scores, times 100 unless they are lengths or counts, with one row per system."""
    names = list(dict.fromkeys(name for _, scores in rows for name in scores))
    factors = {name: print_factor(name) for name in names}
    width = max([len(name) for name, _ in rows] + [len(title)])
    lines = [f"{title:<{width}}  " + "  ".join(f"{name:>7}" for name in names)]
    for name, scores in rows:
        values = (f"{factors[column] * scores[column]:7.2f}" if column in scores else f"{'-':>7}" for column in names)
        lines.append(
            f"{name:<{width}}  "
            + "  ".join(f"{value:>{max(7, len(n))}}" for value, n in zip(values, names, strict=True))
        )
    return "\n".join(lines)
