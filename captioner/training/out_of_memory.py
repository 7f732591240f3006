"""Out-of-memory errors: explained with the settings to change and, on request, avoided by a search before training."""

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
    """Whether an error means that memory ran out. PyTorch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
    )


@contextmanager
def out_of_memory_explained(run: Run, advice: Callable[[Run], str]) -> Iterator[None]:
    """A context in which an out-of-memory error raises TrainingError with the settings to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        saved = read_index(run.folder) is not None
        raise TrainingError(
            f"Memory ran out on {run.device} at step {run.progress.step + 1}, {advice(run)}"
            f"{f' Then resume with resume={run.folder}.' if saved else ''}"
        ) from error


def while_training(run: Run) -> str:
    """Advice for `out_of_memory_explained`: the settings that make a training step smaller."""
    micro_batches, batch_size = max(1, run.gradient_accumulation_steps), run.config.trainer.batch_size
    size = -(-batch_size // (micro_batches * rank_info().world_size))
    fine_tunes = not run.model.encoder.frozen and not run.config.encoder.gradient_checkpointing
    remedies = (
        [f"trainer.gradient_accumulation_steps={2 * micro_batches} (now {micro_batches}; null finds it)"]
        if size > 1
        else []
    )
    remedies += ["encoder.gradient_checkpointing=true"] if fine_tunes else []
    return (
        f"training with {size} images at a time. "
        + (f"The same training in less memory: {', and '.join(remedies)}. Or choose " if remedies else "Choose ")
        + "a lower trainer.batch_size, trainer.captions_per_image or trainer.max_caption_length."
    )


def while_captioning(run: Run) -> str:
    """Advice for `out_of_memory_explained`: the setting that makes validation and evaluation smaller."""
    size = run.config.trainer.eval_batch_size
    return f"captioning {size} images at a time. Lower trainer.eval_batch_size: the captions stay the same."


def find_accumulation_steps(run: Run) -> int:
    """The smallest number of micro-batches, a power of two, with which the largest possible batch fits into memory.

    Each trial computes losses and gradients of one micro-batch; weights, optimizer and random state are unchanged
    afterwards. Raises TrainingError if not even one image at a time fits.
    """
    micro_batches = 1
    with _state_preserved(run):
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
        parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
        # Adam allocates its two moving averages at the first update; every later step needs memory for them.
        new = [parameter for parameter in parameters if parameter not in run.optimizer.state]
        averages = [torch.empty_like(parameter) for parameter in new for _ in range(2)]
        batch = largest_micro_batch(run, micro_batches)
        for micro_batch in batch.micro_batches:
            micro_batch_losses(run, micro_batch, batch.totals)["loss"].backward()  # type: ignore[no-untyped-call]
        del averages
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        run.optimizer.zero_grad(set_to_none=True)
    return True


@contextmanager
def _state_preserved(run: Run) -> Iterator[None]:
    """A context that restores random state, running statistics and mode of the model."""
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
