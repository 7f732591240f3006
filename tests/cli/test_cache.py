"""python -m captioner cache: training finds the features that the command computed, even after a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from captioner.cli.cache import main
from captioner.cli.train import main as train
from captioner.config import FolderConfig
from captioner.data.features import cache as cache_module
from captioner.data.features.storage import FeatureShardFolder
from tests.cli.conftest import SMALL, Command
from tests.tiny import write_tiny_data

ENCODER = ("encoder=torchvision", "encoder.name=squeezenet1_1", "encoder.weights=null", "encoder.image_size=64")
DATA = ("data=folder", "data.root=data", "data.num_workers=0", "device=cpu")


def folders() -> list[Path]:
    return sorted(Path(os.environ["CAPTIONER_CACHE"]).glob("features/*"))


def rows_of(folder: Path) -> dict[str, np.ndarray]:
    """Key → features, every shard compared with its checksum."""
    shards = FeatureShardFolder(folder, (9, 512))
    shards.refresh()
    opened = {name: shards.open(name) for name in {name for name, _ in shards.index.values()}}
    return {key: opened[name][row] for key, (name, row) in shards.index.items()}


def test_all_splits_are_computed_once(command: Command, tiny: FolderConfig) -> None:
    result = command(main, *DATA, *ENCODER)
    assert result.code == 0, result.err
    (folder,) = folders()
    assert str(folder) in result.out
    assert "9,216 bytes" in result.out  # 3 × 3 locations × 512 channels × 2
    for split, images in (("train", 16), ("val", 8), ("test", 8)):
        assert re.search(rf"{split} +{images} images, +{images} to compute", result.out)
    assert "Computed 32 images" in result.out
    again = command(main, *DATA, *ENCODER)
    assert again.code == 0, again.err
    assert "Computed" not in again.out
    assert "Stored: 32 images" in again.out


def test_one_split_then_the_rest(command: Command, tiny: FolderConfig) -> None:
    assert "Computed 8 images" in command(main, *DATA, *ENCODER, "split=dev").out
    assert "Computed 24 images" in command(main, *DATA, *ENCODER).out


def test_vectors_are_taken_from_the_grids(command: Command, tiny: FolderConfig) -> None:
    assert command(main, *DATA, *ENCODER, "split=val").code == 0
    result = command(main, *DATA, *ENCODER, "kind=vector")
    assert re.search("val +8 images, +8 to compute .8 of them from stored grids.", result.out)
    assert len(folders()) == 2


def test_mirrored_images_of_train_only(command: Command, tiny: FolderConfig) -> None:
    result = command(main, *DATA, *ENCODER, "cache.flips=true")
    assert re.search(r"train +32 images \(flipped ones included\), +32 to compute", result.out)
    assert re.search(r"val +8 images, +8 to compute", result.out)


def test_training_reads_what_the_command_computed(
    command: Command, tiny: FolderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cache` with the options of `train` computes what training needs, also for an encoder with random weights."""
    assert command(main, *SMALL, "model=attention").code == 0
    monkeypatch.setattr(cache_module, "encode_rows", None)  # nothing may be encoded any more
    for model in ("attention", "lstm"):
        result = command(train, *SMALL, f"model={model}", "trainer.max_steps=1")
        assert result.code == 0, result.err


def test_it_prints_the_expected_time(command: Command, tiny: FolderConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "BATCH", 2)
    assert re.search(
        r"About \d+ s for 0\.00 GB, at the \d+\.\d images per second of a trial\.", command(main, *DATA, *ENCODER).out
    )


def test_bad_images_are_counted_and_named(command: Command, tiny: FolderConfig) -> None:
    Path("data/003.png").write_bytes(b"no image")
    assert "003.png is not an image" in command(main, *DATA, *ENCODER).err
    result = command(main, *DATA, *ENCODER, "data.on_bad_image=skip")
    assert result.code == 0, result.err
    assert "Left out 1 images that cannot be read, such as: " in result.out
    assert "003.png is not an image" in result.out


