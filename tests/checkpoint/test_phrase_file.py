"""Phrase statistics in checkpoints: stored with a run's, kept by an export, verified, and absent in older ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.export import write_export
from captioner.checkpoint.manifest import write_manifest
from captioner.checkpoint.phrase_file import PHRASES_FILE, load_phrases, save_phrases
from captioner.config import DecodeConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.inference import Captioner
from captioner.text.phrases import PhraseStatistics
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data


def statistics() -> PhraseStatistics:
    choose = random.Random(0)
    return PhraseStatistics.from_captions([choose.choices(range(4, 12), k=8) for _ in range(2000)], 2)


def test_a_file_keeps_everything_and_equal_statistics_give_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.npz", "b.npz")]
    sizes = [save_phrases(statistics(), path) for path in paths]
    assert load_phrases(paths[0]) == statistics()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sizes[0] == paths[0].stat().st_size


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nothing", None])
def test_a_damaged_file(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / PHRASES_FILE
    save_phrases(statistics(), path)
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(CheckpointError, match=r"phrases\.npz cannot be read as phrase statistics"):
        load_phrases(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = with_trainer(tiny_config(write_tiny_data(folder / "data")), max_epochs=1)
    train(prepare(config, folder))
    return folder


def test_a_run_stores_the_statistics_of_its_training_captions(run: Path) -> None:
    loaded = load_checkpoint(run)
    phrases = loaded.vocabulary.phrases
    assert phrases is not None
    assert phrases.end == loaded.vocabulary.special.end
    words = {word for gram in phrases.counts for word in gram} - {phrases.end}
    assert words <= set(range(len(loaded.vocabulary)))


def test_an_export_keeps_them(run: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(run)
    write_export(loaded, tmp_path)
    assert load_checkpoint(tmp_path).vocabulary.phrases == loaded.vocabulary.phrases
    image = next(path for path in (run / "data").rglob("*.png"))
    captioner = Captioner.from_checkpoint(tmp_path)
    tokens = captioner.vocabulary.encode(captioner.caption(image, no_doubled_phrase=True).tokens)
    assert captioner.vocabulary.phrases is not None
    assert "doubled" not in {phrase.kind for phrase in captioner.vocabulary.phrases.find(tokens)}


def test_an_altered_file_is_named(run: Path, tmp_path: Path) -> None:
    write_export(load_checkpoint(run), tmp_path)
    (path,) = tmp_path.rglob(PHRASES_FILE)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"phrases\.npz was altered or damaged"):
        load_checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"phrases\.npz is missing"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_without_them_loads_and_says_so_when_they_are_needed(run: Path, tmp_path: Path) -> None:
    write_export(load_checkpoint(run), tmp_path)
    (path,) = tmp_path.rglob(PHRASES_FILE)
    path.unlink()
    write_manifest(path.parent)
    captioner = Captioner.from_checkpoint(tmp_path)
    assert captioner.vocabulary.phrases is None
    image = next(path for path in (run / "data").rglob("*.png"))
    assert captioner.caption(image).tokens is not None
    with pytest.raises(ConfigError, match="this checkpoint has none"):
        captioner.caption(image, decode=DecodeConfig(no_bad_ending=True))
