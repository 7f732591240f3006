"""Run folders of earlier versions load, generate the captions that they generated then, and can be resumed."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.index import find_checkpoint, read_index
from captioner.checkpoint.migrations import (
    FORMAT_VERSION,
    MIGRATIONS,
    TRAINER_STATE_MIGRATIONS,
    migrate,
    migrate_trainer_state,
)
from captioner.config import CacheConfig, FolderConfig, TrainConfig
from captioner.config.renamed import RENAMED, RenamedSetting, migrate_settings
from captioner.errors import CheckpointError
from captioner.schema import from_plain, model_settings, to_plain
from captioner.training.logs import read_records
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.checkpoint.forging import forge_config
from tests.checkpoint.samples.make import bits, captions, write_damaged_image, write_data, write_sparse_weights

SAMPLES = Path(__file__).parent / "samples"
OLDEST_INTERRUPTED = 2  # the first version with a sample of an interrupted run
VERSIONS = sorted(int(path.name.removeprefix("version_")) for path in SAMPLES.glob("version_*"))


def unpack(version: int, name: str, folder: Path) -> Path:
    """The run folder of a sample."""
    with tarfile.open(SAMPLES / f"version_{version}" / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "run"


def expected(version: int) -> dict[str, Any]:
    record = json.loads((SAMPLES / f"version_{version}" / "expected.json").read_text())
    assert isinstance(record, dict)
    return record


def stored_run_settings(run: Path) -> TrainConfig:
    """The settings in a run folder's config.yaml, in the names of today."""
    settings = migrate_settings(yaml.safe_load((run / "config.yaml").read_text()))
    groups = {key: value for key, value in settings.items() if isinstance(value, dict)}
    config = TrainConfig(model=model_settings(groups.pop("model")))
    kinds = {"data": FolderConfig, "cache": CacheConfig}
    for key, values in groups.items():
        setattr(config, key, from_plain(kinds.get(key) or type(getattr(config, key)), values, key))
    return config


def stored_settings(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def test_every_version_has_a_sample_and_a_migration() -> None:
    assert list(range(1, FORMAT_VERSION + 1)) == VERSIONS
    assert list(MIGRATIONS) == list(range(1, FORMAT_VERSION))
    assert set(TRAINER_STATE_MIGRATIONS) <= set(MIGRATIONS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["recurrent", "attention"])
def test_an_old_captioner_generates_its_captions(version: int, name: str, tmp_path: Path) -> None:
    run = unpack(version, name, tmp_path)
    generated = captions(run)
    assert len({caption["caption"] for caption in generated.values()}) >= 3  # not one caption for all images
    for image, caption in expected(version)[name].items():
        assert generated[image]["caption"] == caption["caption"], image
        assert generated[image]["log_prob"] == pytest.approx(caption["log_prob"], abs=1e-3)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["recurrent", "attention"])
