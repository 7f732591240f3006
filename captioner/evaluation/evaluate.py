"""Captions for every image of a split, as the model says them by itself, and what they score.

Nothing here sees a reference before the captions are there: no figure of this project is measured
under teacher forcing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from captioner.config import DecodeConfig, MetricConfig, TokenizerConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset, ImageId
from captioner.data.features.sources import FeatureSource
from captioner.decode import Hypothesis, search
from captioner.distributed.ranks import all_gather, all_gather_union, broadcast_from_rank0, share
from captioner.errors import DataError
from captioner.evaluation.grounding import AttendedCaption, attention_of, attention_on_references, measure_grounding
from captioner.files import write_json
from captioner.metrics import METRICS, Scores, score
from captioner.metrics.bootstrap import bootstrap_intervals
from captioner.metrics.coco_results import read_results, write_results
from captioner.metrics.format import write_per_image_csv
from captioner.metrics.grounding_scores import Grounding, grounding_record
from captioner.nn.model import CaptioningModel
from captioner.schema import to_plain
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary
from captioner.version import __version__


@dataclass(frozen=True)
class Evaluation:
    """Captions of a split, their scores, and the images that could not be read (image id → why)."""

    split: str
    captions: dict[ImageId, str]
    scores: Scores
    skipped: dict[ImageId, str]
    signature: dict[str, Any]
    notices: tuple[str, ...] = ()
    grounding: Grounding | None = None


def generate_captions(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    batch_size: int,
) -> dict[ImageId, str]:
    """Image id → caption, for every image that can be read; the model is left in the mode it was in."""
    found = generate_hypotheses(model, vocabulary, dataset, features, decode, batch_size)
    return {
        dataset.images[index].image_id: tokenizer.join(vocabulary.decode(hypothesis.tokens))
        for index, hypothesis in found.items()
    }


def generate_hypotheses(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    batch_size: int,
    *,
    with_attention: bool = False,
) -> dict[int, Hypothesis]:
    """Number of the image in the split → the search's best, for every image that can be read.

    Of several processes each captions its part of the images, and all are given all captions.
    """
    all_gather_union(features.bad)
    was_training = model.training
    model.eval()
    best: dict[int, Hypothesis] = {}
    images = share(range(len(dataset)))
    batches = [[images[i] for i in batch] for batch in sequential_batches(len(images), batch_size)]
    title = f"captions of {dataset.name} {dataset.split}"
    try:
        with (
            torch.inference_mode(),
            tqdm(
                total=len(images),
                desc=title,
                unit="image",
                leave=False,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for indices, batch in features.batches(batches):
                if not indices:
                    continue
                ids = [dataset.images[index].image_id for index in indices]
                found = search(model.decoder, batch, decode, vocabulary.special, image_ids=ids)
                for index, hypotheses in zip(indices, found, strict=True):
                    attention = hypotheses[0].attention if with_attention else None
                    best[index] = replace(hypotheses[0], attention=None if attention is None else attention.cpu())
                bar.update(len(indices))
    finally:
        model.train(was_training)
    all_gather_union(features.bad)
    everybody_s = {index: hypothesis for own in all_gather(best) for index, hypothesis in own.items()}
    return {index: everybody_s[index] for index in sorted(everybody_s)}


def score_captions(
    captions: Mapping[ImageId, str],
    dataset: CaptionDataset,
    metric: MetricConfig,
    tokenizer: TokenizerConfig,
    training_captions: Iterable[str] | None = None,
) -> Scores:
    """Scores against the split's references; images without a caption in the annotations are left out.

    `training_captions`: what a caption must differ from to be novel (for "Diversity" only).
    """
    references = {image_id: own for image_id, own in dataset.references.items() if own and image_id in captions}
    if not references:
        raise DataError(f"No image of {dataset.name}'s {dataset.split} split has a reference caption to score against.")
    hypotheses = {image_id: captions[image_id] for image_id in references}
    return score(
        hypotheses,
        references,
        names=metric.names,
        tokenizer=tokenizer,
        training_captions=training_captions,
        rare_at_most=metric.rare_at_most,
    )


def evaluate_model(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    tokenizer_config: TokenizerConfig,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    metric: MetricConfig,
    batch_size: int,
    training_captions: Iterable[str] | None = None,
) -> Evaluation:
    """Caption a whole split and score it; `training_captions` as for `score_captions`.

    With `metric.grounding` the data set must have boxes, and the model attention.
    """
    found = generate_hypotheses(
        model, vocabulary, dataset, features, decode, batch_size, with_attention=metric.grounding == "generated"
    )
    said = {index: vocabulary.decode(hypothesis.tokens) for index, hypothesis in found.items()}
    captions = {dataset.images[index].image_id: tokenizer.join(words) for index, words in said.items()}
    looked: list[AttendedCaption] = []
    if metric.grounding == "generated":
        looked = [AttendedCaption(index, words, attention_of(found[index].attention)) for index, words in said.items()]
    elif metric.grounding == "references":
        looked = attention_on_references(model, vocabulary, tokenizer, dataset, features, batch_size, decode.seed)
    scores = broadcast_from_rank0(
        lambda: score_captions(captions, dataset, metric, tokenizer_config, training_captions)
    )
    skipped = {dataset.images[index].image_id: why for index, why in features.bad.items()}
    return Evaluation(
        split=dataset.split,
        captions=captions,
        scores=scores,
        skipped=skipped,
        signature=evaluation_signature(dataset, scores, decode) | {"skipped_images": len(skipped)},
        notices=dataset.notices,
        grounding=None
        if metric.grounding is None
        else broadcast_from_rank0(lambda: measure_grounding(looked, dataset, model)),
    )


def evaluate_results(
    path: Path,
    dataset: CaptionDataset,
    tokenizer: TokenizerConfig,
    metric: MetricConfig,
    training_captions: Iterable[str] | None = None,
) -> Evaluation:
    """Score captions that somebody made: a file that `read_results` reads, with one caption an image of the split."""
    captions = read_results(path, [image.image_id for image in dataset if image.captions])
    scores = score_captions(captions, dataset, metric, tokenizer, training_captions)
    signature = evaluation_signature(dataset, scores, None) | {"results": path.name}
    return Evaluation(dataset.split, captions, scores, {}, signature, dataset.notices)


def evaluation_signature(dataset: CaptionDataset, scores: Scores, decode: DecodeConfig | None) -> dict[str, Any]:
    """All that must be equal before two sets of figures may be compared."""
    return {
        "captioner": __version__,
        "data": dataset.name,
        "split": dataset.split,
        "decode": to_plain(decode) if decode is not None else None,
        **scores.signature,
    }


def write_evaluation(
    folder: Path, evaluation: Evaluation, *, per_image: bool, extra: Mapping[str, Any] | None = None
) -> None:
    """`captions_<split>.json` (COCO's results format), `metrics.json` and on request `per_image_<split>.csv`."""
    write_results(folder / f"captions_{evaluation.split}.json", evaluation.captions)
    write_json(folder / "metrics.json", metrics_record(evaluation) | dict(extra or {}))
    if per_image:
        write_per_image_csv(folder / f"per_image_{evaluation.split}.csv", evaluation.scores, evaluation.captions)


def metrics_record(evaluation: Evaluation) -> dict[str, Any]:
    """What `metrics.json` holds: figures as unrounded fractions, why others are missing, and the signature.

    intervals: 95 % bootstrap intervals over images, of all but METEOR, whose program would run for minutes.
    """
    record: dict[str, Any] = dict(evaluation.scores.corpus)
    statistics = evaluation.scores.statistics
    quick = {name: values for name, values in statistics.items() if METRICS[name].bootstrap_by_default}
    intervals = bootstrap_intervals(replace(evaluation.scores, statistics=quick))
    record["intervals"] = {name: [interval.low, interval.high] for name, interval in intervals.items()}
    if evaluation.grounding is not None:
        for name, figure in evaluation.grounding.scores.items():
            record[name] = figure.value
            record["intervals"][name] = [figure.low, figure.high]
        record["grounding"] = grounding_record(evaluation.grounding)
    record["unavailable"] = evaluation.scores.unavailable
    record["signature"] = evaluation.signature
    if evaluation.skipped:
        record["skipped"] = {str(image_id): why for image_id, why in evaluation.skipped.items()}
    return record


def format_scores(rows: Sequence[tuple[str, Mapping[str, float]]], title: str = "") -> str:
    """A table for people, figures × 100 as papers print them; one row a system."""
    names = list(dict.fromkeys(name for _, scores in rows for name in scores))
    width = max([len(name) for name, _ in rows] + [len(title)])
    lines = [f"{title:<{width}}  " + "  ".join(f"{name:>7}" for name in names)]
    for name, scores in rows:
        cells = (f"{100 * scores[figure]:7.2f}" if figure in scores else f"{'-':>7}" for figure in names)
        lines.append(
            f"{name:<{width}}  " + "  ".join(f"{cell:>{max(7, len(n))}}" for cell, n in zip(cells, names, strict=True))
        )
    return "\n".join(lines)
