"""The progress bar of one epoch, and the log lines of its steps."""

from __future__ import annotations

import time
from types import TracebackType

from captioner.distributed.ranks import is_main_process
from captioner.progress_bar import Progress
from captioner.training.logs import RunLog
from captioner.training.phases import phase_of_epoch
from captioner.training.run import Run
from captioner.training.step import TrainingBatch


class EpochLog:
    """A context for the steps of an epoch: `record` counts a step and, every `trainer.log_every` steps, logs means.

    The last line before another objective starts may be of fewer steps.
    """

    def __init__(self, run: Run, log: RunLog) -> None:
        self.run, self.log = run, log
        self.bar = Progress(
            run.steps_per_epoch,
            f"epoch {run.progress.epoch + 1}/{run.config.trainer.max_epochs}",
            "batch",
            initial=run.progress.batch,
            keep=True,
            enabled=is_main_process(),
        )
        self.words_since_log = 0
        self.step_started = self.log_started = time.perf_counter()

    def record(self, batch: TrainingBatch, losses: dict[str, float]) -> None:
        """Count a step in the run's progress; `losses` is empty where no image of the batch could be read."""
        progress, now = self.run.progress, time.perf_counter()
        progress.words, progress.seconds = (
            progress.words + batch.totals.words,
            progress.seconds + now - self.step_started,
        )
        self.step_started = now
        self.words_since_log += batch.totals.words
        if losses:
            progress.add(losses)
        if progress.step % self.run.config.trainer.log_every == 0:
            self._write(progress.epoch + 1)
        self.bar.update()

    def _write(self, epoch: int) -> None:
        """Log the means over the steps since the last line, if there are any."""
        progress = self.run.progress
        if not progress.steps_summed:
            return
        means = progress.compute_and_reset()
        speed = self.words_since_log / (time.perf_counter() - self.log_started)
        self.log.record("train", progress.step, epoch=epoch, **means, words_per_second=round(speed))
        self.bar.show(f"loss {means['loss']:.3f}, {speed:,.0f} words per second")
        self.words_since_log, self.log_started = 0, time.perf_counter()

    def __enter__(self) -> EpochLog:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = self.run
        if error is None and phase_of_epoch(run.phases, run.progress.epoch).objective != run.phase.objective:
            self._write(run.progress.epoch)  # losses of two objectives have no mean
        self.bar.__exit__(kind, error, trace)
