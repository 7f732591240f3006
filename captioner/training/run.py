"""A run: what its parts share, and where it stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from captioner.checkpoint.checkpoint import CheckpointSettings
from captioner.config import TrainConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.features.sources import FeatureSource
from captioner.data.token_ids import EncodedCaptions
from captioner.nn.model import CaptioningModel
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary
from captioner.training.ema import ExponentialMovingAverage
from captioner.training.logs import LogSizes
from captioner.training.progress import Progress, planned_steps
from captioner.training.self_critical import Reward


class Stage(NamedTuple):
    """Steps that share one schedule of the learning rate."""

    first: int
    steps: int
    rate: float  # what the base rates are multiplied by


@dataclass
class Run:
    """What the parts of a run share. Made once, by `prepare`; only `progress` and the weights change."""

    config: TrainConfig
    folder: Path
    device: torch.device
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    train_set: CaptionDataset
    val_set: CaptionDataset
    captions: EncodedCaptions
    indices: Sequence[int]  # of the training images that have captions
    model: CaptioningModel
    train_features: FeatureSource
    val_features: FeatureSource
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ExponentialMovingAverage | None = None
    reward: Reward | None = None  # of captions that the model says, where it learns from them
    whole_images: bool = False  # so far, though they are to be varied later: augment.after
    gradient_accumulation_steps: int = 1  # micro-batches per batch; 0 until find_accumulation_steps has found it
    progress: Progress = field(default_factory=Progress)
    resumed: bool = False
    log_sizes: LogSizes | None = None  # of the log files at the checkpoint from which the run is resumed
    skipped_images: dict[str, set[int]] = field(
        default_factory=lambda: defaultdict(set)
    )  # split → images logged so far

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, each one optimizer step."""
        return -(-len(self.indices) // self.config.trainer.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        trainer = self.config.trainer
        return planned_steps(trainer.max_epochs, trainer.max_steps, self.steps_per_epoch)

    @property
    def in_rl_phase(self) -> bool:
        """Has the stage begun in which captions that the model says are rewarded?"""
        return self.stage.first > 0

    @property
    def stages(self) -> list[Stage]:
        """Learning from the data set's captions, then from rewards: the second may not be there."""
        reward, total = self.config.reward, self.total_steps
        border = total if reward.after is None else min(total, reward.after * self.steps_per_epoch)
        rate = reward.learning_rate / self.config.optim.learning_rate if self.config.optim.learning_rate else 0.0
        return [Stage(0, border, 1.0), *([Stage(border, total - border, rate)] if border < total else [])]

    @property
    def stage(self) -> Stage:
        """The one under way."""
        return next(stage for stage in reversed(self.stages) if self.progress.step >= stage.first)

    @property
    def is_over(self) -> bool:
        """Have all steps been done, or has the score stopped getting better?"""
        return self.progress.is_over(self.total_steps)

    @property
    def checkpoint_settings(self) -> CheckpointSettings:
        """What a checkpoint must say besides weights and words."""
        config = self.config
        return CheckpointSettings(
            config.model, config.encoder, self.model.encoder.transform, config.tokenizer, config.decode
        )
