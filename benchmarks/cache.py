"""What the feature cache costs, and what it saves.

    python benchmarks/cache.py /data/flickr8k --images 500 1000 2000 --threads 1

Fills new caches of so many images with grids (reading, decoding, encoding, writing, in one process), fits a line
through the times and follows it to the 123,287 images of COCO; trains the same frozen model from pixels and from the
cache; and watches the memory of five epochs of training and validation from the cache.
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
from captioner.training.logs import RunLog
from captioner.training.loop import train_epoch, validate
from captioner.training.run import Run
from captioner.training.setup import prepare
from captioner.training.signals import StopRequest
from captioner.training.step import train_step, training_batches

COCO, FLICKR8K_TRAIN = 123_287, 6_000  # images
CPU = torch.device("cpu")
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """What `work` gives, its seconds, and its seconds of processor time (which other programs disturb less)."""
    start, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - processor


def fill_times(config: TrainConfig, counts: list[int], folder: Path) -> dict[str, Any]:
    """Seconds of filling, the line through them, and where it leads."""
    encoder = build_encoder(config.encoder).eval()
    rows = []
    for count in counts:
        data = replace(config.data, limit=count)
        cache = CacheConfig(directory=str(folder / f"fill-{count}"))
        dataset = load_dataset(data, "train")
        plan = plan_cache(dataset, encoder, with_grid=True, cache=cache, data=data)
        said = encoding_speed(plan, encoder, data, CPU)
        _, seconds, processor = timed(lambda plan=plan, data=data: fill_cache(plan, encoder, data, CPU))
        vectors = plan_cache(dataset, encoder, with_grid=False, cache=cache, data=data)
        _, _, derived = timed(lambda plan=vectors, data=data: fill_cache(plan, encoder, data, CPU))
        rows.append(
            {
                "images": count,
                "seconds": round(seconds, 1),
                "processor_seconds": round(processor, 1),
                "seconds_said_before": None if said is None else round(count / said, 1),
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
        "images_a_processor_second": round(1 / slope, 1),
        "line": {"milliseconds_per_image": round(1000 * slope, 2), "seconds_at_the_start": round(start, 2)},
        "coco": {
            "images": COCO,
            "hours_of_one_processor": round(slope * COCO / 3600, 2),
            "grid_gb": round(COCO * last["grid_bytes_per_image"] / 1e9, 2),
            "vector_gb": round(COCO * last["vector_bytes_per_image"] / 1e9, 2),
        },
    }


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def epoch_times(config: TrainConfig, model: ModelConfig, folder: Path) -> dict[str, Any]:
    """Epochs an hour of Flickr8k's 6,000 training images, and how far the losses of one epoch are apart."""
    found: dict[str, Any] = {}
    losses = {}
    for name, cache in (("cache", config.cache), ("pixels", CacheConfig(enabled=False))):
        run = prepare(replace(config, model=model, cache=cache), folder)
        losses[name], seconds, processor = timed(lambda run=run: train_one_epoch(run))
        share = FLICKR8K_TRAIN / len(run.indices)
        found[f"epochs_an_hour_from_{name}"] = round(3600 / (seconds * share), 2)
        found[f"epochs_a_processor_hour_from_{name}"] = round(3600 / (processor * share), 2)
    found["ratio"] = round(
        found["epochs_a_processor_hour_from_cache"] / found["epochs_a_processor_hour_from_pixels"], 2
    )
    found["losses"] = [round(losses["cache"][0], 3), round(losses["cache"][-1], 3)]
    apart = [abs(one - other) for one, other in zip(losses["cache"], losses["pixels"], strict=True)]
    found["losses_apart_at_most"], found["losses_apart_median"] = max(apart), statistics.median(apart)
    return found


def train_one_epoch(run: Run) -> list[float]:
    """The losses of its steps."""
    run.model.train()
    return [train_step(run, step)["loss"] for step in training_batches(run)]


def memory(config: TrainConfig, epochs: int, folder: Path) -> list[dict[str, int]]:
    """After each epoch and its validation: MB in all, and MB of that which is no file that could be read again."""
    folder.mkdir()
    run = prepare(replace(config, model=AttentionConfig()), folder)
    measured = []
    with RunLog(folder) as log, StopRequest() as stop:
        for _ in range(epochs):
            train_epoch(run, log, stop)
            validate(run, log, stop)
            measured.append(resident())
    return measured


def resident() -> dict[str, int]:
    """From /proc (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return {"resident_mb": kilobytes["VmRSS"] // 1024, "anonymous_mb": kilobytes["RssAnon"] // 1024}


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
        figures = {"encoder": config.encoder.name, **fill_times(config, arguments.images, folder)}
        prepare(replace(config, model=AttentionConfig()), folder)  # its cache is there when the clock runs
        for name, model in (("attention", AttentionConfig()), ("lstm", RecurrentConfig())):
            figures[name] = epoch_times(config, model, folder)
        figures["memory"] = memory(config, arguments.epochs, folder / "run")
    report("cache", figures)


if __name__ == "__main__":
    main()
