"""The report of `--dry-run`, and the checks of this machine that take seconds."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from captioner.config import ENCODERS, EncoderConfig, TrainConfig
from captioner.data.features.disk_space import existing_folder
from captioner.data.features.storage import feature_cache_root
from captioner.distributed.checks import check_processes
from captioner.distributed.device import choose_device
from captioner.distributed.ranks import RankInfo
from captioner.errors import CaptionerError, ConfigError
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.registry import METRICS
from captioner.nn.build_model import build_model
from captioner.nn.encoders import encoder_weights
from captioner.training.dry_run.inputs import TrainingInputs, read_inputs
from captioner.training.dry_run.plan import TrainingCost, estimate_cost, parameter_count, trainable_count
from captioner.training.precision import check_precision, float32_matmul_precision

TIMEOUT = 5  # seconds to wait for the server of the encoder's weights

EXPECTED = {
    ("coco", False): "CIDEr about 95 to 100 on Karpathy's splits (the notes of ImageCaptioning.pytorch: att2in 95, "
    "att2in2 99 on val, over frozen ResNet-101 features, without beam search)",
    ("coco", True): "CIDEr about 105 to 115 on Karpathy's splits (the notes of ImageCaptioning.pytorch: att2in 112 on "
    "val without beam search, att2in2 115.6 on test with beam 5, over frozen ResNet-101 features)",
    ("flickr8k", False): "CIDEr about 53 on dev (docs/results.md)",
    ("flickr8k", True): "CIDEr about 61 on dev (docs/flickr8k.md)",
}
"""(data set, whether the run has an RL phase) → the expected score and its source."""


def dry_run(config: TrainConfig, folder: Path) -> tuple[str, list[str]]:
    """What a run with these settings will need and cost, as text, and what would stop it. Nothing is started.

    folder: the run folder that it would have. Times are measured with untrained weights, in a few seconds; nothing is
    downloaded and nothing is written. Raises the data set's error where the data is not there and has no published
    size, and ConfigError for settings that no machine could run.
    """
    if config.data.features is not None:
        raise ConfigError("--dry-run times an encoder, and data.features has none: leave one of the two out.")
    problems: list[str] = []
    device = torch.device("cpu")
    for check in (
        lambda: choose_device(config.device),
        lambda: check_processes(config, RankInfo(world_size=config.trainer.devices or 1)),
        lambda: check_precision(config.trainer.precision, choose_device(config.device)),
    ):
        try:
            checked = check()
        except CaptionerError as error:
            problems.append(str(error))
        else:
            device = checked if isinstance(checked, torch.device) else device
    inputs = read_inputs(config)
    problems += [*inputs.problems, *(weights_problems(config.encoder) if config.init_from is None else [])]
    model = build_model(config.model, config.encoder, inputs.vocabulary, load_weights=False).to(device)
    with float32_matmul_precision(config.trainer.float32_matmul_precision, device):
        cost = estimate_cost(config, inputs, model)
    problems += disk_problems(config, folder, cost)
    parameters, trainable = parameter_count(model), trainable_count(config, model)
    lines = [
        f"Data      {describe_inputs(config, inputs)}",
        f"Model     {config.model.name} on {config.encoder.name}: {parameters / 1e6:.1f} M parameters, "
        f"{trainable / 1e6:.1f} M trainable; {model.encoder.grid_size[0]} × {model.encoder.grid_size[1]} regions",
        *describe_phases(cost, config),
        f"Time      {duration(cost.seconds)} on {describe_device(device)}, from steps timed here with untrained "
        f"weights; {describe_decoding(cost)}",
        f"Disk      {size(cost.cache_bytes)} for the feature cache ({feature_cache_root(config.cache.directory)}), "
        f"{size(cost.checkpoint_bytes)} for checkpoints ({folder})",
        f"Memory    {size(inputs.text_bytes)} for captions; {size(cost.memory_bytes)} on {device.type} for weights, "
        "optimizer and the largest step, besides what PyTorch itself takes",
        f"Expected  {expected_score(config)}",
        *(f"Note      {note}" for note in (*metric_problems(config.metric.names), *busy_note())),
    ]
    return "\n".join(lines) + "\n", problems


def describe_inputs(config: TrainConfig, inputs: TrainingInputs) -> str:
    """The data set in one line."""
    source = (
        "its published size, because it is not there" if inputs.is_published else f"{config.data.root or 'built in'}"
    )
    return (
        f"{config.data.name} ({source}): {inputs.train_images:,} images for training with "
        f"{inputs.captions_per_image:.1f} captions each, {inputs.val_images:,} for validation, "
        f"{inputs.vocabulary:,} words"
    )


def describe_phases(cost: TrainingCost, config: TrainConfig) -> Iterator[str]:
    """One line for the cache and one for each phase, with hours."""
    if cost.cache_bytes:
        yield f"Cache     {duration(cost.cache_seconds)} to compute the features, once"
    for number, phase in enumerate(cost.phases, 1):
        each = f"{duration(phase.epoch_seconds)} per epoch, {duration(phase.validation_seconds)} per validation"
        yield f"Phase {number}   {phase.phase.describe()}: {duration(phase.seconds)} ({each})"


def busy_note() -> list[str]:
    """A note where other programs use the processor now, so that the times measured here are too long."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < 1.5 * cores:
        return []
    return [f"this machine is busy (load {load:.0f} on {cores} cores): on an idle one the times are shorter."]


