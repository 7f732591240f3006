"""The training loop of a language model: windows of text, with the state carried from each to the next.

Truncated backpropagation through time: B streams of text are read in parallel, T tokens per step. The state after a
window is the initial state of the next one, but no gradient flows back across the border. Two runs with one seed on a
CPU give the same bytes, and a resumed run gives those of an uninterrupted one.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from captioner.checkpoint.checkpoint import load_weights
from captioner.checkpoint.index import find_checkpoint
from captioner.data.text_corpus import text_streams
from captioner.decode.text_sampling import sample_tokens
from captioner.errors import TrainingError
from captioner.files import write_atomically, write_json
from captioner.metrics.ngram_language_model import NgramLanguageModel
from captioner.text.text_tokens import join_tokens, split_text
from captioner.training.disk_errors import disk_errors_explained
from captioner.training.language_model.held_out_loss import mean_bits
from captioner.training.language_model.language_model_run import LanguageRun, save_language_run
from captioner.training.logs import RunLog, read_records
from captioner.training.optimizer import clip_gradient, schedule_factor, set_learning_rate
from captioner.training.signals import Interrupted, StopRequest

SAMPLES_FILE = "samples.md"
MOST_COUNTED = 1_000_000  # tokens at the end of the training part for the n-gram baselines: they take a GB of memory


@dataclass(frozen=True)
class LanguageResult:
    """The result of a finished run; metrics: the content of `metrics.json`."""

    folder: Path
    metrics: dict[str, Any]


def train_language_model(run: LanguageRun) -> LanguageResult:
    """Train a prepared run to its end, and evaluate its best checkpoint.

    Raises a CaptionerError with a message for the user, or Interrupted where it was asked to stop: a checkpoint is
    then saved from which the run can be resumed exactly.
    """
    trainer = run.config.trainer
    step = run.progress.step if run.resumed else None
    with (
        disk_errors_explained(run.folder),
        RunLog(run.folder, sizes=run.log_sizes, step=step, tensorboard=trainer.tensorboard) as log,
        StopRequest() as stop,
    ):
        log_start(run, log)
        while not run.is_over:
            train_epoch(run, log, stop)
        with stop.at_once():
            return finish(run)


def train_epoch(run: LanguageRun, log: RunLog, stop: StopRequest) -> None:
    """Train the remaining windows of the current epoch."""
    trainer, progress = run.config.trainer, run.progress
    run.model.train()
    since_log, log_started = 0, time.perf_counter()
    title = f"epoch {progress.epoch + 1}/{trainer.max_epochs}"
    with tqdm(
        total=run.steps_per_epoch, initial=progress.batch, desc=title, unit="window", disable=not sys.stderr.isatty()
    ) as bar:
        for inputs, targets in windows_of_epoch(run):
            step_started = time.perf_counter()
            losses = train_step(run, inputs, targets)
            progress.seconds += time.perf_counter() - step_started
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(losses[name]):
                    raise TrainingError(explain_lost_training(run, name.replace("_", "'s "), losses[name]))
            progress.words += targets.numel()
            since_log += targets.numel()
            progress.add(losses)
            if progress.step % trainer.log_every == 0:
                means = progress.compute_and_reset()
                speed = since_log / (time.perf_counter() - log_started)
                log.record("train", progress.step, epoch=progress.epoch + 1, **means, tokens_per_second=round(speed))
                bar.set_postfix(bits=f"{means['loss'] / math.log(2):.3f}", tokens_per_second=f"{speed:.0f}")
                since_log, log_started = 0, time.perf_counter()
            bar.update()
            is_validated = progress.step % trainer.validate_every == 0 or run.is_over
            is_best = validate(run, log) if is_validated else False
            if run.is_over or progress.step in stages(run.total_steps, trainer.sample_stages):
                write_sample(run, log)
            if is_validated:  # last, so that the checkpoint covers the log lines of this step
                save_language_run(run, log, is_best=is_best)
            if stop.signal_number is not None:
                save_language_run(run, log, is_best=False)
                raise Interrupted(stop.signal_number)
            if run.is_over:
                break
    progress.end_epoch(run.steps_per_epoch)


def windows_of_epoch(run: LanguageRun) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets, (B, T) each, of the windows of the current epoch that are still to be trained.

    At the start of an epoch the streams start from the zero state.
    """
    trainer, progress, special = run.config.trainer, run.progress, run.parts.vocabulary.special
    streams = text_streams(
        run.parts.train, trainer.streams, trainer.window, special.start, run.config.seed, progress.epoch
    )
    inputs, targets = (stream.to(run.device) for stream in streams)
    if progress.batch == 0:
        run.hidden = run.model.initial(trainer.streams)
    for batch in range(progress.batch, run.steps_per_epoch):
        window = slice(batch * trainer.window, (batch + 1) * trainer.window)
        yield inputs[:, window], targets[:, window]


