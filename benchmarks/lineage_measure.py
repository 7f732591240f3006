"""What `lineage.py` measures of a finished run: seconds per caption, and CHAIR and grounding where there are boxes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.index import find_checkpoint
from captioner.cli.hydra_config import compose_train_settings
from captioner.config import CacheConfig, CocoConfig, DataConfig, MetricConfig, ScenesConfig
from captioner.data.datasets.registry import add_boxes, add_objects, check_has_boxes, load_dataset
from captioner.data.features.sources import open_features
from captioner.decode import search
from captioner.evaluation.evaluate import evaluate_model
from captioner.files import write_json

CAPTIONED = 50  # photos, to time captions


def measure(run: Path, arguments: argparse.Namespace) -> None:
    """Write lineage.json into the folder of a run; a file that lacks what was asked for since is completed."""
    path = run / "lineage.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    boxes = data_with_boxes(arguments)
    lacks_boxes = boxes is not None and "CHAIR_s" not in found
    if found and not lacks_boxes:
        return
    loaded = load_checkpoint(find_checkpoint(run))
    if not found:
        found["seconds_per_caption"] = seconds_per_caption(loaded, arguments)
    if boxes is not None and lacks_boxes:
        found |= objects_scores(loaded, boxes, cache_of(arguments))
    write_json(path, found)


def timed(function: Callable[[], object]) -> float:
    """Seconds of processor time."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def seconds_per_caption(loaded: LoadedCheckpoint, arguments: argparse.Namespace) -> float:
    """Processor time of the search for 50 images together, from cached features: the best of three."""
    data = data_of(arguments)
    dataset = load_dataset(replace(data, limit=CAPTIONED), "val")
    features = open_features(
        dataset, loaded.model.encoder, with_grid=loaded.model.needs_grid, data=data, cache=cache_of(arguments),
        device=torch.device("cpu"),
    )  # fmt: skip
    (indices, batch), *_ = features.batches([list(range(len(dataset)))])
    decoder: Any = loaded.model.decoder
    special = loaded.vocabulary.special
    return min(timed(lambda: search(decoder, batch, loaded.settings.decode, special)) for _ in range(3)) / len(indices)


def objects_scores(loaded: LoadedCheckpoint, data: DataConfig, cache: CacheConfig) -> dict[str, Any]:
    """CHAIR of the run's captions on val and, of a captioner with attention, grounding on the reference captions."""
    decoder: Any = loaded.model.decoder
    dataset = add_objects(data, add_boxes(data, load_dataset(data, "val")))
    features = open_features(
        dataset, loaded.model.encoder, with_grid=loaded.model.needs_grid, data=data, cache=cache,
        device=torch.device("cpu"),
    )  # fmt: skip
    evaluation = evaluate_model(
        loaded.model,
        loaded.vocabulary,
        loaded.tokenizer(),
        loaded.settings.tokenizer,
        dataset,
        features,
        loaded.settings.decode,
        MetricConfig(names=["CHAIR"], grounding="references" if decoder.attends else None),
        batch_size=CAPTIONED,
    )
    corpus = evaluation.scores.corpus
    found: dict[str, Any] = {name: value for name, value in corpus.items() if name.startswith("CHAIR")}
    if (grounding := evaluation.grounding) is not None:
        found["Grounding"] = grounding.attention.value
        found["Grounding_95"] = [grounding.attention.low, grounding.attention.high]  # over images
        found["uniform"] = grounding.uniform.value  # equal weights for all regions: the boxes' area
    return found


def data_with_boxes(arguments: argparse.Namespace) -> DataConfig | None:
    """COCO with boxes where it was given; else the data set of the runs, where its objects have boxes."""
    if arguments.coco is not None:
        return CocoConfig(root=str(arguments.coco))
    data = data_of(arguments)
    return data if isinstance(data, ScenesConfig) else None


def check_boxes(arguments: argparse.Namespace) -> None:
    """DataError where `--coco` names a folder without boxes: before the first run, not after it."""
    if arguments.coco is not None:
        check_has_boxes(CocoConfig(root=str(arguments.coco)), "val")


def data_of(arguments: argparse.Namespace) -> DataConfig:
    """The data set of all runs."""
    root = [f"data.root={arguments.data_root}"] if arguments.data_root else []
    more = [option for option in arguments.set if option.startswith("data.")]
    return compose_train_settings([f"data={arguments.data}", *root, *more]).data


def cache_of(arguments: argparse.Namespace) -> CacheConfig:
    return compose_train_settings([option for option in arguments.set if option.startswith("cache.")]).cache
