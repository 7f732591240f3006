"""Training from tar shards is bit-identical to training from their folder, and resumes within a shard."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.config import CacheConfig, ShardsConfig, TrainConfig
from captioner.data.datasets.registry import load_dataset
from captioner.data.datasets.tar_shards import remote
from captioner.data.datasets.tar_shards.pack import pack_shards
from captioner.training.signals import Interrupted
from tests.data.download.loopback import Server, serving
from tests.tiny import tiny_config, write_tiny_data
from tests.training.test_loop import assert_same_weights, curve, interrupt_after, run


@pytest.fixture(params=[True, False], ids=["cached", "from pixels"])
def configs(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[TrainConfig, TrainConfig]:
    """Equal settings for a folder, and for its shards of five pairs; a batch has four."""
    folder = replace(tiny_config(write_tiny_data(tmp_path / "data")), cache=CacheConfig(enabled=request.param))
    for split in ("train", "val"):
        pack_shards(load_dataset(folder.data, split), tmp_path / "shards", 5)
    return folder, replace(folder, data=ShardsConfig(root=str(tmp_path / "shards"), num_workers=0))


def test_shards_train_the_model_of_the_folder(configs: tuple[TrainConfig, TrainConfig], tmp_path: Path) -> None:
    from_folder, from_shards = (run(config, tmp_path / config.data.name) for config in configs)
    assert_same_weights(from_folder, from_shards)
    assert curve(from_folder) == curve(from_shards)
    captions = [(folder / "captions_val.json").read_bytes() for folder in (from_folder, from_shards)]
    assert captions[0] == captions[1]


def test_a_run_resumes_within_a_shard(configs: tuple[TrainConfig, TrainConfig], tmp_path: Path) -> None:
    """After five of eight steps, 20 pairs in shards of five and one; the indexes are deleted in between."""
    _, config = configs
    whole = run(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        interrupt_after(5, config, tmp_path / "stopped")
    for index in Path(os.environ["CAPTIONER_CACHE"], "tar_indexes").iterdir():
        index.unlink()
    run(config, tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")
    assert curve(whole) == curve(tmp_path / "stopped")


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "from pixels"])
def test_a_run_on_a_server_resumes_within_a_shard(
    tmp_path: Path, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is that of the files, though the run is interrupted and every seventh response is cut."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    folder = replace(tiny_config(write_tiny_data(tmp_path / "data")), cache=CacheConfig(enabled=cached))
    for split in ("train", "val"):
        pack_shards(load_dataset(folder.data, split), tmp_path / "shards", 5)
    files = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    local = replace(folder, data=ShardsConfig(root=str(tmp_path / "shards"), num_workers=0))
    whole = run(local, tmp_path / "whole")
    with serving(Server(files, cuts=[700 if number % 7 == 6 else 10**9 for number in range(2000)])) as server:
        patterns = {"train": "train-{00000..00003}.tar", "val": "val-{00000..00001}.tar"}
        config = replace(folder, data=ShardsConfig(root=server.url, num_workers=0, **patterns))
        with pytest.raises(Interrupted):
            interrupt_after(5, config, tmp_path / "stopped")
        run(config, tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")
    assert curve(whole) == curve(tmp_path / "stopped")
