"""The training loop, top to bottom: epochs of steps, and after each epoch a validation with generated captions.

Two runs with one seed on a CPU give the same bytes, and a resumed run gives those of an uninterrupted one: every random
choice is a function of (seed, epoch, image) or of torch's own random state, which the checkpoint stores.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captioner.config import DecodeConfig, MetricConfig
from captioner.data.datasets.registry import add_boxes, add_objects, load_dataset
from captioner.data.features.class_source import with_classes
from captioner.distributed.ranks import all_gather, all_gather_union, broadcast_from_rank0, is_main_process, rank_info
from captioner.evaluation.evaluate import evaluate_model, generate_captions
from captioner.evaluation.evaluation import Evaluation, score_captions, write_evaluation
from captioner.evaluation.reference_loss import ReferenceLossSum
from captioner.metrics.registry import needs_objects, print_factor, validation_metrics
from captioner.nn.cells import cells_of
from captioner.training.disk_errors import disk_errors_explained
from captioner.training.epoch_log import EpochLog
from captioner.training.logs import RunLog, read_records
from captioner.training.nan_detection import nan_source_reported
from captioner.training.out_of_memory import (
    find_accumulation_steps,
    out_of_memory_explained,
    while_captioning,
    while_training,
)
from captioner.training.phases import describe_phases
from captioner.training.precision import autocast, float32_matmul_precision
from captioner.training.resume import load_weights_on_all, save, using_ema_weights
from captioner.training.run import Run
from captioner.training.sample_captions import caption_samples, log_samples
from captioner.training.setup import begin_epoch, features_of
from captioner.training.signals import Interrupted, StopRequest
from captioner.training.step import TrainingBatch, describe_batch, train_step, training_batches

GREEDY = "greedy"  # the search of validations during training: the fastest


@dataclass(frozen=True)
class TrainingResult:
    """The result of a finished run; evaluations: by split, the first of them is that of `metrics.json`.

    encodes_images: False for a model of features made elsewhere, which cannot caption an image.
    """

    folder: Path
    parameters: int
    words_per_second: float
    evaluations: dict[str, Evaluation]
    encodes_images: bool = True


def train(run: Run) -> TrainingResult:
    """Train a prepared run to its end, and score its best checkpoint.

    Raises a CaptionerError with a message for the user, or Interrupted where it was asked to stop: a checkpoint is
    then saved from which the run can be resumed exactly.
    """
    trainer, progress = run.config.trainer, run.progress
    step = progress.step if run.resumed else None
    with (
        disk_errors_explained(run.folder),
        RunLog(run.folder, sizes=run.log_sizes, step=step, tensorboard=trainer.tensorboard) as log,
        StopRequest() as stop,
    ):
        log_start(run, log)
        while not run.is_over or progress.last_validation_step < progress.step:  # a validation may be left
            enter_phase(run, log)
            with in_precision_of_run(run, while_training), EpochLog(run, log) as epoch_log:
                run.model.train()
                all_gather_union(run.train_features.bad)
                for batch in training_batches(run):
                    with nan_source_of(run, batch):
                        losses = train_step(run, batch)
                    epoch_log.record(batch, losses)
                    if signal_number := stop_requested(stop):
                        save(run, log, is_best=False)
                        log_stop(run, log, signal_number)
                        raise Interrupted(signal_number)
                progress.end_epoch(run.steps_per_epoch)
            if progress.epoch % trainer.validate_every == 0 or run.is_over:
                with in_precision_of_run(run, while_captioning):
                    validate(run, log, stop)
                if signal_number := stop_requested(stop):
                    log_stop(run, log, signal_number)
                    raise Interrupted(signal_number)
        try:
            with stop.at_once(), out_of_memory_explained(run, while_captioning):
                return finish(run)
        except Interrupted as stopped:
            log_stop(run, log, stopped.signal_number)
            raise


@contextmanager
def in_precision_of_run(run: Run, advice: Callable[[Run], str]) -> Iterator[None]:
    """A context with `trainer.float32_matmul_precision`, in which an out-of-memory error is explained with `advice`."""
    precision = run.config.trainer.float32_matmul_precision
    with out_of_memory_explained(run, advice), float32_matmul_precision(precision, run.device):
        yield


def nan_source_of(run: Run, batch: TrainingBatch) -> AbstractContextManager[None]:
    """With `trainer.detect_anomaly`, a context in which the source of a NaN is reported."""
    if not run.config.trainer.detect_anomaly:
        return nullcontext()
    return nan_source_reported(run.model, describe_batch(run, batch))


def stop_requested(stop: StopRequest) -> int:
    """The signal that any process of the job has received, or 0: the same result in all processes."""
    return max(all_gather(stop.signal_number or 0))


def log_stop(run: Run, log: RunLog, signal_number: int) -> None:
    """Log that a run was stopped and saved; a resumed run, whose log is that of an uninterrupted one, removes it."""
    log.info(f"Stopped by {signal.Signals(signal_number).name} at step {run.progress.step}; the checkpoint is saved.")


def enter_phase(run: Run, log: RunLog) -> None:
    """Enter the phase of the current epoch, log its start, and find out how many micro-batches fit into memory."""
    if begin_epoch(run):
        lines = describe_phases(run.phases, run.steps_per_epoch, run.total_steps)
        log.info(f"{lines[run.phases.index(run.phase)]}; training features from {run.train_features.origin}")
    if not run.gradient_accumulation_steps:
        run.gradient_accumulation_steps = max(all_gather(find_accumulation_steps(run)))
        steps = run.gradient_accumulation_steps
        log.info(f"trainer.gradient_accumulation_steps={steps} is the smallest value that fits into memory.")


def validate(run: Run, log: RunLog, stop: StopRequest) -> None:
    """Caption the validation split greedily, score the captions, save a checkpoint, and check for early stopping.

    The loss on the validation captions is that of cross-entropy training in every phase, without label smoothing.
    """
    trainer, progress = run.config.trainer, run.progress
    decode = DecodeConfig(name=GREEDY, max_length=run.config.decode.max_length)
    started = time.perf_counter()
    is_single_process = rank_info().world_size == 1  # several processes stop together, after the validation
    try:
        with (
            using_ema_weights(run),
            autocast(trainer.precision, run.device),
            stop.at_once() if is_single_process else nullcontext(),
        ):
            loss_sum = ReferenceLossSum(run.val_set, run.val_captions, len(run.vocabulary))
            captions = generate_captions(
                run.model,
                run.vocabulary,
                run.tokenizer,
                run.val_set,
                run.val_features,
                decode,
                trainer.eval_batch_size,
                loss_sum,
            )
            reference_loss = loss_sum.gather()
            metrics = MetricConfig(names=validation_metrics(trainer.monitor), tokenizer=run.config.metric.tokenizer)
            scores = broadcast_from_rank0(
                lambda: (
                    score_captions(
                        captions, run.val_set, metrics, run.config.tokenizer, meteor=run.config.meteor
                    ).corpus
                )
            )
            samples = caption_samples(run, decode) if log.tensorboard is not None else []
    except Interrupted as stopped:
        progress.reopen_epoch(run.steps_per_epoch)
        save(run, log, is_best=False)
        log_stop(run, log, stopped.signal_number)
        raise
    seconds = time.perf_counter() - started
    patience = trainer.patience if run.phase == run.phases[-1] else None  # a later phase may improve the score
    is_best = progress.update_best(scores[trainer.monitor], patience, is_over=run.is_over)
    log_skipped_images(run, log)
    losses = {} if reference_loss is None else reference_loss.scores
    log.record("validation", progress.step, epoch=progress.epoch, **scores, **losses, seconds=round(seconds, 2))
    if log.tensorboard is not None:
        log_samples(run, samples, log.tensorboard)
    shown = "  ".join(f"{name} {print_factor(name) * value:.1f}" for name, value in scores.items())
    shown += "".join(f"  {name} {value:.3f}" for name, value in losses.items())
    log.info(f"epoch {progress.epoch}  step {progress.step}  {shown}{'  (best)' if is_best else ''}")
    if progress.stopped_early:
        log.info(f"Stopped early: {trainer.monitor} has not improved for {trainer.patience} validations.")
    save(run, log, is_best=is_best, score=scores[trainer.monitor])


def log_start(run: Run, log: RunLog) -> None:
    """Log the notices about the data and the settings, the phases of a new run, and what is trained on what."""
    config, progress, processes = run.config, run.progress, rank_info().world_size
    for notice in dict.fromkeys((*run.train_set.notices, *run.val_set.notices, *run.advice)):
        log.info(f"Note: {notice}")
    if progress.step == 0:  # the log of a resumed run has these lines already
        log_skipped_images(run, log)
    if progress.step == 0 or run.phases_changed:
        for line in describe_phases(run.phases, run.steps_per_epoch, run.total_steps):
            log.info(line)
        if config.reward.after is not None:
            log.info(f"Reward of self-critical training: {config.reward.formula}")
    if progress.stopped_early:
        log.info(f"The run was stopped early: raise trainer.patience={config.trainer.patience} to train it further.")
    parameters = count_parameters(run.model.decoder)
    captions = run.captions.captions_per_image[np.asarray(run.indices)].sum()
    cell = f"{config.model.cell}, " if any(cells_of(run.model.decoder)) else ""  # a decoder may have no such cell
    log.info(
        f"{'Resuming' if run.resumed else 'Training'} {config.model.name} ({cell}"
        f"{parameters / 1e6:.1f} M parameters) on {len(run.indices)} images and {captions} captions of "
        f"{run.train_set.name}; {len(run.vocabulary)} words; encoder {run.model.encoder.name}; on {run.device}"
        f"{f' in {processes} processes' if processes > 1 else ''}; "
        f"training features from {run.train_features.origin}, validation features from {run.val_features.origin}; "
        f"step {progress.step} of {run.total_steps}; run folder {run.folder}"
    )


def log_skipped_images(run: Run, log: RunLog) -> None:
    """Log the unreadable images that have not been logged yet (there are some with data.on_bad_image=skip only)."""
    for dataset, source in ((run.train_set, run.train_features), (run.val_set, run.val_features)):
        new = source.bad.keys() - run.skipped_images[dataset.split]
        for index in sorted(new):
            log.info(f"Skipped in {dataset.split}: {source.bad[index]}")
        if new:
            log.record("skipped_images", run.progress.step, split=dataset.split, images=len(source.bad))
        run.skipped_images[dataset.split] |= new


def finish(run: Run) -> TrainingResult:
    """Score the best checkpoint with the settings of `decode` and `metric`, and write the results."""
    config = run.config
    load_weights_on_all(run, "best")
    evaluations: dict[str, Evaluation] = {}
    for split in config.trainer.evaluate_splits:
        dataset = run.val_set if split == run.val_set.split else load_dataset(config.data, split)
        is_val_set = dataset is run.val_set
        features = run.val_features if is_val_set else features_of(config, dataset, run.model, run.device)
        features = with_classes(
            features,
            dataset,
            run.model.encoder,
            config.encoder,
            config.decode,
            data=config.data,
            cache=config.cache,
            device=run.device,
        )
        if config.metric.grounding is not None:
            dataset = add_boxes(config.data, dataset)
        if needs_objects(config.metric.names):
            dataset = add_objects(config.data, dataset)
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
            config.meteor,
        )
    parameters = count_parameters(run.model.decoder)
    losses = [record["loss"] for record in read_records(run.folder) if record["kind"] == "train"]
    run_facts = {
        "parameters": parameters,
        "best_step": run.progress.best_step,
        "steps": run.progress.step,
        "epochs": run.progress.epoch,
        "words_per_second": round(run.progress.words_per_second),
        "seed": config.seed,
        **({"loss": losses[-1]} if losses else {}),
    }
    if is_main_process():
        write_evaluations(run, list(evaluations.values()), run_facts)
    encodes_images = run.model.encoder.encodes_images
    return TrainingResult(run.folder, parameters, run.progress.words_per_second, evaluations, encodes_images)


def write_evaluations(run: Run, evaluations: Sequence[Evaluation], run_facts: Mapping[str, Any]) -> None:
    """Write the scores of the first split to `metrics.json`, and those of the others to `metrics_<split>.json`.

    The first comes last: with it the run is finished.
    """
    for number, evaluation in reversed(list(enumerate(evaluations))):
        file = f"metrics_{evaluation.split}.json" if number else "metrics.json"
        per_image = run.config.metric.per_image
        write_evaluation(run.folder, evaluation, per_image=per_image, extra={"run": run_facts}, metrics_file=file)


def count_parameters(module: torch.nn.Module) -> int:
    """The number of parameters of a module; shared parameters count once."""
    return sum(parameter.numel() for parameter in module.parameters())
