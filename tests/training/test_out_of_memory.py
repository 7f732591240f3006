"""Out-of-memory errors: their messages, and the search for what fits, with simulated failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.data.token_ids import EncodedCaptions
from captioner.errors import TrainingError
from captioner.nn.packing import unpack
from captioner.training import loop as training
from captioner.training import out_of_memory as memory
from captioner.training.loop import train
from captioner.training.losses import BatchTotals
from captioner.training.out_of_memory import (
    find_accumulation_steps,
    is_out_of_memory,
    out_of_memory_explained,
    while_captioning,
    while_training,
)
from captioner.training.run import Run
from captioner.training.setup import prepare
from captioner.training.step import MicroBatch, largest_micro_batch
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = with_trainer(
        tiny_config(write_tiny_data(tmp_path / "data")), batch_size=8, gradient_accumulation_steps=None, max_epochs=1
    )
    (tmp_path / "run").mkdir()
    return prepare(config, tmp_path / "run")


@pytest.fixture
def at_most(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Memory for `images` images at a time; returns the list of the batch sizes that were tried."""

    def limit(images: int) -> list[int]:
        asked: list[int] = []
        whole = memory.micro_batch_losses

        def limited(run: Run, micro_batch: MicroBatch, totals: BatchTotals) -> Any:
            asked.append(len(micro_batch.features.vector))
            if asked[-1] > images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return whole(run, micro_batch, totals)

        monkeypatch.setattr(memory, "micro_batch_losses", limited)
        return asked

    return limit


def test_real_failures_are_recognized() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**50)
    assert is_out_of_memory(found.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(("images", "micro_batches"), [(8, 1), (7, 2), (4, 2), (3, 4), (1, 8)])
def test_the_smallest_gradient_accumulation_steps_that_fit(
    run: Run, at_most: Callable[[int], list[int]], images: int, micro_batches: int
) -> None:
    asked = at_most(images)
    assert find_accumulation_steps(run) == micro_batches
    assert asked == [8, 4, 2, 1][: len(asked)]


def test_a_trial_changes_nothing(run: Run, at_most: Callable[[int], list[int]]) -> None:
    at_most(2)
    weights = [parameter.detach().clone() for parameter in run.model.parameters()]
    random_state = torch.get_rng_state()
    find_accumulation_steps(run)
    assert all(map(torch.equal, weights, run.model.parameters()))
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert not run.optimizer.state
    assert run.progress.step == 0


def test_nothing_fits(run: Run, at_most: Callable[[int], list[int]]) -> None:
    at_most(0)
    with pytest.raises(TrainingError, match="Not even one image"):
        find_accumulation_steps(run)


def test_the_value_found_is_used_logged_and_stored(run: Run, at_most: Callable[[int], list[int]]) -> None:
    at_most(4)
    train(run)
    assert "gradient_accumulation_steps=2 is the smallest" in (run.folder / "log.txt").read_text()
    assert prepare(run.config, run.folder, resume=True).gradient_accumulation_steps == 2


def test_memory_is_reserved_for_the_optimizer_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's averages do not exist at the first step, but must fit beside the activations of all others."""
    made: list[int] = []
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda own: made.append(own.numel()) or empty_like(own))
    losses = memory.micro_batch_losses
    seen_at_forward: list[int] = []

    def noting(*arguments: Any) -> Any:
        seen_at_forward.append(sum(made))
        return losses(*arguments)

    monkeypatch.setattr(memory, "micro_batch_losses", noting)
    find_accumulation_steps(run)
    assert seen_at_forward == [2 * sum(parameter.numel() for parameter in run.model.decoder.parameters())]


def test_the_trial_has_the_longest_captions(run: Run) -> None:
    long = {3: [[4] * 28, [4] * 2], 5: [[4] * 3, [4] * 29]}
    run.captions = EncodedCaptions.from_lists(long.get(image, own) for image, own in enumerate(run.captions))
    (step,) = (largest_micro_batch(run, 4),)
    assert step.indices == [5, 3]
    run.config.trainer.captions_per_image = 1
    (_, _, captions), *_ = largest_micro_batch(run, 4).micro_batches
    assert sorted(len(words) for words in unpack(captions.targets, captions)) == [29, 30]  # <END> counted


def test_the_search_is_repeated_when_fine_tuning_starts(tmp_path: Path, monkeypatch: Any) -> None:
    data = write_tiny_data(tmp_path / "data")
    config = with_trainer(tiny_config(data), gradient_accumulation_steps=None)
    config = replace(config, encoder=replace(config.encoder, fine_tune_from="features.12", fine_tune_after=1))
    (tmp_path / "run").mkdir()
    answers = {True: 1, False: 4}
    monkeypatch.setattr(training, "find_accumulation_steps", lambda run: answers[run.model.encoder.frozen])
    train(prepare(config, tmp_path / "run"))
    said = (tmp_path / "run" / "log.txt").read_text()
    assert said.index("steps=1 is") < said.index("trainable from features.12; training") < said.index("steps=4 is")
    assert prepare(config, tmp_path / "run", resume=True).gradient_accumulation_steps == 4


def test_the_message_names_the_settings_to_change(run: Run) -> None:
    run.gradient_accumulation_steps = 2
    for advice, expected in (
        (
            while_training,
            r"step 1, training with 4 images at a time.*gradient_accumulation_steps=4 \(now 2; null finds it\)\. Or",
        ),
        (while_captioning, r"captioning 4 images at a time.*trainer\.eval_batch_size"),
    ):
        with pytest.raises(TrainingError, match=expected) as told, out_of_memory_explained(run, advice):
            torch.empty(2**50)
        assert "resume=" not in str(told.value)  # there is no checkpoint yet
    with pytest.raises(RuntimeError, match="else"), out_of_memory_explained(run, while_training):
        raise RuntimeError("something else")


def test_one_image_at_a_time_cannot_be_divided(run: Run) -> None:
    run.gradient_accumulation_steps = 8
    assert "gradient_accumulation_steps" not in while_training(run)
    assert "trainer.batch_size" in while_training(run)


@pytest.mark.parametrize("where", ["train_step", "generate_captions", "evaluate_model"])
def test_out_of_memory_is_explained_wherever_it_happens(run: Run, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def run_out(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(training, where, run_out)
    run.gradient_accumulation_steps = 1
    setting = "trainer.gradient_accumulation_steps" if where == "train_step" else "trainer.eval_batch_size"
    with pytest.raises(TrainingError, match=setting) as told:
        train(run)
    assert ("resume=" in str(told.value)) == (where == "evaluate_model")  # only then there is a checkpoint
