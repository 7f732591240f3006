"""A run: the objects that its parts share, and its progress."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from captioner.checkpoint.checkpoint import CheckpointSettings
from captioner.config import TrainConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.features.sources import FeatureSource
from captioner.data.token_ids import EncodedCaptions
from captioner.nn.model import CaptioningModel
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary
from captioner.training.anchor import Anchor
from captioner.training.ema import ExponentialMovingAverage
from captioner.training.logs import LogSizes
from captioner.training.phases import Phase
from captioner.training.progress import Progress, planned_steps
from captioner.training.self_critical import Reward


@dataclass
class Run:
    """The state of a training. Made by `prepare`; weights, progress, phase and, with it, the features change."""

    config: TrainConfig
    folder: Path
    device: torch.device
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    train_set: CaptionDataset
    val_set: CaptionDataset
    val_captions: EncodedCaptions  # the references of the validation images, whole
    captions: EncodedCaptions
    indices: Sequence[int]  # of the training images that have captions
    model: CaptioningModel
    train_features: FeatureSource
    val_features: FeatureSource
    optimizer: torch.optim.Optimizer
    phases: list[Phase]  # in order
    phase: Phase  # the current one
    scaler: torch.amp.GradScaler
    ema: ExponentialMovingAverage | None = None
    reward: Reward | None = None  # of generated captions, for self-critical training
    anchor: Anchor | None = None  # the decoder before self-critical training, from its start on, with reward.kl_weight
    gradient_accumulation_steps: int = 1  # micro-batches per batch; 0 until find_accumulation_steps has found it
    progress: Progress = field(default_factory=Progress)
    resumed: bool = False
    advice: tuple[str, ...] = ()  # on settings that do not fit the captions, and on changes since the checkpoint
    identity: dict[str, Any] = field(default_factory=dict)  # what a resumed run must find again; rank 0 has it
    phases_changed: bool = False  # since the checkpoint from which the run is resumed
    log_sizes: LogSizes | None = None  # of the log files at the checkpoint from which the run is resumed
    skipped_images: dict[str, set[int]] = field(
        default_factory=lambda: defaultdict(set)
    )  # split → images logged so far

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; each is one optimizer step."""
        return -(-len(self.indices) // self.config.trainer.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        trainer = self.config.trainer
        return planned_steps(trainer.max_epochs, trainer.max_steps, self.steps_per_epoch)

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or the run has stopped early."""
        return self.progress.is_over(self.total_steps)

    @property
    def checkpoint_settings(self) -> CheckpointSettings:
        """The settings that a checkpoint stores with the weights and the vocabulary."""
        config = self.config
        return CheckpointSettings(
            config.model, config.encoder, self.model.encoder.transform, config.tokenizer, config.decode
        )
