"""Cost and savings of the feature cache.

    python benchmarks/cache.py /data/flickr8k --images 500 1000 2000 --threads 1

Fills new caches with the grids of these numbers of images (reading, decoding, encoding, writing, in one process), fits
a line to the times and extrapolates it to the 123,287 images of COCO; trains the same model with a frozen encoder from
pixels and from the cache; and records the memory during five epochs of training and validation from the cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from measure import report
from process_memory import memory_of

from captioner.config import (
    AttentionConfig,
    CacheConfig,
    Flickr8kConfig,
    ModelConfig,
    RecurrentConfig,
    TrainConfig,
    TrainerConfig,
)
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.cache import encoding_speed, fill_cache, plan_cache
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.training import loop
from captioner.training.run import Run
from captioner.training.setup import prepare
from captioner.training.step import train_step, training_batches

COCO, FLICKR8K_TRAIN = 123_287, 6_000  # images
CPU = torch.device("cpu")
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result of `work`, its wall-clock seconds, and its processor seconds, which other load affects less."""
    start, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - processor


def fill_times(config: TrainConfig, counts: list[int], folder: Path) -> dict[str, Any]:
    """Seconds to fill caches, the fitted line, and its extrapolation to COCO."""
    encoder = build_encoder(config.encoder).eval()
    rows = []
    for count in counts:
        data = replace(config.data, limit=count)
        cache = CacheConfig(directory=str(folder / f"fill-{count}"))
        dataset = load_dataset(data, "train")
        plan = plan_cache(dataset, encoder, with_grid=True, cache=cache, data=data)
        estimate = encoding_speed(plan, encoder, data, CPU)
        _, seconds, processor = timed(lambda plan=plan, data=data: fill_cache(plan, encoder, data, CPU))
        vectors = plan_cache(dataset, encoder, with_grid=False, cache=cache, data=data)
        _, _, derived = timed(lambda plan=vectors, data=data: fill_cache(plan, encoder, data, CPU))
        rows.append(
            {
                "images": count,
                "seconds": round(seconds, 1),
                "processor_seconds": round(processor, 1),
                "estimated_seconds": None if estimate is None else round(count / estimate, 1),
                "vectors_from_grids_processor_seconds": round(derived, 2),
                "grid_bytes_per_image": round(size(plan.shards.path) / count),
                "vector_bytes_per_image": round(size(vectors.shards.path) / count),
            }
        )
    slope, start = np.polyfit([row["images"] for row in rows], [row["processor_seconds"] for row in rows], 1)
    last = rows[-1]
    return {
        "fills": rows,
        "images_per_second": round(last["images"] / last["seconds"], 1),
        "images_per_processor_second": round(1 / slope, 1),
        "line": {"milliseconds_per_image": round(1000 * slope, 2), "seconds_at_the_start": round(start, 2)},
        "coco": {
            "images": COCO,
            "hours_of_one_processor": round(slope * COCO / 3600, 2),
            "grid_gb": round(COCO * last["grid_bytes_per_image"] / 1e9, 2),
            "vector_gb": round(COCO * last["vector_bytes_per_image"] / 1e9, 2),
        },
    }


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def epoch_times(config: TrainConfig, model: ModelConfig, folder: Path) -> dict[str, Any]:
    """Epochs of Flickr8k's 6,000 training images per hour, and the differences of the losses in one epoch."""
    found: dict[str, Any] = {}
    losses = {}
    for name, cache in (("cache", config.cache), ("pixels", CacheConfig(enabled=False))):
        run = prepare(replace(config, model=model, cache=cache), folder)
        losses[name], seconds, processor = timed(lambda run=run: train_one_epoch(run))
        share = FLICKR8K_TRAIN / len(run.indices)
        found[f"epochs_per_hour_from_{name}"] = round(3600 / (seconds * share), 2)
        found[f"epochs_per_processor_hour_from_{name}"] = round(3600 / (processor * share), 2)
    found["ratio"] = round(
        found["epochs_per_processor_hour_from_cache"] / found["epochs_per_processor_hour_from_pixels"], 2
    )
    found["losses"] = [round(losses["cache"][0], 3), round(losses["cache"][-1], 3)]
    differences = [abs(one - other) for one, other in zip(losses["cache"], losses["pixels"], strict=True)]
    found["largest_loss_difference"], found["median_loss_difference"] = max(differences), statistics.median(differences)
    return found


def train_one_epoch(run: Run) -> list[float]:
    """The loss of each step of one epoch."""
    run.model.train()
    return [train_step(run, step)["loss"] for step in training_batches(run)]


def memory(config: TrainConfig, epochs: int, folder: Path) -> list[dict[str, int]]:
    """Resident memory, and its anonymous part (without mapped files), after each epoch and its validation."""
    folder.mkdir()
    trainer = replace(config.trainer, max_epochs=epochs, patience=None)
    measured = []
    validate = loop.validate

    def validate_and_measure(*arguments: Any) -> None:
        validate(*arguments)
        measured.append(resident())

    loop.validate = validate_and_measure
    try:
        loop.train(prepare(replace(config, model=AttentionConfig(), trainer=trainer), folder))
    finally:
        loop.validate = validate
    return measured


def resident() -> dict[str, int]:
    """Resident and anonymous megabytes of this process (Linux)."""
    memory = memory_of("self")
    return {"resident_mb": memory["VmRSS"] // 2**20, "anonymous_mb": memory["RssAnon"] // 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the folder of Flickr8k")
    parser.add_argument("--images", nargs="+", type=int, default=[500, 1000, 2000], help="caches to fill")
    parser.add_argument("--limit", type=int, default=512, help="images of the trainings")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = TrainConfig(
            data=Flickr8kConfig(root=arguments.root, limit=arguments.limit, num_workers=0),
            cache=CacheConfig(directory=str(folder / "cache")),
            trainer=TrainerConfig(max_epochs=arguments.epochs, log_every=1000),
            device="cpu",
        )
        results = {"encoder": config.encoder.name, **fill_times(config, arguments.images, folder)}
        prepare(replace(config, model=AttentionConfig()), folder)  # fills the cache before the measurement
        for name, model in (("attention", AttentionConfig()), ("lstm", RecurrentConfig())):
            results[name] = epoch_times(config, model, folder)
        results["memory"] = memory(config, arguments.epochs, folder / "run")
    report("cache", results)


if __name__ == "__main__":
    main()
