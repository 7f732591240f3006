"""Training, top to bottom: data, words, model, features, then epochs of steps, each epoch judged by
captions that the model says by itself.

Two runs with one seed on a CPU give the same bytes, and a resumed run gives those of an
uninterrupted one: every random choice is a function of (seed, epoch, picture) or of torch's own
random state, which the checkpoint keeps.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captioner.config import AttentionConfig, DecodeConfig, MetricConfig, TrainConfig
from captioner.data.batches import (
    NumberedCaptions,
    captioned_pictures,
    choose_captions,
    epoch_batches,
    number_captions,
    tokenize_captions,
)
from captioner.data.build import available_splits, load_dataset
from captioner.data.dataset import CaptionDataset
from captioner.data.features import FeatureSource, open_features
from captioner.data.splits import split_name
from captioner.engine.checkpoint import (
    CheckpointSettings,
    find_checkpoint,
    load_trainer_state,
    load_weights,
    save_checkpoint,
)
from captioner.engine.device import choose_device
from captioner.engine.evaluation import Evaluation, evaluate_model, generate_captions, score_captions, write_evaluation
from captioner.engine.interrupt import Interrupted, StopRequest
from captioner.engine.logs import RunLog
from captioner.engine.objectives import captioning_losses
from captioner.engine.optimizer import build_optimizer, schedule_factor, set_learning_rate
from captioner.errors import CheckpointError, choose
from captioner.metrics.scorer import METRICS
from captioner.nn.build import build_model
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.state import ImageFeatures
from captioner.text.tokenizers import Tokenizer, build_tokenizer
from captioner.text.vocabulary import Vocabulary

VALIDATION = MetricConfig(names=["Bleu", "ROUGE_L", "CIDEr"])  # what each validation reports: the fast ones
GREEDY = "greedy"  # how captions for validation during training are decoded: fast, and never teacher-forced


@dataclass
class Progress:
    """Where a run stands: all that a resumed run must know besides weights, optimizer and random state."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs done
    batch: int = 0  # batches of the current epoch done
    best_score: float = float("-inf")
    best_step: int = 0
    validations_without_gain: int = 0
    stopped_early: bool = False


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
    progress: Progress = field(default_factory=Progress)
    resumed: bool = False
    left_out: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # split → pictures named so far

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.indices) // self.config.trainer.batch_size)

    @property
    def total_steps(self) -> int:
        trainer = self.config.trainer
        steps = trainer.max_epochs * self.steps_per_epoch
        return steps if trainer.max_steps is None else min(steps, trainer.max_steps)

    @property
    def checkpoint_settings(self) -> CheckpointSettings:
        config = self.config
        return CheckpointSettings(
            config.model, config.encoder, self.model.encoder.transform, config.tokenizer, config.decode
        )


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run found; `evaluations` by split, the first one being what `metrics.json` holds."""

    folder: Path
    parameters: int
    words_per_second: float
    evaluations: dict[str, Evaluation]


def train(run: Run) -> TrainingResult:
    """Train a prepared run to its end and score its best checkpoint.

    Raises a CaptionerError for anything a person can mend, and Interrupted, after saving, when asked
    to stop. The folder then holds a checkpoint that can be carried on from exactly.
    """
    trainer, first_step = run.config.trainer, run.progress.step
    resume_step = first_step if run.resumed else None
    with RunLog(run.folder, resume_step=resume_step, tensorboard=trainer.tensorboard) as log, StopRequest() as stop:
        describe(run, log)
        started, words = time.perf_counter(), 0
        while not is_over(run):
            words += train_epoch(run, log, stop)
            if run.progress.epoch % trainer.validate_every == 0 or is_over(run):
                validate(run, log)
        words_per_second = words / (time.perf_counter() - started)
    return finish(run, words_per_second)


def prepare(config: TrainConfig, folder: Path, *, resume: bool = False) -> Run:
    """Everything that stands before the first step, in the order in which mistakes are cheapest to find.

    Writes nothing but the feature cache. `resume`: from the latest checkpoint of the run in `folder`.
    """
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    check_names(config)
    train_set, val_set = load_dataset(config.data, "train"), load_dataset(config.data, "val")
    tokenizer = build_tokenizer(config.tokenizer)
    tokenized = tokenize_captions(train_set, tokenizer)
    vocabulary = Vocabulary.from_captions((words for own in tokenized for words in own), config.vocabulary)
    captions = number_captions(tokenized, vocabulary, config.trainer.max_caption_length)
    model = build_model(config.model, config.encoder, len(vocabulary)).to(device)
    usable = captioned_pictures(captions, train_set)
    train_features, val_features = (features_of(config, dataset, model, device) for dataset in (train_set, val_set))
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
        optimizer=build_optimizer(model, config.optim),
        resumed=resume,
    )
    if resume:
        restore(run)
    return run


def check_names(config: TrainConfig) -> None:
    """ConfigError for a metric or a split that is only needed at the end: before hours are spent."""
    for name in config.metric.names:
        choose("metric.names", name, METRICS)
    available = available_splits(config.data)
    for split in config.trainer.evaluate_splits:
        choose("trainer.evaluate_splits", split_name(split) or split, available)


def features_of(
    config: TrainConfig, dataset: CaptionDataset, model: CaptioningModel, device: torch.device
) -> FeatureSource:
    """Features of a data set as this run's decoder needs them."""
    return open_features(
        dataset, model.encoder, with_grid=model.needs_grid, data=config.data, cache=config.cache, device=device
    )


