"""Training, top to bottom: epochs of steps, each epoch judged by captions that the model says by itself.

Two runs with one seed on a CPU give the same bytes, and a resumed run gives those of an
uninterrupted one: every random choice is a function of (seed, epoch, image) or of torch's own
random state, which the checkpoint keeps.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from captioner.config import DecodeConfig, MetricConfig
from captioner.data.datasets.registry import add_boxes, load_dataset
from captioner.distributed.ranks import all_gather, all_gather_union, broadcast_from_rank0, is_main_process, rank_info
from captioner.evaluation.evaluate import (
    Evaluation,
    evaluate_model,
    generate_captions,
    score_captions,
    write_evaluation,
)
from captioner.metrics.registry import validation_metrics
from captioner.training.disk_errors import disk_errors_explained
from captioner.training.logs import RunLog, read_records
from captioner.training.nan_detection import nan_source_reported
from captioner.training.out_of_memory import (
    find_accumulation_steps,
    out_of_memory_explained,
    while_captioning,
    while_training,
)
from captioner.training.precision import autocast, float32_matmul_precision
from captioner.training.resume import load_weights_on_all, save, using_ema_weights
from captioner.training.run import Run
from captioner.training.sample_captions import caption_samples, log_samples
from captioner.training.setup import begin_epoch, features_of
from captioner.training.signals import Interrupted, StopRequest
from captioner.training.step import describe_batch, train_step, training_batches

GREEDY = "greedy"  # how captions for validation during training are decoded: fast, and never teacher-forced


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
    trainer, progress = run.config.trainer, run.progress
    step = progress.step if run.resumed else None
    with (
        disk_errors_explained(run.folder),
        RunLog(run.folder, sizes=run.log_sizes, step=step, tensorboard=trainer.tensorboard) as log,
        StopRequest() as stop,
    ):
        describe(run, log)
        while not run.is_over or progress.last_validation_step < progress.step:  # stopped after the last step, perhaps
            for sentence in begin_epoch(run):
                log.say(sentence)
            if not run.gradient_accumulation_steps:
                run.gradient_accumulation_steps = max(all_gather(find_accumulation_steps(run)))
                steps = run.gradient_accumulation_steps
                log.say(f"trainer.gradient_accumulation_steps={steps} is the smallest value that fits into memory.")
            with (
                out_of_memory_explained(run, while_training),
                float32_matmul_precision(trainer.float32_matmul_precision),
            ):
                train_epoch(run, log, stop)
            if progress.epoch % trainer.validate_every == 0 or run.is_over:
                with (
                    out_of_memory_explained(run, while_captioning),
                    float32_matmul_precision(trainer.float32_matmul_precision),
                ):
                    validate(run, log, stop)
                if signal_number := stop_requested(stop):
                    raise Interrupted(signal_number)
        with stop.at_once(), out_of_memory_explained(run, while_captioning):
            return finish(run)


def stop_requested(stop: StopRequest) -> int:
    """The signal that any process of the job was sent, or 0: the same answer in all."""
    return max(all_gather(stop.signal_number or 0))


def train_epoch(run: Run, log: RunLog, stop: StopRequest) -> None:
    """The rest of the current epoch."""
    trainer, progress = run.config.trainer, run.progress
    run.model.train()
    all_gather_union(run.train_features.bad)
    since_log, log_started = 0, time.perf_counter()
    step_started = log_started
    title = f"epoch {progress.epoch + 1}/{trainer.max_epochs}"
    with tqdm(
        total=run.steps_per_epoch, initial=progress.batch, desc=title, unit="batch", disable=not sys.stderr.isatty()
    ) as bar:
        for step in () if run.is_over else training_batches(run):
            with nan_source_reported(run.model, describe_batch(run, step)) if trainer.detect_anomaly else nullcontext():
                losses = train_step(run, step)
            now = time.perf_counter()
            progress.words, progress.seconds = progress.words + step.totals.words, progress.seconds + now - step_started
            step_started = now
            since_log += step.totals.words
            if losses:  # none where not one image of the batch could be read
                progress.note(losses)
            if progress.step % trainer.log_every == 0 and progress.steps_summed:
                means = progress.compute_and_reset()
                speed = since_log / (time.perf_counter() - log_started)
                log.record("train", progress.step, epoch=progress.epoch + 1, **means, words_per_second=round(speed))
                bar.set_postfix(loss=f"{means['loss']:.3f}", words_per_second=f"{speed:.0f}")
                since_log, log_started = 0, time.perf_counter()
            bar.update()
            if signal_number := stop_requested(stop):
                save(run, log, is_best=False)
                raise Interrupted(signal_number)
            if progress.step >= run.total_steps:
                break
    if progress.batch >= run.steps_per_epoch:
        progress.epoch, progress.batch = progress.epoch + 1, 0


def validate(run: Run, log: RunLog, stop: StopRequest) -> None:
    """Caption the validation split greedily, score it, save, and decide whether to go on."""
    trainer, progress = run.config.trainer, run.progress
    decode = DecodeConfig(name=GREEDY, max_length=run.config.decode.max_length)
    metric = MetricConfig(names=validation_metrics(trainer.monitor))
    started = time.perf_counter()
    alone = rank_info().size == 1  # several processes must stop at the same place: after this
    try:
        with (
            using_ema_weights(run),
            autocast(trainer.precision, run.device),
            stop.at_once() if alone else nullcontext(),
        ):
            captions = generate_captions(
                run.model, run.vocabulary, run.tokenizer, run.val_set, run.val_features, decode, trainer.eval_batch_size
            )
            scores = broadcast_from_rank0(
                lambda: score_captions(captions, run.val_set, metric, run.config.tokenizer).corpus
            )
            samples = caption_samples(run, decode) if log.tensorboard is not None else []
    except Interrupted:
        progress.reopen_epoch(run.steps_per_epoch)
        save(run, log, is_best=False)
        raise
    seconds = time.perf_counter() - started
    rewards_to_come = run.reward is not None and not run.in_rl_phase
    stage_to_come = run.model.encoder.fine_tuning_paused or run.whole_images or rewards_to_come
    patience = None if stage_to_come else trainer.patience
    is_best = progress.update_best(scores[trainer.monitor], patience, is_over=run.is_over)
    log_skipped_images(run, log)
    log.record("validation", progress.step, epoch=progress.epoch, **scores, seconds=round(seconds, 2))
    if log.tensorboard is not None:
        log_samples(run, samples, log.tensorboard)
    figures = "  ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
    log.say(f"epoch {progress.epoch}  step {progress.step}  {figures}{'  (best)' if is_best else ''}")
    if progress.stopped_early:
        log.say(f"Stopped early: {trainer.monitor} has not improved for {trainer.patience} validations.")
    save(run, log, is_best=is_best)


def describe(run: Run, log: RunLog) -> None:
    """Say what is about to happen, and every notice about the data that a person should read first."""
    for notice in dict.fromkeys((*run.train_set.notices, *run.val_set.notices)):
        log.say(f"Note: {notice}")
    if run.progress.step == 0:  # a resumed run says it where an uninterrupted one would
        log_skipped_images(run, log)
    decoder = count_parameters(run.model.decoder)
    config, processes = run.config, rank_info().size
    captions = run.captions.captions_per_image[np.asarray(run.indices)].sum()
    if run.progress.stopped_early:
        log.say(f"It was stopped early: raise trainer.patience={config.trainer.patience} to train it further.")
    log.say(
        f"{'Resuming' if run.resumed else 'Training'} {config.model.name} ({config.model.cell}, {decoder / 1e6:.1f} M "
        f"parameters) on {len(run.indices)} images and {captions} captions of "
        f"{run.train_set.name}; {len(run.vocabulary)} words; encoder {run.model.encoder.name}; on {run.device}"
        f"{f' in {processes} processes' if processes > 1 else ''}; "
        f"features for training from {run.train_features.origin}, for validation from {run.val_features.origin}; "
        f"step {run.progress.step} of {run.total_steps}; run folder {run.folder}"
    )


def log_skipped_images(run: Run, log: RunLog) -> None:
    """Name the images that could not be read since this was last said (only with data.on_bad_image=skip)."""
    for dataset, source in ((run.train_set, run.train_features), (run.val_set, run.val_features)):
        new = source.bad.keys() - run.skipped_images[dataset.split]
        for index in sorted(new):
            log.say(f"Skipped in {dataset.split}: {source.bad[index]}")
        if new:
            log.record("skipped_images", run.progress.step, split=dataset.split, images=len(source.bad))
        run.skipped_images[dataset.split] |= new


def finish(run: Run) -> TrainingResult:
    """Score the best checkpoint with the run's own decode settings and write the figures."""
    config = run.config
    load_weights_on_all(run, "best")
    evaluations: dict[str, Evaluation] = {}
    for split in config.trainer.evaluate_splits:
        dataset = run.val_set if split == run.val_set.split else load_dataset(config.data, split)
        known = dataset is run.val_set
        features = run.val_features if known else features_of(config, dataset, run.model, run.device)
        if config.metric.grounding is not None:
            dataset = add_boxes(config.data, dataset)
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
    for evaluation in reversed(evaluations.values()) if is_main_process() else ():
        write_evaluation(
            run.folder, evaluation, per_image=config.metric.per_image, extra={"run": run_facts}
        )  # the first split's metrics.json stays
    return TrainingResult(run.folder, parameters, run.progress.words_per_second, evaluations)


def count_parameters(module: torch.nn.Module) -> int:
    """Numbers that a module holds; shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
