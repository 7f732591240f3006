"""Memory that runs out: the words, and the search for what fits, with an allocator that is told to fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.engine import memory
from captioner.engine.memory import find_portions, is_out_of_memory, out_of_memory_explained
from captioner.engine.run import Run, prepare
from captioner.engine.training import train
from captioner.errors import TrainingError
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), batch_size=8, accumulate=None, max_epochs=1)
    (tmp_path / "run").mkdir()
    return prepare(config, tmp_path / "run")


@pytest.fixture
def at_most(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Memory for so many pictures at a time; returns what is asked for."""

    def limit(pictures: int) -> list[int]:
        asked: list[int] = []
        whole = memory.losses_of_portion

        def limited(run: Run, features: Any, *more: Any) -> Any:
            asked.append(len(features.vector))
            if len(features.vector) > pictures:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return whole(run, features, *more)

        monkeypatch.setattr(memory, "losses_of_portion", limited)
        return asked

    return limit


def test_real_failures_are_recognised() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**50)
    assert is_out_of_memory(found.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(("pictures", "portions"), [(8, 1), (7, 2), (4, 2), (3, 4), (1, 8)])
def test_the_fewest_portions_that_fit(
    run: Run, at_most: Callable[[int], list[int]], pictures: int, portions: int
) -> None:
    asked = at_most(pictures)
    assert find_portions(run) == portions
    assert asked == [8, 4, 2, 1][: len(asked)]


def test_a_trial_leaves_nothing_behind(run: Run, at_most: Callable[[int], list[int]]) -> None:
    at_most(2)
    weights = [parameter.detach().clone() for parameter in run.model.parameters()]
    random_state = torch.get_rng_state()
    find_portions(run)
    assert all(map(torch.equal, weights, run.model.parameters()))
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert not run.optimizer.state
    assert run.progress.step == 0


def test_nothing_fits(run: Run, at_most: Callable[[int], list[int]]) -> None:
    at_most(0)
    with pytest.raises(TrainingError, match="Not even one picture"):
        find_portions(run)


def test_what_was_found_is_used_said_and_kept(run: Run, at_most: Callable[[int], list[int]]) -> None:
    at_most(4)
    train(run)
    assert "accumulate: 2 was found" in (run.folder / "log.txt").read_text()
    assert prepare(run.config, run.folder, resume=True).portions == 2


def test_running_out_says_what_to_change(run: Run) -> None:
    run.portions = 2
    with pytest.raises(TrainingError, match=r"accumulate=4 \(now 2.*eval_batch_size"), out_of_memory_explained(run):
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="else"), out_of_memory_explained(run):
        raise RuntimeError("something else")