def test_folders_of_other_versions_are_named(command: Command, tiny: FolderConfig) -> None:
    assert command(main, *DATA, *ENCODER, "split=val").code == 0
    (folder,) = folders()
    old = Path(shutil.copytree(folder, folder.with_name("resnet50-grid-0123456789ab")))
    (old / "about.json").write_text(
        (old / "about.json").read_text().replace('"format_version": 3', '"format_version": 2')
    )
    result = command(main, *DATA, *ENCODER, "split=val")
    assert f"Note: {old} was written by another version" in result.out
    assert result.out.count("another version") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["splt=val"], "splt does not exist. Did you mean split?"),
        (["--split", "val"], "settings are KEY=VALUE, without dashes. Write split=val"),
        (["split=vla"], "There is no split 'vla'"),
        (["split"], "split cannot be read: expected KEY=VALUE"),
        (["kind=grit"], "kind='grit' does not exist. Did you mean grid?"),
        (["data.limt=3"], "data.limt does not exist. Did you mean data.limit"),
        (["cache.enabled=false"], "cache.enabled=false leaves no cache to fill"),
        (["encoder.name=resnt18"], "resnt18"),
        (["data.root=nowhere"], "nowhere"),
        (["cache.directory=data/captions.csv"], "name another folder with cache.directory"),
    ],
)
def test_a_mistake_is_one_clear_message(command: Command, tiny: FolderConfig, options: list[str], message: str) -> None:
    result = command(main, *DATA, *ENCODER, *options)
    assert result.code == 2, result.out
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_disk_that_is_too_small_is_reported_before_anything_is_computed(
    command: Command, tiny: FolderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=32 * 9216 - 1))
    monkeypatch.setattr(cache_module, "encode_rows", None)
    result = command(main, *DATA, *ENCODER)
    assert result.code == 2
    assert "The features of 32 images need 0.0 GB" in result.err


def test_help(command: Command) -> None:
    result = command(main, "--help")
    assert result.code == 0
    assert "python -m captioner cache data=flickr8k data.root=DIR" in result.out
    assert "encoder: " in result.out
    assert "optim" not in result.out


@pytest.mark.slow
def test_killed_and_filled_by_two_others(tmp_path: Path) -> None:
    """SIGKILL while worker processes decode and a network encodes; two other processes then share the rest."""
    write_tiny_data(tmp_path / "data", images=32)
    for number in range(32, 800):  # many more images of val, all different
        content = (tmp_path / "data" / f"{number % 32:03}.png").read_bytes()
        (tmp_path / "data" / f"{number}.png").write_bytes(content + number.to_bytes(4, "big"))
        with (tmp_path / "data" / "captions.csv").open("a") as file:
            file.write(f"{number}.png,a half,val\r\n")

    def start(cache: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "captioner", "cache", "split=val", *DATA, *ENCODER, "data.num_workers=2"]
        environment = os.environ | {"CAPTIONER_CACHE": str(tmp_path / cache), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    killed = start("cache")
    while not list((tmp_path / "cache").glob("features/*/shard-*.json")):
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (folder,) = (tmp_path / "cache" / "features").iterdir()
    assert list(folder.glob("*.claim")), "it was in the middle of something"
    assert 0 < len(rows_of(folder)) < 776

    others = [start("cache"), start("cache")]
    outputs = [process.communicate()[0] for process in others]
    assert [process.returncode for process in others] == [0, 0], outputs
    whole = start("whole")
    whole.communicate()
    found, expected = rows_of(folder), rows_of(next((tmp_path / "whole" / "features").iterdir()))
    assert found.keys() == expected.keys()
    assert len(found) == 776
    for key, row in found.items():
        np.testing.assert_allclose(row, expected[key], rtol=2**-9, atol=1e-3)
    names = [key for path in folder.glob("shard-*.json") for key in re.findall(r'"([0-9a-f]{32})"', path.read_text())]
    assert len(names) == 776, "nothing was stored twice"
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".f16", ""}, "nothing half-written is left"
