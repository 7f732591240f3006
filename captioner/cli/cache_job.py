"""The work of `captioner cache` once its settings are checked; the only part of the command that imports torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from captioner.config import TrainConfig
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.data.features.cache import CachePlan, check_cache_disk_space, encoding_speed, fill_cache, plan_cache
from captioner.data.features.storage import FeatureShardFolder, folders_of_other_versions
from captioner.data.features.view_features import single_images
from captioner.distributed.device import choose_device
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.encoder import Encoder
from captioner.progress_bar import format_duration


def compute_features(config: TrainConfig, split: str | None, *, with_grid: bool) -> None:
    """Compute the missing features of one split (None: of all), and print what is computed and where it is kept.

    with_grid: the features of all regions; otherwise one vector per image.
    """
    torch.manual_seed(config.seed)  # an encoder with random weights is that of a training with this seed
    device = choose_device(config.device)
    splits = [split] if split else available_splits(config.data)
    datasets = [single_images(load_dataset(config.data, name, need_captions=False)) for name in splits]
    encoder = build_encoder(config.encoder).to(device)
    encoder.transform = replace(encoder.transform, stretch=config.data.stretch)
    encoder.freeze()
    plans = [
        plan_cache(
            dataset,
            encoder,
            with_grid=with_grid,
            cache=config.cache,
            data=config.data,
            flipped=config.cache.flips and dataset.split == "train",
        )
        for dataset in datasets
    ]
    _announce(plans, encoder, device)
    if any(plan.missing for plan in plans):
        _fill(plans, encoder, config, device)
    _conclude(plans[0].shards)


def _announce(plans: Sequence[CachePlan], encoder: Encoder, device: torch.device) -> None:
    """Print what is cached, what will be computed, and where."""
    shards = plans[0].shards
    rows, columns = encoder.grid_size
    shape = f"a grid of {rows}×{columns}" if plans[0].with_grid else "one vector"
    _print(
        f"Features of {encoder.name}, {shape} × {encoder.feature_dim} values per image ({shards.row_bytes:,} bytes), "
        f"computed on {device}, stored in {shards.path}"
    )
    for notice in dict.fromkeys(notice for plan in plans for notice in plan.dataset.notices):
        _print(f"Note: {notice}")
    for plan in plans:
        flipped = " (flipped ones included)" if plan.flipped else ""
        taken = f" ({len(plan.from_grids):,} of them from stored grids)" if plan.from_grids else ""
        _print(
            f"  {plan.dataset.split:<6}{len(plan.sources):>8,} images{flipped}, {len(plan.missing):>8,} to compute"
            f"{taken}, {plan.bytes_missing / 1e6:,.1f} MB"
        )


def _fill(plans: Sequence[CachePlan], encoder: Encoder, config: TrainConfig, device: torch.device) -> None:
    """Print the size and the expected time, then compute."""
    missing, needed = sum(len(plan.missing) for plan in plans), sum(plan.bytes_missing for plan in plans)
    check_cache_disk_space(plans[0].shards.path, missing, needed)
    speed = encoding_speed(max(plans, key=lambda plan: len(plan.to_encode)), encoder, config.data, device)
    if speed is not None:
        seconds = sum(len(plan.to_encode) for plan in plans) / speed
        _print(
            f"About {format_duration(seconds)} for {needed / 1e9:.2f} GB, "
            f"at the {speed:.1f} images per second of a trial."
        )
    started = time.perf_counter()
    bad: dict[str, str] = {}
    for plan in plans:
        found = plan.bad | fill_cache(plan, encoder, config.data, device)
        bad |= {str(plan.dataset.images[index].path): why for index, why in found.items()}
    seconds = time.perf_counter() - started
    took = format_duration(seconds)
    _print(f"Computed {missing - len(bad):,} images in {took} ({missing / seconds:.1f} per second).")
    if bad:
        _print(f"Left out {len(bad):,} images that cannot be read, such as: {next(iter(bad.values()))}")


def _conclude(shards: FeatureShardFolder) -> None:
    """Print where the features are, their size, and which folders could be deleted."""
    shards.refresh()
    _print(f"Stored: {len(shards.index):,} images, {_size(shards.path) / 1e9:.2f} GB in {shards.path}")
    for folder in folders_of_other_versions(shards.path.parent):
        _print(
            f"Note: {folder} was written by another version of this program and is never read. Delete it to free "
            f"{_size(folder) / 1e9:.2f} GB."
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