def is_over(run: Run) -> bool:
    """Have all steps been done, or has the score stopped getting better?"""
    return run.progress.step >= run.total_steps or run.progress.stopped_early


def train_epoch(run: Run, log: RunLog, stop: StopRequest) -> int:
    """The rest of the current epoch; returns how many words were learnt from."""
    trainer, progress = run.config.trainer, run.progress
    run.model.train()
    words, sums, since_log, log_started = 0, defaultdict[str, float](float), 0, time.perf_counter()
    title = f"epoch {progress.epoch + 1}/{trainer.max_epochs}"
    with tqdm(
        total=run.steps_per_epoch, initial=progress.batch, desc=title, unit="batch", disable=not sys.stderr.isatty()
    ) as bar:
        for features, captions, _ in epoch_of_batches(run):
            losses = train_step(run, features, captions)
            words += len(captions.targets)
            since_log += len(captions.targets)
            for name, value in losses.items():
                sums[name] += value
            if progress.step % trainer.log_every == 0:
                means = {name: total / trainer.log_every for name, total in sums.items()}
                speed = since_log / (time.perf_counter() - log_started)
                log.record("train", progress.step, epoch=progress.epoch + 1, **means, words_per_second=round(speed))
                bar.set_postfix(loss=f"{means['loss']:.3f}", words_per_second=f"{speed:.0f}")
                sums, since_log, log_started = defaultdict(float), 0, time.perf_counter()
            bar.update()
            if stop.signal_number is not None:
                save(run, is_best=False)
                raise Interrupted(stop.signal_number)
            if progress.step >= run.total_steps:
                break
    if progress.batch >= run.steps_per_epoch:
        progress.epoch, progress.batch = progress.epoch + 1, 0
    return words


def epoch_of_batches(run: Run) -> Iterator[tuple[ImageFeatures, PackedCaptions, list[int]]]:
    """The batches of the current epoch that are still to be done: features, captions, indices of the pictures."""
    config, progress = run.config, run.progress
    batches = epoch_batches(run.indices, config.trainer.batch_size, config.seed, progress.epoch)
    for indices, features in run.train_features.batches(batches[progress.batch :]):
        chosen = [
            choose_captions(run.captions[i], config.trainer.captions_per_image, config.seed, progress.epoch, i)
            for i in indices
        ]
        yield features, pack_captions(chosen).to(run.device), indices


def train_step(run: Run, features: ImageFeatures, captions: PackedCaptions) -> dict[str, float]:
    """One optimizer step; returns the losses, the gradient's norm before clipping, and the learning rate."""
    optim, progress = run.config.optim, run.progress
    factor = schedule_factor(optim, progress.step, run.total_steps, run.steps_per_epoch)
    learning_rate = set_learning_rate(run.optimizer, factor)
    penalty = run.config.model.doubly_stochastic if isinstance(run.config.model, AttentionConfig) else 0.0
    losses = captioning_losses(
        run.model,
        features,
        captions,
        label_smoothing=run.config.trainer.label_smoothing,
        doubly_stochastic=penalty,
    )
    run.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    norm = clip_gradient(run.optimizer, optim.clip_norm)
    run.optimizer.step()
    progress.step += 1
    progress.batch += 1
    return {name: float(value.detach()) for name, value in losses.items()} | {
        "gradient_norm": float(norm),
        "learning_rate": learning_rate,
    }


