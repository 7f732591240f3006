"""Can these settings be trained by several processes, and do the processes train one and the same model?"""

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


def check_processes(config: TrainConfig, place: RankInfo) -> None:
    """ConfigError where these settings cannot be trained by a job of which `place` is one process."""
    trainer = config.trainer
    if trainer.devices not in (None, place.size):
        raise ConfigError(
            f"trainer.devices={trainer.devices}, but {place.size} process{'es were' if place.size > 1 else ' was'} "
            "started: leave trainer.devices out (or null) under torchrun, which starts the processes itself."
        )
    if trainer.batch_size < place.size:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} is the batch of all processes together, too small for "
            f"{place.size} of them: expected {place.size} or more."
        )
    if place.size > 1 and config.encoder.fine_tune_from is not None and not config.encoder.batch_norm_eval:
        raise ConfigError(
            f"encoder.batch_norm_eval=false cannot go with {place.size} processes, each of which would have statistics "
            "of its own, of its part of the batch: set it to true, or train in one process."
        )


def check_ranks_agree(
    model: nn.Module, captions: EncodedCaptions, indices: Sequence[int], step: int, folder: Path
) -> None:
    """TrainingError unless every process learns from the same captions, and has the same weights to the last bit."""
    if rank_info().size == 1:
        return
    words = 0
    for numbers in (*captions.arrays, np.asarray(indices)):
        words = zlib.crc32(numbers.data, words)
    weights = 0
    for parameter in model.parameters():
        if parameter.requires_grad:
            weights = zlib.crc32(parameter.detach().cpu().numpy().tobytes(), weights)
    told = all_gather((words, weights))
    for rank, (other_words, other_weights) in enumerate(told):
        if (other_words, other_weights) != told[0]:
            what = "training captions or images" if other_words != told[0][0] else "weights"
            raise TrainingError(
                f"Process {rank} has other {what} than process 0 at step {step}, so they do not train one model: give "
                "all machines the same data, and the same versions of captioner and torch. Checkpoints, where there "
                f"are any yet, are in {folder}."
            )