def train_step(run: LanguageRun, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """One optimizer step on a window (B, T); the detached state becomes the initial state of the next window.

    Returns the loss in nats per token, the gradient norm before clipping, and the learning rate.
    """
    optim, progress = run.config.optim, run.progress
    factor = schedule_factor(optim, progress.step, run.total_steps, run.steps_per_epoch)
    learning_rate = set_learning_rate(run.optimizer, factor, progress.step)
    logits, hidden = run.model(inputs, run.hidden)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = clip_gradient(run.optimizer, optim.clip_norm)
    if torch.isfinite(loss) and torch.isfinite(norm):  # otherwise the weights stay unchanged
        run.optimizer.step()
    run.hidden = tuple(tensor.detach() for tensor in hidden)
    progress.step += 1
    progress.batch += 1
    return {"loss": float(loss.detach()), "gradient_norm": float(norm), "learning_rate": learning_rate}


def explain_lost_training(run: LanguageRun, what: str, value: float) -> str:
    """The message for a loss or gradient that is infinite or NaN, with the step and remedies."""
    return (
        f"The {what} became {value} at step {run.progress.step} (epoch {run.progress.epoch + 1}). Lower "
        f"optim.learning_rate, or clip the gradient with optim.clip_norm; earlier checkpoints are in {run.folder}."
    )


def validate(run: LanguageRun, log: RunLog) -> bool:
    """Score the validation part, and check for early stopping; returns whether this is the best score so far."""
    progress, started = run.progress, time.perf_counter()
    bits = mean_bits(run.model, run.parts.val)
    is_best = progress.update_best(-bits, run.config.trainer.patience, is_over=run.is_over)
    seconds = round(time.perf_counter() - started, 2)
    log.record("validation", progress.step, epoch=progress.epoch + 1, **{f"bits_per_{run.unit}": bits}, seconds=seconds)
    log.info(f"step {progress.step}  val {bits:.3f} bits per {run.unit}{'  (best)' if is_best else ''}")
    if progress.stopped_early:
        log.info(f"Stopped early: no better score for {run.config.trainer.patience} validations.")
    return is_best


def stages(total_steps: int, count: int) -> list[int]:
    """The steps after which a text is sampled: total^(k/count) for k = 1 … count, because most is learned early."""
    return sorted({round(total_steps ** (k / count)) for k in range(1, count + 1)})


def write_sample(run: LanguageRun, log: RunLog) -> None:
    """Sample a text, log it, and write the samples of all stages so far to `samples.md`."""
    if run.config.trainer.sample_stages == 0:
        return
    config, vocabulary, level = run.config, run.parts.vocabulary, run.config.data.level
    prompt = split_text(config.sampling.prompt, level)
    generated = vocabulary.decode(sample_tokens(run.model, vocabulary.encode(prompt), config.sampling))
    log.record("sample", run.progress.step, text=join_tokens([*prompt, *generated], level))
    pieces = [f"# Samples\n\nTemperature {config.sampling.temperature}, seed {config.sampling.seed}.\n"]
    for record in read_records(run.folder):
        if record["kind"] == "sample":
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", record["text"])), default=0))
            pieces.append(f"## After {record['step']} steps\n\n{fence}text\n{record['text']}\n{fence}\n")
    write_atomically(run.folder / SAMPLES_FILE, "\n".join(pieces).encode("utf-8"))


def log_start(run: LanguageRun, log: RunLog) -> None:
    """Log unknown tokens of the held-out parts, and what is trained on what."""
    parts, config = run.parts, run.config
    for part in ("val", "test"):
        if unknown := parts.count_unknown(part):
            log.info(f"Note: {unknown} {config.data.level} of {part} are not in the vocabulary, and count as <UNK>.")
    for notice in run.advice:
        log.info(f"Note: {notice}")
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    log.info(
        f"{'Resuming' if run.resumed else 'Training'} a language model ({config.model.cell}, {parameters / 1e6:.2f} M "
        f"parameters) on {len(parts.train)} {config.data.level} of {parts.name}; {len(parts.vocabulary)} different "
        f"tokens; on {run.device}; step {run.progress.step} of {run.total_steps}; run folder {run.folder}"
    )


def finish(run: LanguageRun) -> LanguageResult:
    """Evaluate the best checkpoint, and the n-gram baselines, on both held-out parts."""
    load_weights(run.model, find_checkpoint(run.folder, "best"))
    held_out = {"val": run.parts.val, "test": run.parts.test}
    bits = {part: mean_bits(run.model, tokens) for part, tokens in held_out.items()}
    metrics: dict[str, Any] = {"task": run.config.task, f"bits_per_{run.unit}": bits}
    if run.config.data.level == "words":
        metrics["perplexity_per_word"] = {part: 2**value for part, value in bits.items()}
    if order := run.config.trainer.baseline_order:
        size = len(run.parts.vocabulary) - run.parts.vocabulary.special.unknown  # without special tokens except <UNK>
        baseline = NgramLanguageModel(run.parts.train[-MOST_COUNTED:].tolist(), order, size)
        by_part = {part: baseline.bits(tokens.tolist()) for part, tokens in held_out.items()}
        metrics["counting"] = [
            {"tokens_before": k, **{part: by_part[part][k] for part in held_out}} for k in range(order + 1)
        ]
    metrics["tokens"] = {part: len(tokens) for part, tokens in {"train": run.parts.train, **held_out}.items()}
    metrics["unknown"] = {part: run.parts.count_unknown(part) for part in held_out}
    metrics["run"] = {
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "best_step": run.progress.best_step,
        "steps": run.progress.step,
        "epochs": run.progress.epoch,
        "tokens_per_second": round(run.progress.words_per_second),
        "seed": run.config.seed,
    }
    write_json(run.folder / "metrics.json", metrics)
    return LanguageResult(run.folder, metrics)
