"""Memory that runs out: said with the setting to change, and, on request, found out before training starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from captioner.checkpoint.index import read_index
from captioner.distributed.ranks import rank_info
from captioner.errors import TrainingError
from captioner.training.run import Run
from captioner.training.step import largest_micro_batch, micro_batch_losses

_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Is this how torch or Python say that memory ran out? A CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
    )


@contextmanager
def out_of_memory_explained(run: Run, advice: Callable[[Run], str]) -> Iterator[None]:
    """Inside, memory that runs out raises TrainingError with what may be done about it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        saved = read_index(run.folder) is not None
        raise TrainingError(
            f"Memory ran out on {run.device} at step {run.progress.step + 1}, {advice(run)}"
            f"{f' Then carry on with resume={run.folder}.' if saved else ''}"
        ) from error


def while_training(run: Run) -> str:
    """For `out_of_memory_explained`: what makes a training step smaller."""
    micro_batches, batch_size = max(1, run.gradient_accumulation_steps), run.config.trainer.batch_size
    size = -(-batch_size // (micro_batches * rank_info().world_size))
    learning = not run.model.encoder.frozen and not run.config.encoder.gradient_checkpointing
    same = (
        [f"trainer.gradient_accumulation_steps={2 * micro_batches} (now {micro_batches}; null finds it)"]
        if size > 1
        else []
    )
    same += ["encoder.gradient_checkpointing=true"] if learning else []
    return (
        f"training with {size} images at a time. "
        + (f"The same training in less memory: {', and '.join(same)}. Or choose " if same else "Choose ")
        + "a lower trainer.batch_size, trainer.captions_per_image or trainer.max_caption_length."
    )


def while_captioning(run: Run) -> str:
    """For `out_of_memory_explained`: what makes validation and the final evaluation smaller."""
    size = run.config.trainer.eval_batch_size
    return f"captioning {size} images at a time. Lower trainer.eval_batch_size: the captions stay the same."


def find_accumulation_steps(run: Run) -> int:
    """In how few portions, a power of two, the largest batch there can be fits into memory.

    Each trial computes losses and gradients and undoes what they left: weights, optimizer and random state are as
    before. TrainingError where not even one image at a time fits.
    """
    micro_batches = 1
    with _undone(run):
        while not _fits(run, micro_batches):
            if micro_batches >= run.config.trainer.batch_size:
                raise TrainingError(
                    f"Not even one image at a time fits into the memory of {run.device}: choose smaller "
                    "model.hidden_dim and model.embedding_dim, or trainer.captions_per_image=1."
                )
            micro_batches *= 2
            if run.device.type == "cuda":
                torch.cuda.empty_cache()
    return micro_batches


def _fits(run: Run, micro_batches: int) -> bool:
    try:
        learning = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
        # Adam's two averages come with the first update, and will be there during every later step.
        averages = [torch.empty_like(own) for own in learning if own not in run.optimizer.state for _ in range(2)]
        step = largest_micro_batch(run, micro_batches)
        for micro_batch in step.micro_batches:
            micro_batch_losses(run, micro_batch, step.totals)["loss"].backward()  # type: ignore[no-untyped-call]
        del averages
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        run.optimizer.zero_grad(set_to_none=True)
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
