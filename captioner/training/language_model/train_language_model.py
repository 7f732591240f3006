"""Training a language model, top to bottom: windows of text, the state carried from each to the next.

Truncated backpropagation through time: B streams of text are read side by side, T tokens at a step. The state
after a window is where the next one begins, but no gradient flows back over the border. Two runs with one seed
on a CPU give the same bytes, and a resumed run gives those of an uninterrupted one.
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
MOST_COUNTED = 1_000_000  # tokens, at the training part's end, of which the counts are made: they take a GB of memory


@dataclass(frozen=True)
class LanguageResult:
    """What a finished run found; `figures` is what `metrics.json` holds."""

    folder: Path
    figures: dict[str, Any]


def train_language_model(run: LanguageRun) -> LanguageResult:
    """Train a prepared run to its end and measure its best checkpoint.

    Raises a CaptionerError for anything a person can mend, and Interrupted, after saving, when asked
    to stop. The folder then holds a checkpoint that can be carried on from exactly.
    """
    trainer = run.config.trainer
    step = run.progress.step if run.resumed else None
    with (
        disk_errors_explained(run.folder),
        RunLog(run.folder, sizes=run.log_sizes, step=step, tensorboard=trainer.tensorboard) as log,
        StopRequest() as stop,
    ):
        describe(run, log)
        while not run.is_over:
            train_epoch(run, log, stop)
        with stop.at_once():
            return finish(run)


def train_epoch(run: LanguageRun, log: RunLog, stop: StopRequest) -> None:
    """The rest of the current epoch."""
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
            if is_validated:  # last: what is logged of this step belongs to its checkpoint
                save_language_run(run, log, is_best=is_best)
            if stop.signal_number is not None:
                save_language_run(run, log, is_best=False)
                raise Interrupted(stop.signal_number)
            if run.is_over:
                break
    progress.end_epoch(run.steps_per_epoch)


def windows_of_epoch(run: LanguageRun) -> Iterator[tuple[Tensor, Tensor]]:
    """What is read and what should be said, (B, T) each: the windows of the current epoch that are still to be done.

    At an epoch's beginning the streams start anew, from the zero state.
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
    """One optimizer step on a window (B, T); returns the loss in nats a token, the gradient's norm before clipping,
    and the learning rate. The state goes on to the next window, cut off from the graph of this one."""
    optim, progress = run.config.optim, run.progress
    factor = schedule_factor(optim, progress.step, run.total_steps, run.steps_per_epoch)
    learning_rate = set_learning_rate(run.optimizer, factor, progress.step)
    logits, hidden = run.model(inputs, run.hidden)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = clip_gradient(run.optimizer, optim.clip_norm)
    if torch.isfinite(loss) and torch.isfinite(norm):  # weights that are still good stay so
        run.optimizer.step()
    run.hidden = tuple(tensor.detach() for tensor in hidden)
    progress.step += 1
    progress.batch += 1
    return {"loss": float(loss.detach()), "gradient_norm": float(norm), "learning_rate": learning_rate}


def explain_lost_training(run: LanguageRun, what: str, value: float) -> str:
    """What happened, where, and what to do about it."""
    return (
        f"The {what} became {value} at step {run.progress.step} (epoch {run.progress.epoch + 1}). Lower "
        f"optim.learning_rate, or clip the gradient with optim.clip_norm; earlier checkpoints are in {run.folder}."
    )


def validate(run: LanguageRun, log: RunLog) -> bool:
    """Score the validation part, and decide whether to go on; returns whether this was the best score so far."""
    progress, started = run.progress, time.perf_counter()
    bits = mean_bits(run.model, run.parts.val)
    is_best = progress.update_best(-bits, run.config.trainer.patience, is_over=run.is_over)
    seconds = round(time.perf_counter() - started, 2)
    log.record("validation", progress.step, epoch=progress.epoch + 1, **{f"bits_per_{run.unit}": bits}, seconds=seconds)
    log.info(f"step {progress.step}  val {bits:.3f} bits a {run.unit}{'  (best)' if is_best else ''}")
    if progress.stopped_early:
        log.info(f"Stopped early: no gain for {run.config.trainer.patience} validations.")
    return is_best


