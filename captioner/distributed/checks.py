"""Checks that settings can be trained by several processes, and that the processes train the same model."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from captioner.config import TrainConfig
from captioner.data.token_ids import EncodedCaptions
from captioner.distributed.ranks import RankInfo, all_gather, rank_info
from captioner.errors import ConfigError, TrainingError


def check_processes(config: TrainConfig, rank: RankInfo) -> None:
    """Raise ConfigError if a job of `rank.world_size` processes cannot train with these settings."""
    trainer = config.trainer
    check_started("trainer.devices", trainer.devices, rank)
    if trainer.batch_size < rank.world_size:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} is the batch of all processes together, too small for "
            f"{rank.world_size} of them: expected {rank.world_size} or more."
        )
    if rank.world_size > 1 and config.encoder.fine_tune_from is not None and not config.encoder.batch_norm_eval:
        raise ConfigError(
            f"encoder.batch_norm_eval=false cannot go with {rank.world_size} processes, because each would compute the "
            "statistics of its own part of the batch: set it to true, or train in one process."
        )
    if rank.world_size > 1 and config.model.has_batch_statistics:
        raise ConfigError(
            f"model.image_projection=batch_norm cannot go with {rank.world_size} processes, because each would compute "
            "the statistics of its own part of the batch: train in one process, or choose affine."
        )


def check_started(setting: str, devices: int | None, rank: RankInfo) -> None:
    """ConfigError where `setting` asks for another number of processes than were started; null passes."""
    if devices not in (None, rank.world_size):
        raise ConfigError(
            f"{setting}={devices}, but {rank.world_size} "
            f"process{'es were' if rank.world_size > 1 else ' was'} started: leave {setting} out "
            "(or null) under torchrun, which starts the processes itself."
        )


def check_ranks_agree(
    model: nn.Module, captions: EncodedCaptions, indices: Sequence[int], step: int, folder: Path
) -> None:
    """Raise TrainingError unless all ranks train on the same images and captions, with bit-identical weights."""
    if rank_info().world_size == 1:
        return
    data = 0
    for array in (*captions.arrays, np.asarray(indices)):
        data = zlib.crc32(array.data, data)
    weights = 0
    for parameter in model.parameters():
        if parameter.requires_grad:
            weights = zlib.crc32(parameter.detach().cpu().numpy().tobytes(), weights)
    checksums = all_gather((data, weights))
    for rank, checksum in enumerate(checksums):
        if checksum != checksums[0]:
            what = "training captions or images" if checksum[0] != checksums[0][0] else "weights"
            raise TrainingError(
                f"Process {rank} has other {what} than process 0 at step {step}, so they do not train the same model: "
                "give all machines the same data, and the same versions of captioner and torch. Checkpoints, if there "
                f"are any yet, are in {folder}."
            )