def describe_decoding(cost: TrainingCost) -> str:
    """Whether the times include decoding image files."""
    if cost.file_seconds is None:
        return "decoding the image files is not included, because there is none"
    return f"decoding an image file takes {cost.file_seconds * 1e3:.0f} ms per worker"


def describe_device(device: torch.device) -> str:
    """The device as a person knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def expected_score(config: TrainConfig) -> str:
    """The score that a run like this one can be expected to have, with its source."""
    has_reward = config.reward.after is not None
    known = EXPECTED.get((config.data.name, has_reward))
    if known is None or not config.model.attends:
        return f"no published score is known here for {config.model.name} on {config.data.name}"
    return known


def weights_problems(encoder: EncoderConfig) -> list[str]:
    """Why the encoder's weights cannot be had: a file that is not there, or a download that is not answered."""
    if encoder.weights is None:
        return []
    if encoder_weights.looks_like_file(encoder.weights):
        exists = Path(encoder.weights).expanduser().is_file()
        return [] if exists else [f"encoder.weights={encoder.weights}: there is no such file."]
    if encoder.name in ENCODERS or encoder.library != "torchvision":
        return []
    from captioner.nn.encoders.torchvision_cnn import torchvision_names

    if encoder.name not in torchvision_names():
        return []
    entry = encoder_weights.torchvision_entry(encoder.name, encoder.weights)
    if encoder_weights.cached_file(entry).is_file():
        return []
    try:
        with urllib.request.urlopen(urllib.request.Request(entry.url, method="HEAD"), timeout=TIMEOUT):
            return []
    except (OSError, urllib.error.URLError) as error:
        return [str(encoder_weights.download_error(encoder.name, entry, error))]


def metric_problems(names: Sequence[str]) -> list[str]:
    """Why metrics of the evaluation at the end are unavailable here. They do not stop a run."""
    problems = []
    for name in names:
        check = METRICS[name].check
        try:
            if check is not None:
                check()
        except MetricUnavailable as error:
            problems.append(f"{name} will be unavailable: {error}")
    return problems


def disk_problems(config: TrainConfig, folder: Path, cost: TrainingCost) -> list[str]:
    """Which disk has too little room."""
    needs: dict[Path, int] = {}
    for place, needed in (
        (feature_cache_root(config.cache.directory), cost.cache_bytes),
        (folder, cost.checkpoint_bytes),
    ):
        existing = existing_folder(place)
        needs[existing] = needs.get(existing, 0) + needed
    return [
        f"{place} has {size(shutil.disk_usage(place).free)} free, and the run needs {size(needed)} there: name another "
        "cache.directory or hydra.run.dir, or set cache.enabled=false."
        for place, needed in needs.items()
        if needed > shutil.disk_usage(place).free
    ]


def duration(seconds: float) -> str:
    """Seconds for a reader: "40 s", "12 min", "3.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else "under 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:,.1f} h"


def size(count: float) -> str:
    """Bytes for a reader: "12 MB", "3.5 GB"."""
    return f"{count / 1e9:,.1f} GB" if count >= 0.95e9 else f"{count / 1e6:,.0f} MB"