def stages(total_steps: int, count: int) -> list[int]:
    """The steps after which a sample is drawn: total^(k/count) for k = 1 … count, for most is learnt at first."""
    return sorted({round(total_steps ** (k / count)) for k in range(1, count + 1)})


def write_sample(run: LanguageRun, log: RunLog) -> None:
    """Draw a text, log it, and write the samples of all stages so far to `samples.md`."""
    if run.config.trainer.sample_stages == 0:
        return
    config, vocabulary, level = run.config, run.parts.vocabulary, run.config.data.level
    prompt = vocabulary.encode(split_text(config.sampling.prompt, level))
    text = join_tokens(vocabulary.decode(sample_tokens(run.model, prompt, config.sampling)), level)
    log.record("sample", run.progress.step, text=config.sampling.prompt + text)
    pieces = [f"# What the model writes\n\nTemperature {config.sampling.temperature}, seed {config.sampling.seed}.\n"]
    for record in read_records(run.folder):
        if record["kind"] == "sample":
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", record["text"])), default=0))
            pieces.append(f"## After {record['step']} steps\n\n{fence}text\n{record['text']}\n{fence}\n")
    write_atomically(run.folder / SAMPLES_FILE, "\n".join(pieces).encode("utf-8"))


def describe(run: LanguageRun, log: RunLog) -> None:
    """Say what is about to happen."""
    parts, config = run.parts, run.config
    for part in ("val", "test"):
        if unknown := parts.count_unknown(part):
            log.info(f"Note: {unknown} {config.data.level} of {part} are not in the vocabulary, and count as <UNK>.")
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    log.info(
        f"{'Resuming' if run.resumed else 'Training'} a language model ({config.model.cell}, {parameters / 1e6:.2f} M "
        f"parameters) on {len(parts.train)} {config.data.level} of {parts.name}; {len(parts.vocabulary)} different "
        f"tokens; on {run.device}; step {run.progress.step} of {run.total_steps}; run folder {run.folder}"
    )


def finish(run: LanguageRun) -> LanguageResult:
    """Measure the best checkpoint on both held-out parts, and what counting alone achieves there."""
    load_weights(run.model, find_checkpoint(run.folder, "best"))
    held_out = {"val": run.parts.val, "test": run.parts.test}
    bits = {part: mean_bits(run.model, tokens) for part, tokens in held_out.items()}
    figures: dict[str, Any] = {"task": run.config.task, f"bits_per_{run.unit}": bits}
    if run.config.data.level == "words":
        figures["perplexity_per_word"] = {part: 2**value for part, value in bits.items()}
    if order := run.config.trainer.baseline_order:
        size = len(run.parts.vocabulary) - run.parts.vocabulary.special.unknown  # <UNK> may be said, the others not
        counting = NgramLanguageModel(run.parts.train[-MOST_COUNTED:].tolist(), order, size)
        by_part = {part: counting.bits(tokens.tolist()) for part, tokens in held_out.items()}
        figures["counting"] = [
            {"tokens_before": k, **{part: by_part[part][k] for part in held_out}} for k in range(order + 1)
        ]
    figures["tokens"] = {part: len(tokens) for part, tokens in {"train": run.parts.train, **held_out}.items()}
    figures["unknown"] = {part: run.parts.count_unknown(part) for part in held_out}
    figures["run"] = {
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "best_step": run.progress.best_step,
        "steps": run.progress.step,
        "epochs": run.progress.epoch,
        "tokens_per_second": round(run.progress.words_per_second),
        "seed": run.config.seed,
    }
    write_json(run.folder / "metrics.json", figures)
    return LanguageResult(run.folder, figures)
