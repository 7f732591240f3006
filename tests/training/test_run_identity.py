"""A run is resumed with the data, seed, batch size and past of its checkpoint, or it says what has changed."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from captioner.checkpoint.checkpoint import load_trainer_state
from captioner.checkpoint.index import find_checkpoint
from captioner.config import (
    AugmentConfig,
    CacheConfig,
    EncoderConfig,
    FolderConfig,
    LanguageModelConfig,
    RewardConfig,
    TextConfig,
    TrainConfig,
)
from captioner.config.language_model import LanguageNetworkConfig, LanguageTrainerConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.features.sources import OnTheFlyFeatures
from captioner.data.image_views import ImageViews
from captioner.errors import CheckpointError, ConfigError
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.training import run_identity
from captioner.training.language_model.language_model_run import prepare_language_run
from captioner.training.language_model.train_language_model import train_language_model
from captioner.training.loop import train
from captioner.training.run_identity import NOT_COMPARED, differences
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, `cache` and two runs of one epoch: `run` with the cache and `pixels` without."""
    folder = tmp_path_factory.mktemp("identity")
    write_tiny_data(folder / "data")
    for name in ("run", "pixels"):
        (folder / name).mkdir()
        train(prepare(settings(folder, name), folder / name))
    return folder


def settings(folder: Path, name: str = "run", **trainer: object) -> TrainConfig:
    data = FolderConfig(root=str(folder / "data"), captions="captions.csv", num_workers=0)
    cache = CacheConfig(enabled=name == "run", directory=str(folder / "cache"))
    return with_trainer(replace(tiny_config(data), cache=cache), **({"max_epochs": 1} | trainer))


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def rows(folder: Path) -> list[list[str]]:
    with (folder / "data" / "captions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_rows(folder: Path, lines: list[list[str]]) -> None:
    with (folder / "data" / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def rotate_captions(folder: Path, split: str) -> None:
    """Give the captions of each image to the next one: the vocabulary stays."""
    lines = rows(folder)
    chosen = [line for line in lines if line[2] == split]
    captions = [line[1] for line in chosen]
    for line, caption in zip(chosen, captions[2:] + captions[:2], strict=True):
        line[1] = caption
    write_rows(folder, lines)


def reverse_images(folder: Path) -> None:
    head, *lines = rows(folder)
    write_rows(folder, [head, *sorted(lines, key=lambda line: line[0], reverse=True)])


def rename_an_image(folder: Path) -> None:
    write_rows(folder, [["005b.png" if line[0] == "005.png" else line[0], *line[1:]] for line in rows(folder)])
    (folder / "data" / "005.png").rename(folder / "data" / "005b.png")


def replace_image(folder: Path) -> None:
    """By another one of the same size in pixels, compressed to another number of bytes."""
    Image.new("RGB", (64, 64), "red").save(folder / "data" / "005.png")


def replace_an_image_by_one_of_the_same_size(folder: Path) -> None:
    path = folder / "data" / "005.png"
    size = path.stat().st_size
    Image.new("RGB", (64, 64), "red").save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))  # what follows the image in a file is not read


CHANGES: list[tuple[Callable[[Path], None], str]] = [
    (lambda folder: rotate_captions(folder, "train"), "train has other captions"),
    (lambda folder: rotate_captions(folder, "val"), "val has other captions"),
    (reverse_images, "train has its images in another order and val has its images in another order"),
    (rename_an_image, "train has other images"),
    (replace_image, "train has image files of other sizes"),
]


@pytest.mark.parametrize(("change", "what"), CHANGES, ids=[what for _, what in CHANGES])
@pytest.mark.parametrize("name", ["run", "pixels"])
def test_other_data_are_refused_unless_they_are_accepted(
    copy: Path, name: str, change: Callable[[Path], None], what: str
) -> None:
    change(copy)
    with pytest.raises(CheckpointError, match=rf"{name} cannot be resumed.*step 4: {what} \(data\)\. Undo"):
        prepare(settings(copy, name), copy / name, resume=True)
    accepted = replace(settings(copy, name), resume="run", resume_despite=["data"])
    run = prepare(accepted, copy / name, resume=True)
    assert [note for note in run.advice if what in note]


def test_another_image_in_a_file_of_the_same_size_is_found_by_the_cache(copy: Path) -> None:
    replace_an_image_by_one_of_the_same_size(copy)
    with pytest.raises(CheckpointError, match=r"train has other content \(data\)"):
        prepare(settings(copy), copy / "run", resume=True)