def test_stored_settings_are_read(version: int, name: str, tmp_path: Path) -> None:
    loaded = load_checkpoint(unpack(version, name, tmp_path))
    stored = stored_settings(loaded.path)
    assert stored["format_version"] == version
    for group in ("model", "encoder", "transform", "tokenizer", "decode"):
        assert to_plain(getattr(loaded.settings, group)).items() >= stored[group].items()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_language_model_gives_its_loss(version: int, tmp_path: Path) -> None:
    run = unpack(version, "language_model", tmp_path)
    assert bits(run) == pytest.approx(expected(version)["language_model"], abs=1e-3)
    with pytest.raises(CheckpointError, match="made by task=language_model"):
        load_checkpoint(run)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_run_is_resumed_in_the_current_format(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = unpack(version, "attention", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    write_sparse_weights(tmp_path / "sparse.pth")
    config = stored_run_settings(run)
    config.trainer = replace(config.trainer, max_epochs=301, patience=None)
    train(prepare(config, run, resume=True))
    assert stored_settings(find_checkpoint(run, "latest"))["format_version"] == FORMAT_VERSION
    assert [record["epoch"] for record in read_records(run) if record["kind"] == "validation"] == [300, 301]
    index = read_index(run)
    assert index is not None
    assert index.latest == "step-00000602"


@pytest.mark.parametrize("version", [version for version in VERSIONS if version >= OLDEST_INTERRUPTED])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the RL phase, with averaged weights, gradient accumulation and an image that cannot be read."""
    run = unpack(version, "interrupted", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    write_damaged_image(tmp_path / "data")
    write_sparse_weights(tmp_path / "sparse.pth")
    train(prepare(stored_run_settings(run), run, resume=True))
    generated = captions(find_checkpoint(run, "latest"))
    for image, of_uninterrupted in expected(version)["interrupted"].items():
        assert generated[image]["caption"] == of_uninterrupted["caption"], image
        assert generated[image]["log_prob"] == pytest.approx(of_uninterrupted["log_prob"], abs=1e-3)


def test_versions_are_migrated_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.checkpoint.migrations.FORMAT_VERSION", 5)
    later = {3: lambda config: config | {"three": config["format_version"]}, 4: lambda config: config | {"four": 4}}
    for version, migration in later.items():
        monkeypatch.setitem(MIGRATIONS, version, migration)
    assert migrate({"format_version": 3}) == {"format_version": 5, "three": 3, "four": 4}
    assert migrate({"format_version": 5}) == {"format_version": 5}
    first = {"format_version": 1, "sha256": {}, "model": {}}
    assert migrate(first) == {"format_version": 5, "task": "captioning", "model": {}, "three": 3, "four": 4}
    assert first == {"format_version": 1, "sha256": {}, "model": {}}


def test_an_old_export_names_the_weights_that_it_omits() -> None:
    omitted = {"blocks": ["features.0"], "sha256": "00"}
    assert migrate({"format_version": 2, "left_out": omitted}) == {"format_version": 3, "omitted_weights": omitted}


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_trainer_state_gets_the_current_names(version: int) -> None:
    old = {
        "bad_pictures": [{3: "cut short"}, {}],
        "left_out": {"train": [3]},
        "portions": 2,
        "weights": [1.5],
        "log": {"log.txt": 80},
        "progress": {"step": 7, "judged_step": 4, "steps_noted": 3},
        "random_state": 1,
    }
    migrated = migrate_trainer_state(old, version)
    assert migrated == {
        "bad_images": [{3: "cut short"}, {}],
        "skipped_images": {"train": [3]},
        "gradient_accumulation_steps": 2,
        "raw_weights": [1.5],
        "log_sizes": {"log.txt": 80},
        "progress": {"step": 7, "last_validation_step": 4, "steps_summed": 3},
        "random_state": 1,
    }
    assert migrate_trainer_state(migrated, FORMAT_VERSION) == migrated


def test_an_altered_trainer_state_is_left_to_the_reader_to_reject() -> None:
    assert migrate_trainer_state({"progress": 3}, 2) == {"progress": 3}


def test_a_newer_setting_takes_its_default(tmp_path: Path) -> None:
    """The rule for new settings: a missing key takes the default."""
    run = unpack(FORMAT_VERSION, "attention", tmp_path)
    folder = find_checkpoint(run)
    before = load_checkpoint(folder).settings
    forge_config(folder, lambda config: (config["model"].pop("gate"), config["decode"].pop("min_length")))
    assert load_checkpoint(folder).settings == before  # whose gate and min_length are the defaults


@pytest.mark.parametrize("entry", [entry for entry in RENAMED if entry.is_active and isinstance(entry, RenamedSetting)])
def test_renamed_settings_are_migrated(entry: RenamedSetting) -> None:
    group, _, key = entry.old.rpartition(".")
    stored = {"format_version": FORMAT_VERSION, **({group: {key: 3}} if group else {key: 3})}
    group, _, key = entry.new.rpartition(".")
    assert migrate(stored) == {"format_version": FORMAT_VERSION, **({group: {key: 3}} if group else {key: 3})}
