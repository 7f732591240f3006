"""Memory that runs out: said with the setting to change, and, on request, found out before training starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from captioner.engine.distributed import place_in_job
from captioner.engine.run import Run
from captioner.engine.step import Step, losses_of_portion, trial_step
from captioner.errors import TrainingError

_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Is this how torch or Python say that memory ran out? A CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
    )


@contextmanager
def out_of_memory_explained(run: Run) -> Iterator[None]:
    """Inside, memory that runs out raises TrainingError with what may be done about it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        trainer = run.config.trainer
        size = -(-trainer.batch_size // (run.portions * place_in_job().size))
        learning = "" if run.model.encoder.frozen else ", set encoder.gradient_checkpointing=true"
        raise TrainingError(
            f"Memory ran out on {run.device} at step {run.progress.step + 1}, with {size} pictures at a time. The same "
            f"training in less memory: trainer.accumulate={2 * run.portions} (now {run.portions}; null finds it)"
            f"{learning}. Or lower trainer.batch_size, or trainer.eval_batch_size if it happened while captioning. "
            f"Then carry on with resume={run.folder} if it holds a checkpoint."
        ) from error


def find_portions(run: Run) -> int:
    """In how few portions, a power of two, the batch with the longest captions fits into memory.

    Each trial computes losses and gradients and undoes what they left: weights, optimizer and random state are as
    before. TrainingError where not even one picture at a time fits.
    """
    portions = 1
    with _undone(run):
        while True:
            step = trial_step(run, portions)
            if _fits(run, step):
                return portions
            if portions >= run.config.trainer.batch_size:
                raise TrainingError(
                    f"Not even one picture at a time fits into the memory of {run.device}: choose smaller "
                    "model.hidden_dim and model.embedding_dim, or trainer.captions_per_image=1."
                )
            portions *= 2


def _fits(run: Run, step: Step) -> bool:
    try:
        for features, captions in step.portions:
            losses_of_portion(run, features, captions, step.totals)["loss"].backward()  # type: ignore[no-untyped-call]
        # Adam's two averages come with the first update
        if not run.optimizer.state:
            _ = [torch.empty_like(p) for group in run.optimizer.param_groups for p in (*group["params"],) * 2]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        run.optimizer.zero_grad(set_to_none=True)
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


@contextmanager
def _undone(run: Run) -> Iterator[None]:
    """Random state, running statistics and mode are afterwards what they were."""
    devices = [run.device] if run.device.type == "cuda" else []
    buffers = {name: buffer.clone() for name, buffer in run.model.named_buffers()}
    was_training = run.model.training
    with torch.random.fork_rng(devices):
        run.model.train()
        try:
            yield
        finally:
            run.model.train(was_training)
            for name, buffer in run.model.named_buffers():
                buffer.copy_(buffers[name])