def test_the_cache_may_be_turned_off_or_moved(copy: Path) -> None:
    """The content is then compared where both know it, and the sizes always."""
    for config in (settings(copy, "pixels"), replace(settings(copy), cache=CacheConfig(directory=str(copy / "other")))):
        run = prepare(config, copy / "run", resume=True)
        assert run.progress.step == 4


@pytest.mark.parametrize(
    ("changed", "name", "what"),
    [
        ({"seed": 1}, "seed", "trained with seed=0, and this is seed=1"),
        ({"batch_size": 2}, "batch_size", "trained with batch_size=4, and this is batch_size=2"),
    ],
)
def test_settings_of_the_order_of_images(copy: Path, changed: dict[str, Any], name: str, what: str) -> None:
    config = settings(copy, max_epochs=2)
    config = with_trainer(config, **changed) if "batch_size" in changed else replace(config, **changed)
    with pytest.raises(CheckpointError, match=rf"{what} \({name}\).*resume_despite=\[{name}\]"):
        prepare(config, copy / "run", resume=True)
    config = replace(config, resume="run", resume_despite=[name])
    assert prepare(config, copy / "run", resume=True).progress.step == 4


def test_several_changes_are_named_at_once(copy: Path) -> None:
    rotate_captions(copy, "train")
    config = replace(settings(copy), seed=3, resume="run", resume_despite=["seed"])
    with pytest.raises(CheckpointError, match=r"resume_despite=\[seed,data\]"):
        prepare(config, copy / "run", resume=True)


def test_an_accepted_change_is_stored_and_logged_once(copy: Path) -> None:
    rotate_captions(copy, "train")
    config = settings(copy, max_epochs=2)
    train(prepare(replace(config, resume="run", resume_despite=["data"]), copy / "run", resume=True))
    train(prepare(config, copy / "run", resume=True))
    assert (copy / "run" / "log.txt").read_text().count("resumed although train has other captions") == 1


def test_a_refused_run_is_untouched(copy: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (copy / "run").rglob("*") if path.is_file()}

    before = content()
    rotate_captions(copy, "val")
    with pytest.raises(CheckpointError):
        prepare(settings(copy), copy / "run", resume=True)
    assert content() == before


@pytest.fixture(scope="module")
def two_epochs(trained: Path) -> Path:
    (trained / "two").mkdir()
    train(prepare(settings(trained, max_epochs=2), trained / "two"))
    return trained


MOVED = [
    (
        {"reward": RewardConfig(after=1)},
        r"epoch 2 was trained with objective=cross-entropy, not objective=self-critical",
    ),
    ({"augment": AugmentConfig(flip=0.5, after=1)}, r"epoch 2 was trained with augmented=False, not augmented=True"),
    ({"augment": AugmentConfig(flip=0.5)}, r"epoch 1 was trained with augmented=False"),
]


@pytest.mark.parametrize(("changed", "what"), MOVED)
def test_a_phase_cannot_be_moved_into_the_past(
    two_epochs: Path, tmp_path: Path, changed: dict[str, Any], what: str
) -> None:
    folder = Path(shutil.copytree(two_epochs / "two", tmp_path / "two"))
    config = replace(settings(two_epochs, max_epochs=3), **changed)
    with pytest.raises(CheckpointError, match=rf"{what}.*2 epochs have begun \(phases\)"):
        prepare(config, folder, resume=True)
    run = prepare(replace(config, resume="two", resume_despite=["phases"]), folder, resume=True)
    assert not run.optimizer.state
    train(run)
    assert "Note: resumed although epoch" in (folder / "log.txt").read_text()


def test_a_phase_may_start_after_the_epochs_that_have_begun(two_epochs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(two_epochs / "two", tmp_path / "two"))
    config = replace(settings(two_epochs, max_epochs=4), reward=RewardConfig(after=2, learning_rate=1e-3))
    run = prepare(config, folder, resume=True)
    assert run.optimizer.state
    train(run)
    faster = replace(config, reward=RewardConfig(after=2, learning_rate=2e-3))
    train(prepare(with_trainer(faster, max_epochs=5), folder, resume=True))
    with pytest.raises(CheckpointError, match="epoch 3 was trained with objective=self-critical"):
        prepare(settings(two_epochs, max_epochs=6), folder, resume=True)


