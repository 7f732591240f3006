"""Real processes: the trained model does not depend on their number, every image counts once, runs resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from captioner.checkpoint.index import find_checkpoint
from captioner.config import EncoderConfig
from captioner.distributed.all_reduce import bucketed, summed_gradients
from captioner.distributed.checks import check_processes
from captioner.distributed.ranks import (
    RankInfo,
    all_gather,
    all_gather_union,
    broadcast_from_rank0,
    first_value_in_job,
    join_job,
    rank_info,
    share,
)
from captioner.errors import ConfigError
from captioner.training.logs import read_records
from tests.distributed.ranks import (
    every_model,
    gradients_of,
    own_words,
    run_ranks,
    settings,
    three_layers,
    train_in,
    write_data,
)
from tests.tiny import with_trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, and `one/`: a run in a single process."""
    folder = tmp_path_factory.mktemp("ranks")
    write_data(folder)
    (folder / "one.json").write_text(json.dumps(train_in(folder, "one")))
    return folder


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((folder / "one.json").read_text())
    return answer


def records_of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The log records of one kind, without measured times."""
    records = [record for record in read_records(folder) if record["kind"] == kind]
    return [{k: v for k, v in r.items() if k not in ("seconds", "words_per_second", "kind")} for r in records]


def assert_same_run(found: Path, expected: Path) -> None:
    """Both logs have equal values, up to rounding."""
    for kind in ("train", "validation"):
        assert len(records_of_kind(found, kind)) == len(records_of_kind(expected, kind)) > 0
        for ours, theirs in zip(records_of_kind(found, kind), records_of_kind(expected, kind), strict=True):
            assert ours == pytest.approx(theirs, rel=2e-4, abs=1e-6)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(find_checkpoint(folder, "latest") / "model.safetensors"))


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    """The results of two ranks, shared by all tests, because starting processes takes seconds."""
    return run_ranks("collectives_and_run", 2, folder)


def test_two_ranks_train_the_same_model_as_one(folder: Path, one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    """The last batch of an epoch has one image, so that one rank has none."""
    assert_same_run(folder / "ranks", folder / "one")
    assert two[0]["random_values"] == one["random_values"]
    assert two[0]["random_values"] != two[1]["random_values"], "dropout would use the same random numbers on all ranks"


def test_two_ranks_caption_every_image_once(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    """Three images, and one, fewer than there are ranks; the scores equal those of one process."""
    assert (len(one["captions"]), [len(captions) for captions in one["few"]]) == (3, [1, 3])
    for answer in two:
        assert {name: answer[name] for name in ("scores", "captions", "few")} == {
            name: one[name] for name in ("scores", "captions", "few")
        }


def test_only_the_first_rank_writes(folder: Path, two: list[dict[str, Any]]) -> None:
    found = sorted(path.relative_to(folder / "ranks") for path in (folder / "ranks").rglob("*"))
    assert found == sorted(path.relative_to(folder / "one") for path in (folder / "one").rglob("*"))
    text = (folder / "ranks" / "log.txt").read_text()
    assert "in 2 processes" in text
    assert text.count("Training attention") == 1


def test_collective_operations(two: list[dict[str, Any]]) -> None:
    first, second = two
    assert first["share"] + second["share"] == [0, 2, 4, 6, 1, 3, 5]
    assert first["first_value"] == second["first_value"]
    assert sorted([first["reports_errors"], second["reports_errors"]]) == [False, True]
    for answer in two:
        assert answer["all_gather"] == [0, 1]
        assert answer["all_reduce"] == {"both": 3.5, "first": 1.0}
        assert answer["broadcast"] == "of 0"
        assert answer["union"] == ["image 0", "image 1"]
        assert answer["error"] == "no such file"


def test_gradients_are_summed_over_ranks(two: list[dict[str, Any]]) -> None:
    """One rank has no input, and no rank uses the last layer; sent during the backward pass, or after it."""
    network, inputs = three_layers()
    network[:2](inputs).square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    expected = [[] if gradient is None else gradient.flatten().tolist() for gradient in gradients]
    for answer in two:
        for found in answer["gradients"]:
            assert found[:4] == [pytest.approx(values) for values in expected[:4]]
            assert all(value == 0 for values in found[4:] for value in values)
    assert two[0]["gradients"] == two[1]["gradients"], "not bit-identical"


@pytest.mark.slow
def test_four_ranks_train_one_model(one: dict[str, Any], tmp_path: Path) -> None:
    write_data(tmp_path)
    train_in(tmp_path, "one")
    answers = run_ranks("collectives_and_run", 4, tmp_path)
    assert_same_run(tmp_path / "ranks", tmp_path / "one")
    assert all(answer["captions"] == one["captions"] and answer["scores"] == one["scores"] for answer in answers)
    assert all(answer["few"] == one["few"] for answer in answers)
    assert len({tuple(answer["random_values"]) for answer in answers}) == 4


@pytest.mark.slow
def test_stopped_and_resumed(folder: Path) -> None:
    """With as many ranks, and dropout: bit-identical; with another number, without dropout: equal up to rounding."""
    train_in(folder, "started_by_one", stop_after=3)
    run_ranks("resumed_runs", 2, folder)
    assert (
        len(records_of_kind(folder / "started_by_ranks", "train"))
        == len(records_of_kind(folder / "started_by_one", "train")) - 5
        == 3
    )
    whole, halves = weights(folder / "whole"), weights(folder / "halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    assert records_of_kind(folder / "whole", "train") == records_of_kind(folder / "halves", "train")
    assert_same_run(folder / "started_by_one", folder / "one")
    train_in(folder, "started_by_ranks", resume=True)
    assert_same_run(folder / "started_by_ranks", folder / "one")


@pytest.mark.slow
def test_every_model_trains_alike_in_two_ranks(folder: Path) -> None:
    alone = every_model(folder)
    for found in run_ranks("every_model", 2, folder):
        assert found.keys() == alone.keys()
        for name, losses in found.items():
            assert losses == pytest.approx(alone[name], rel=2e-5), name


@pytest.mark.slow
def test_two_ranks_read_the_same_words_of_their_own(folder: Path) -> None:
    """Scheduled sampling and unlikelihood: the losses of one process."""
    alone = own_words(folder)
    for found in run_ranks("own_words", 2, folder):
        assert {name: pytest.approx(losses, rel=2e-5) for name, losses in found.items()} == alone


def test_collective_operations_without_a_job() -> None:
    assert join_job() == rank_info() == RankInfo()
    assert share([1, 2, 3]) == [1, 2, 3]
    assert all_gather("value") == ["value"]
    assert broadcast_from_rank0(lambda: 7) == 7
    assert first_value_in_job("key", "value") == "value"
    table = {1: "a"}
    all_gather_union(table)
    assert table == {1: "a"}
    network, inputs = three_layers()
    with summed_gradients(network.parameters(), overlap=True):
        network(inputs).sum().backward()
    assert network[0].weight.grad is not None
    assert len(gradients_of(True)) == 4  # the last layer has no gradient, and gets none


def test_an_incomplete_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"RANK and WORLD_SIZE are set.*LOCAL_RANK.*torchrun"):
        join_job()
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(ConfigError, match=r"cannot be reached .*MASTER_PORT"):
        join_job()


def test_buckets_go_from_the_last_layer_to_the_first() -> None:
    network, _ = three_layers()
    parameters = list(network.parameters())
    for most in (1, 20, 40, 1000):
        buckets = bucketed(parameters, most)
        flat = [parameter for bucket in buckets for parameter in bucket]
        assert all(a is b for a, b in zip(flat, reversed(parameters), strict=True))
        assert all(len(bucket) == 1 or sum(4 * p.numel() for p in bucket) <= most for bucket in buckets)
    assert len(bucketed(parameters, 1000)) == 1
    assert bucketed([], 20) == []


@pytest.mark.parametrize(
    ("trainer", "size", "message"),
    [
        ({"devices": 2}, 1, "trainer.devices=2, but 1 process was started"),
        ({"devices": 2}, 4, "trainer.devices=2, but 4 processes were started.*under torchrun"),
        ({"batch_size": 3}, 4, "trainer.batch_size=3 is the batch of all processes together, too small for 4"),
    ],
)
def test_settings_that_cannot_be_distributed(tmp_path: Path, trainer: dict[str, int], size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_processes(with_trainer(settings(tmp_path), **trainer), RankInfo(world_size=size, local_world_size=size))


def test_batch_statistics_of_a_part_of_the_batch_are_an_error(tmp_path: Path) -> None:
    config = settings(tmp_path)
    config.encoder = EncoderConfig(fine_tune_from="trunk.6", batch_norm_eval=False)
    check_processes(config, RankInfo())
    with pytest.raises(ConfigError, match=r"batch_norm_eval=false cannot go with 2 processes"):
        check_processes(config, RankInfo(world_size=2, local_world_size=2))


@pytest.mark.slow
def test_what_distributed_data_parallel_does_not_do(tmp_path: Path) -> None:
    """The reasons of docs/adr/0004: where one no longer holds, decide again."""
    first, second = run_ranks("data_parallel", 2, tmp_path)
    network, inputs = three_layers()
    network(inputs).square().sum().backward()
    expected = [parameter.grad.flatten().tolist() for parameter in network.parameters() if parameter.grad is not None]

    def equal(found: list[list[float]]) -> list[bool]:
        return [ours == pytest.approx(theirs, rel=1e-5) for ours, theirs in zip(found, expected, strict=True)]

    for answer in (first, second):
        assert equal(answer["unfrozen, ours"]) == [True] * 6
        # What was frozen when the module was wrapped is never exchanged, and no message says so.
        assert equal(answer["unfrozen"]) == [False, False, True, True, True, True]
        assert "Expected to have finished reduction in the prior iteration" in answer["unused"]
    assert first["unfrozen"][0] != second["unfrozen"][0]
    # A rank without an image leaves the others waiting until the timeout.
    assert first["no image"]
    assert not second["no image"]
