"""A run: everything that stands before the first step, and what a checkpoint keeps of it.

`prepare` checks all that can be checked before hours are spent; `save` and `restore` are each other's inverse.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.config import AttentionConfig, TrainConfig
from captioner.data.augment import Augmentation
from captioner.data.batches import (
    NumberedCaptions,
    captioned_pictures,
    mix_seeds,
    number_captions,
    tokenize_captions,
)
from captioner.data.build import available_splits, load_dataset, refuse_without_boxes
from captioner.data.dataset import CaptionDataset
from captioner.data.features import FeatureSource, open_features
from captioner.data.splits import split_name
from captioner.engine.averaging import WeightAverage
from captioner.engine.checkpoint import (
    TRAINER_FILE,
    CheckpointSettings,
    load_trainer_state,
    load_vocabulary,
    load_weights,
    save_checkpoint,
)
from captioner.engine.compiling import compile_steps
from captioner.engine.device import choose_device
from captioner.engine.distributed import first_of_machine_first, from_first, gathered, is_first, place_in_job, unite
from captioner.engine.grounding import NEEDS_ATTENTION
from captioner.engine.logs import Mark, RunLog, checked_mark
from captioner.engine.optimizer import build_optimizer
from captioner.engine.precision import build_scaler, check_precision
from captioner.engine.progress import (
    Progress,
    random_state,
    restore_random_state,
    restore_trainer_state,
    trainer_state,
)
from captioner.engine.rank_checks import check_processes, refuse_different_ranks
from captioner.engine.run_checkpoints import find_checkpoint, read_index
from captioner.engine.self_critical import cider_reward
from captioner.errors import CheckpointError, ConfigError, DataError, choose
from captioner.metrics.reward import CiderReward
from captioner.metrics.scorer import METRICS
from captioner.nn.build import build_model
from captioner.nn.model import CaptioningModel
from captioner.text.tokenizers import Tokenizer, build_tokenizer
from captioner.text.vocabulary import Vocabulary


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
    captions: NumberedCaptions
    indices: list[int]  # of the training pictures that have captions
    model: CaptioningModel
    train_features: FeatureSource
    val_features: FeatureSource
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None = None
    reward: CiderReward | None = None  # of captions that the model says, where it learns from them
    portions: int = 1  # of a batch: trainer.accumulate, or 0 until it has been found
    progress: Progress = field(default_factory=Progress)
    resumed: bool = False
    mark: Mark | None = None  # how long the logs were at the checkpoint from which this run is carried on
    left_out: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # split → pictures named so far

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, each one optimizer step."""
        return -(-len(self.indices) // self.config.trainer.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        trainer = self.config.trainer
        steps = trainer.max_epochs * self.steps_per_epoch
        return steps if trainer.max_steps is None else min(steps, trainer.max_steps)

    @property
    def rewarding(self) -> bool:
        """Has the stage begun in which captions that the model says are rewarded?"""
        return self.progress.step >= self.stages[0].steps

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
        return self.stages[-1] if self.rewarding else self.stages[0]

    @property
    def is_over(self) -> bool:
        """Have all steps been done, or has the score stopped getting better?"""
        return self.progress.step >= self.total_steps or self.progress.stopped_early

    @property
    def checkpoint_settings(self) -> CheckpointSettings:
        """What a checkpoint must say besides weights and words."""
        config = self.config
        return CheckpointSettings(
            config.model, config.encoder, self.model.encoder.transform, config.tokenizer, config.decode
        )


def prepare(config: TrainConfig, folder: Path, *, resume: bool = False) -> Run:
    """Everything that stands before the first step, in the order in which mistakes are cheapest to find.

    Writes nothing but the feature cache. `resume`: from the latest checkpoint of the run in `folder`, or from the
    beginning where it was killed before there was one.
    """
    torch.manual_seed(config.seed)
    check_processes(config, place_in_job())
    device = choose_device(config.device)
    check_settings(config)
    check_precision(config.trainer.precision, device)
    with first_of_machine_first():  # it draws the pictures that are to be drawn
        train_set, val_set = load_dataset(config.data, "train"), load_dataset(config.data, "val")
    tokenizer = build_tokenizer(config.tokenizer)
    tokenized = tokenize_captions(train_set, tokenizer)
    vocabulary = Vocabulary.from_captions((words for own in tokenized for words in own), config.vocabulary)
    captions = number_captions(tokenized, vocabulary, config.trainer.max_caption_length)
    with first_of_machine_first():  # it downloads the weights that are to be downloaded
        model = build_model(config.model, config.encoder, len(vocabulary)).to(device)
    usable = captioned_pictures(captions, train_set)
    steps_per_epoch = -(-len(usable) // config.trainer.batch_size)
    optimizer = build_optimizer(model, config.optim, config.encoder.fine_tune_after * steps_per_epoch)
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if config.trainer.compile:
        compile_steps(model.decoder, device)
    model.encoder.hold(config.encoder.fine_tune_after > 0)
    train_features = features_of(config, train_set, model, device, training=True)
    val_features = features_of(config, val_set, model, device)
    run = Run(
        config=config,
        folder=folder,
        device=device,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        train_set=train_set,
        val_set=val_set,
        captions=captions,
        indices=[index for index in usable if index not in train_features.bad],
        model=model,
        train_features=train_features,
        val_features=val_features,
        optimizer=optimizer,
        scaler=build_scaler(config.trainer.precision, device),
        portions=config.trainer.accumulate or 0,
        reward=None if config.reward.after is None else cider_reward(captions, usable),
        average=None if config.trainer.ema is None else WeightAverage(learning, config.trainer.ema),
        resumed=resume,
    )
    if place_in_job().rank > 0:  # other random numbers for dropout, the same weights
        torch.manual_seed(mix_seeds(config.seed, place_in_job().rank))
    if resume:
        restore(run)
    refuse_different_ranks(run.model, run.captions, run.indices, run.progress.step, run.folder)
    return run


def begin_epoch(run: Run) -> list[str]:
    """Begin a new stage in the epoch that the settings name; what is to be said about it.

    What was found out about the stage before is asked anew: how often it has not improved, how much memory it needs.
    """
    progress, encoder = run.progress, run.model.encoder
    resumed = progress.batch > 0  # in an epoch that has begun before
    begun = []
    if encoder.held and progress.epoch >= run.config.encoder.fine_tune_after:
        encoder.hold(False)
        run.train_features = features_of(run.config, run.train_set, run.model, run.device, training=True)
        run.val_features = features_of(run.config, run.val_set, run.model, run.device)
        if progress.epoch == run.config.encoder.fine_tune_after and not resumed:
            begun.append(f"From here on the encoder learns too, from {run.config.encoder.fine_tune_from} on.")
    if progress.epoch == run.config.reward.after and not resumed:
        run.optimizer.state.clear()  # Adam's averages are of other gradients
        begun.append(
            f"From here on the decoder learns from the CIDEr of captions that it says, "
            f"{run.config.reward.samples} a picture."
        )
    if begun:
        progress.validations_without_gain = 0
        run.portions = run.config.trainer.accumulate or 0
    return begun


def check_settings(config: TrainConfig) -> None:
    """ConfigError for what would only show later: before hours are spent."""
    after, epochs = config.encoder.fine_tune_after, config.trainer.max_epochs
    if after >= epochs:
        raise ConfigError(
            f"encoder.fine_tune_after={after} leaves no epoch in which the encoder learns, for trainer.max_epochs is "
            f"{epochs}: choose more epochs, or an earlier start."
        )
    for name in config.metric.names:
        choose("metric.names", name, METRICS)
    available = available_splits(config.data)
    if "val" not in available:
        raise DataError(
            f"{config.data.name} at {config.data.root} has no val split ({', '.join(available)}), and training needs "
            "one to choose its best checkpoint: name one in the captions file, or set data.val_fraction above 0."
        )
    if config.metric.grounding is not None and not isinstance(config.model, AttentionConfig):
        raise ConfigError(NEEDS_ATTENTION)
    for split in config.trainer.evaluate_splits:
        name = choose("trainer.evaluate_splits", split_name(split) or split, available)
        if config.metric.grounding is not None:
            refuse_without_boxes(config.data, name)


def features_of(
    config: TrainConfig,
    dataset: CaptionDataset,
    model: CaptioningModel,
    device: torch.device,
    *,
    training: bool = False,
) -> FeatureSource:
    """Features of a data set as this run's decoder needs them; several processes fill the cache together.

    `training`: varied in each epoch as the settings say.
    """
    features = open_features(
        dataset,
        model.encoder,
        with_grid=model.needs_grid,
        data=config.data,
        cache=config.cache,
        device=device,
        augmentation=Augmentation(config.augment, config.seed) if training else None,
    )
    unite(features.bad)  # what one process could not read
    return features


def save(run: Run, log: RunLog, *, is_best: bool) -> None:
    """A checkpoint from which the run can be carried on exactly; its weights are the average, where one is kept.

    Of several processes the first writes it, with the random states of all.
    """
    refuse_different_ranks(run.model, run.captions, run.indices, run.progress.step, run.folder)
    unite(run.train_features.bad)
    random_states = gathered(random_state(run.device))
    from_first(lambda: _write(run, log, random_states[1:], is_best))


def _write(run: Run, log: RunLog, other_random_states: list[dict[str, Tensor]], is_best: bool) -> None:
    state = trainer_state(run.progress, run.optimizer, run.device)
    state["other_random_states"] = other_random_states
    state["log"] = log.mark()
    state["bad_pictures"] = [run.train_features.bad, run.val_features.bad]
    state["left_out"] = {split: sorted(indices) for split, indices in run.left_out.items()}
    state["scaler"] = run.scaler.state_dict()
    state["portions"] = run.portions
    if run.average is not None:
        state["weights"] = [parameter.detach().clone() for parameter in run.average.parameters]
    with averaged(run):
        save_checkpoint(
            run.folder,
            run.progress.step,
            run.model,
            run.vocabulary,
            run.checkpoint_settings,
            state,
            is_best=is_best,
            keep_last=run.config.trainer.keep_last,
        )


def averaged(run: Run) -> AbstractContextManager[None]:
    """Inside, the model has the weights that are scored and kept: the average, where there is one."""
    return nullcontext() if run.average is None else run.average.in_place()


def restore(run: Run) -> None:
    """Put weights, optimizer, random state and position back where the run's latest checkpoint has them.

    A run that was killed before its first checkpoint begins again, and forgets what it had logged.
    """
    run.mark = {}
    if from_first(lambda: read_index(run.folder)) is None:
        return
    from_first(lambda: refuse_other_vocabulary(run))
    folder = load_weights_on_all(run, "latest")
    state = from_first(lambda: load_trainer_state(folder))
    run.progress = restore_trainer_state(state, run.optimizer, run.device, folder / TRAINER_FILE)
    run.progress.reconsider(run.config.trainer.patience)
    try:
        restore_random_state_of_rank(run, state.get("other_random_states", []))  # older checkpoints have none
        run.mark = checked_mark(state.get("log"))
        run.left_out |= {str(split): set(indices) for split, indices in state.get("left_out", {}).items()}
        if state.get("scaler"):  # empty where another precision was trained with
            run.scaler.load_state_dict(state["scaler"])
        if run.config.trainer.accumulate is None:  # found once a run: dropout's masks follow the portions
            run.portions = int(state.get("portions", 0))
        for source, bad in zip((run.train_features, run.val_features), state.get("bad_pictures", ()), strict=False):
            source.bad.update(bad)
        if run.average is not None:
            run.average.restore(state.get("weights", run.average.parameters))
        elif "weights" in state:
            raise ValueError("it keeps an average of the weights: resume with the trainer.ema that it was trained with")
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / TRAINER_FILE} does not fit this run ({error}).") from error


def refuse_other_vocabulary(run: Run) -> None:
    """CheckpointError where the run's latest checkpoint has other words than the training captions give now."""
    if load_vocabulary(find_checkpoint(run.folder, "latest")) != run.vocabulary:
        raise CheckpointError(
            f"{run.folder} cannot be resumed: its vocabulary is not the one that the training captions give now. "
            "The captions, the tokenizer or the vocabulary's settings have changed since it was started."
        )


def load_weights_on_all(run: Run, which: str) -> Path:
    """Fill the model from the run's "latest" or "best" checkpoint, which only the first process must be able to read.

    Returns the checkpoint's folder.
    """

    def load() -> tuple[Path, dict[str, Tensor]]:
        folder = find_checkpoint(run.folder, which)
        load_weights(run.model, folder)
        return folder, {name: tensor.cpu() for name, tensor in run.model.state_dict().items()}

    folder, weights = from_first(load)
    if not is_first():
        run.model.load_state_dict(weights)
    return folder


def restore_random_state_of_rank(run: Run, others: list[dict[str, Tensor]]) -> None:
    """Give every process but the first the random state it had, or, where their number is another now, a new one."""
    place = place_in_job()
    if place.rank > 0 and len(others) == place.size - 1:
        restore_random_state(others[place.rank - 1], run.device)
    elif place.rank > 0:
        torch.manual_seed(mix_seeds(run.config.seed, run.progress.step, place.rank))