def test_a_checkpoint_without_an_identity_is_resumed_with_a_note(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = load_trainer_state(find_checkpoint(copy / "run", "latest"))
    del state["identity"]
    monkeypatch.setattr("captioner.training.resume.load_trainer_state", lambda folder: state)
    assert prepare(settings(copy), copy / "run", resume=True).advice == (NOT_COMPARED,)


@pytest.mark.parametrize("forged", [3, {"data": 3}, {"data": {}}, {"data": {"train": [], "val": None}}])
def test_a_forged_identity_is_one_message(copy: Path, monkeypatch: pytest.MonkeyPatch, forged: object) -> None:
    state = load_trainer_state(find_checkpoint(copy / "run", "latest")) | {"identity": forged}
    monkeypatch.setattr("captioner.training.resume.load_trainer_state", lambda folder: state)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        prepare(settings(copy), copy / "run", resume=True)


def test_another_number_of_processes_is_named_and_accepted(trained: Path) -> None:
    state = load_trainer_state(find_checkpoint(trained / "run", "latest"))
    found = differences(state["identity"], state["identity"] | {"processes": 4})
    assert found == {"processes": "it was trained with processes=1, and this is processes=4"}


def test_accepted_changes_must_exist_and_need_a_run() -> None:
    with pytest.raises(ConfigError, match=r"resume_despite='date' does not exist\. Did you mean data\?"):
        TrainConfig(resume="run", resume_despite=["date"])
    with pytest.raises(ConfigError, match=r"resume_despite=\[data\] is for a run that is resumed"):
        TrainConfig(resume_despite=["data"])


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_digests_are_those_of_one_image_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Digests are stored in checkpoints, so hashing many images in one call must not change them."""
    monkeypatch.setattr(run_identity, "CHUNK", chunk)
    paths: list[Path | ImageViews] = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.jpg")
        (tmp_path / f"{number}.jpg").write_bytes(b"x" * (number + 1))
    paths += [ImageViews.of(tmp_path / "1.jpg", tmp_path / "3.jpg"), tmp_path / "missing.jpg"]
    texts = [("a dog", "a cat"), (), ('"an" isn\'t',), ("é\n",), ("a",), ("a",)]
    images = [CaptionedImage(f"i{index}", *pair) for index, pair in enumerate(zip(paths, texts, strict=True))]
    dataset = CaptionDataset("some", "train", tuple(images))
    order, captions, sizes = (hashlib.blake2b(digest_size=16) for _ in range(3))
    total = 0
    for index, size in enumerate(("[1]", "[2]", "[3]", "[4]", "[2, 4]", "[None]")):
        total += int.from_bytes(hashlib.blake2b(f"'i{index}'".encode(), digest_size=16).digest(), "big")
        order.update(f"'i{index}'\n".encode())
        captions.update(f"{texts[index]}\n".encode())
        sizes.update(f"{size}\n".encode())
    source = OnTheFlyFeatures(dataset, build_encoder(EncoderConfig(weights=None)), FolderConfig(), CPU, with_grid=False)
    assert run_identity.split_identity(dataset, source) == {
        "images": f"{total % 2**128:032x}",
        "order": order.hexdigest(),
        "captions": captions.hexdigest(),
        "sizes": sizes.hexdigest(),
        "content": None,
    }


def test_a_language_model_knows_its_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    config = LanguageModelConfig(
        data=TextConfig(text=str(text), val_fraction=0.2, test_fraction=0.2),
        model=LanguageNetworkConfig(hidden_dim=4, layers=1),
        trainer=LanguageTrainerConfig(
            max_epochs=1, max_steps=2, streams=2, window=8, sample_stages=0, baseline_order=0, validate_every=2
        ),
        device="cpu",
    )
    (tmp_path / "run").mkdir()
    train_language_model(prepare_language_run(config, tmp_path / "run"))
    assert prepare_language_run(config, tmp_path / "run", resume=True).progress.step == 2
    text.write_text("the lazy brown fox jumps over the quick dog. " * 20)
    with pytest.raises(CheckpointError, match=r"the text has other content \(data\)"):
        prepare_language_run(config, tmp_path / "run", resume=True)
    changed = replace(
        config, trainer=replace(config.trainer, window=4), resume="run", resume_despite=["data", "window"]
    )
    run = prepare_language_run(changed, tmp_path / "run", resume=True)
    assert len(run.advice) == 2