def clip_gradient(optimizer: torch.optim.Optimizer, clip_norm: float | None) -> Tensor:
    """Scale the whole gradient down to `clip_norm` where it is longer (Pascanu et al. 2013); returns its norm."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm)


def validate(run: Run, log: RunLog) -> None:
    """Caption the validation split greedily, score it, save, and decide whether to go on."""
    trainer, progress = run.config.trainer, run.progress
    decode = DecodeConfig(name=GREEDY, max_length=run.config.decode.max_length)
    started = time.perf_counter()
    captions = generate_captions(
        run.model, run.vocabulary, run.tokenizer, run.val_set, run.val_features, decode, trainer.eval_batch_size
    )
    scores = score_captions(captions, run.val_set, VALIDATION, run.config.tokenizer).corpus
    seconds = time.perf_counter() - started
    score = scores[trainer.monitor]
    is_best = score > progress.best_score
    if is_best:
        progress.best_score, progress.best_step, progress.validations_without_gain = score, progress.step, 0
    else:
        progress.validations_without_gain += 1
        too_long = trainer.patience is not None and progress.validations_without_gain >= trainer.patience
        progress.stopped_early = too_long and not is_over(run)
    say_what_was_left_out(run, log)
    log.record("validation", progress.step, epoch=progress.epoch, **scores, seconds=round(seconds, 2))
    figures = "  ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
    log.say(f"epoch {progress.epoch}  step {progress.step}  {figures}{'  (best)' if is_best else ''}")
    if progress.stopped_early:
        log.say(f"Stopped early: {trainer.monitor} has not improved for {trainer.patience} validations.")
    save(run, is_best=is_best)


def save(run: Run, *, is_best: bool) -> None:
    """A checkpoint from which the run can be carried on exactly."""
    state: dict[str, Any] = {
        "progress": dict(vars(run.progress)),
        "optimizer": run.optimizer.state_dict(),
        "random_state": torch.get_rng_state(),
    }
    if run.device.type == "cuda":
        state["cuda_random_state"] = torch.cuda.get_rng_state(run.device)
    save_checkpoint(
        run.folder, run.progress.step, run.model, run.vocabulary, run.checkpoint_settings, state, is_best=is_best
    )


def restore(run: Run) -> None:
    """Put weights, optimizer, random state and position back where the run's latest checkpoint has them."""
    folder = find_checkpoint(run.folder, "latest")
    if Vocabulary.load(folder / "vocab.json") != run.vocabulary:
        raise CheckpointError(
            f"{run.folder} cannot be resumed: its vocabulary is not the one that the training captions give now. "
            "The captions, the tokenizer or the vocabulary's settings have changed since it was started."
        )
    load_weights(run.model, folder)
    state = load_trainer_state(folder)
    run.optimizer.load_state_dict(state["optimizer"])
    run.progress = Progress(**state["progress"])
    run.progress.stopped_early = False  # resumed on purpose: more epochs, or more patience
    torch.set_rng_state(state["random_state"])
    if run.device.type == "cuda" and "cuda_random_state" in state:
        torch.cuda.set_rng_state(state["cuda_random_state"], run.device)


def describe(run: Run, log: RunLog) -> None:
    """Say what is about to happen, and every notice about the data that a person should read first."""
    for notice in dict.fromkeys((*run.train_set.notices, *run.val_set.notices)):
        log.say(f"Note: {notice}")
    say_what_was_left_out(run, log)
    decoder = count_parameters(run.model.decoder)
    config = run.config
    log.say(
        f"{'Resuming' if run.resumed else 'Training'} {config.model.name} ({config.model.cell}, {decoder / 1e6:.1f} M "
        f"parameters) on {len(run.indices)} pictures and {sum(len(run.captions[i]) for i in run.indices)} captions of "
        f"{run.train_set.name}; {len(run.vocabulary)} words; encoder {run.model.encoder.name}; on {run.device}; "
        f"step {run.progress.step} of {run.total_steps}; run folder {run.folder}"
    )


def say_what_was_left_out(run: Run, log: RunLog) -> None:
    """Name the pictures that could not be read since this was last said (only with data.on_bad_image=skip)."""
    for dataset, source in ((run.train_set, run.train_features), (run.val_set, run.val_features)):
        new = source.bad.keys() - run.left_out[dataset.split]
        for index in sorted(new):
            log.say(f"Left out of {dataset.split}: {source.bad[index]}")
        if new:
            log.record("left_out", run.progress.step, split=dataset.split, pictures=len(source.bad))
        run.left_out[dataset.split] |= new


def finish(run: Run, words_per_second: float) -> TrainingResult:
    """Score the best checkpoint with the run's own decode settings and write the figures."""
    config = run.config
    load_weights(run.model, find_checkpoint(run.folder, "best"))
    evaluations: dict[str, Evaluation] = {}
    for split in config.trainer.evaluate_splits:
        dataset = run.val_set if split == run.val_set.split else load_dataset(config.data, split)
        known = dataset is run.val_set
        features = run.val_features if known else features_of(config, dataset, run.model, run.device)
        evaluations[split] = evaluate_model(
            run.model,
            run.vocabulary,
            run.tokenizer,
            config.tokenizer,
            dataset,
            features,
            config.decode,
            config.metric,
            config.trainer.eval_batch_size,
            run.train_set.all_captions,
        )
    parameters = count_parameters(run.model.decoder)
    run_facts = {
        "parameters": parameters,
        "best_step": run.progress.best_step,
        "steps": run.progress.step,
        "epochs": run.progress.epoch,
        "words_per_second": round(words_per_second),
        "seed": config.seed,
    }
    for evaluation in reversed(evaluations.values()):
        write_evaluation(
            run.folder, evaluation, per_image=config.metric.per_image, extra={"run": run_facts}
        )  # the first split's metrics.json stays
    return TrainingResult(run.folder, parameters, words_per_second, evaluations)


def count_parameters(module: torch.nn.Module) -> int:
    """Numbers that a module holds; shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
