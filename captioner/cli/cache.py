"""`python -m captioner cache`: compute a frozen encoder's features of a data set before any training needs them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from captioner.cli.choices import choices
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.main import run_command
from captioner.cli.options import read_options
from captioner.config import TrainConfig
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.data.features.cache import CachePlan, check_cache_disk_space, encoding_speed, fill_cache, plan_cache
from captioner.data.features.storage import FeatureShardFolder, folders_of_other_versions
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError, choose
from captioner.nn.encoders.encoder import Encoder, build_encoder

KINDS = ("grid", "vector")
HELP = """\
Compute a frozen encoder's features of a data set and keep them, before any training needs them.

  python -m captioner cache data=flickr8k data.root=DIR
  python -m captioner cache data=coco data.root=DIR encoder=resnet101 split=val
  python -m captioner cache data=coco data.root=DIR kind=vector cache.directory=/disk/features

It says how many images, bytes and minutes before it starts. Stopped at any moment it is carried on by the same
command; several processes, also of several machines that share the folder, may fill it at once and train meanwhile.

  split           train, val or test (default: all there are)
  kind            grid: for every model; vector: for models without attention only, a small part of the disk
                  (default: grid)

Options of train.py are taken as they are there, and those of the data set, the encoder and the cache matter:

  data=… data.root=… data.limit=… data.num_workers=… data.on_bad_image=…
  encoder=… encoder.weights=… encoder.image_size=… encoder.resize=…
  cache.directory=… cache.flips=… device=…

Choices (GROUP=CHOICE):

"""


@dataclass
class CacheOptions:
    """What the command is given beside the settings of train.py."""

    split: str | None = None
    kind: str = "grid"

    def __post_init__(self) -> None:
        choose("kind", self.kind, KINDS)


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _cache(sys.argv[1:])))


def _cache(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP + choices("data", "encoder", "cache"))
        return
    own = [argument for argument in arguments if argument.partition("=")[0] in ("split", "kind")]
    options = read_options(CacheOptions, own)
    config = compose_train_settings([argument for argument in arguments if argument not in own])
    if not config.cache.enabled:
        raise ConfigError("cache.enabled=false leaves no cache to be filled. Leave it out.")
    torch.manual_seed(config.seed)  # an encoder with random weights is that of a training with this seed
    device = choose_device(config.device)
    splits = [options.split] if options.split else available_splits(config.data)
    datasets = [load_dataset(config.data, split) for split in splits]
    encoder = build_encoder(config.encoder).to(device)
    encoder.freeze()
    plans = [
        plan_cache(
            dataset,
            encoder,
            with_grid=options.kind == "grid",
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
    """What is there, what will be computed, and where."""
    shards = plans[0].shards
    rows, columns = encoder.grid_size
    shape = f"a grid of {rows}×{columns}" if plans[0].with_grid else "one vector"
    _say(
        f"Features of {encoder.name}, {shape} × {encoder.feature_dim} numbers an image ({shards.row_bytes:,} bytes), "
        f"computed on {device}, kept in {shards.path}"
    )
    for notice in dict.fromkeys(notice for plan in plans for notice in plan.dataset.notices):
        _say(f"Note: {notice}")
    for plan in plans:
        flipped = " (flipped ones included)" if plan.flipped else ""
        taken = f" ({len(plan.from_grids):,} of them from grids that are there)" if plan.from_grids else ""
        _say(
            f"  {plan.dataset.split:<6}{len(plan.sources):>8,} images{flipped}, {len(plan.missing):>8,} to compute"
            f"{taken}, {plan.bytes_missing / 1e6:,.1f} MB"
        )


def _fill(plans: Sequence[CachePlan], encoder: Encoder, config: TrainConfig, device: torch.device) -> None:
    """Say how much and how long, then do it."""
    missing, needed = sum(len(plan.missing) for plan in plans), sum(plan.bytes_missing for plan in plans)
    check_cache_disk_space(plans[0].shards.path, missing, needed)
    speed = encoding_speed(max(plans, key=lambda plan: len(plan.to_encode)), encoder, config.data, device)
    if speed is not None:
        seconds = sum(len(plan.to_encode) for plan in plans) / speed
        _say(f"About {_duration(seconds)} for {needed / 1e9:.2f} GB, at the {speed:.1f} images a second of a trial.")
    started = time.perf_counter()
    bad: dict[str, str] = {}
    for plan in plans:
        found = plan.bad | fill_cache(plan, encoder, config.data, device)
        bad |= {str(plan.dataset.images[index].path): why for index, why in found.items()}
    seconds = time.perf_counter() - started
    _say(f"Computed {missing - len(bad):,} images in {_duration(seconds)} ({missing / seconds:.1f} a second).")
    if bad:
        _say(f"Left out {len(bad):,} images that cannot be read, such as: {next(iter(bad.values()))}")


def _conclude(shards: FeatureShardFolder) -> None:
    """Where, how much, and what could be deleted."""
    shards.refresh()
    _say(f"Kept: {len(shards.index):,} images, {_size(shards.path) / 1e9:.2f} GB in {shards.path}")
    for folder in folders_of_other_versions(shards.path.parent):
        _say(
            f"Note: {folder} was written by another version of this program and is never read. Delete it to free "
            f"{_size(folder) / 1e9:.2f} GB."
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
