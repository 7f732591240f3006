"""What is checked on the command line before Hydra reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from captioner.cli import evaluate, train
from captioner.cli.overrides import as_argument
from captioner.cli.run_config import read_settings
from captioner.config.renamed import RENAMED, RenamedSetting, RenamedValue
from captioner.errors import CheckpointError
from tests.cli.conftest import Command, SmallRun

ACTIVE = [entry for entry in RENAMED if entry.is_active]


@pytest.mark.parametrize("entry", ACTIVE)
@pytest.mark.parametrize(
    ("command_name", "others"),
    [("train", ["hydra.run.dir=run"]), ("train", ["resume=run"]), ("evaluate", ["hydra.run.dir=run"])],
)
def test_a_renamed_setting_names_its_successor(
    command: Command, entry: RenamedSetting | RenamedValue, command_name: str, others: list[str]
) -> None:
    main = {"train": train.main, "evaluate": evaluate.main}[command_name]
    override = f"{entry.old}=3" if isinstance(entry, RenamedSetting) else f"{entry.setting}={entry.value}"
    result = command(main, override, *others)
    assert result.code == 2
    assert " was renamed: use " in result.err
    assert "Traceback" not in result.err
    assert not Path("run").exists()


@pytest.mark.parametrize("entry", [entry for entry in ACTIVE if isinstance(entry, RenamedSetting)])
def test_a_run_folder_of_an_earlier_release_is_migrated(tmp_path: Path, entry: RenamedSetting) -> None:
    group, _, key = entry.old.rpartition(".")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({group: {key: 3}} if group else {key: 3}))
    group, _, key = entry.new.rpartition(".")
    assert read_settings(tmp_path) == ({group: {key: 3}} if group else {key: 3})


@pytest.mark.parametrize("text", ["trainer: &t {seed: 3}\noptim: *t\n", "*t : 3\n", "seed: [*t]\n"])
def test_an_alias_in_a_run_folder_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.yaml cannot be read .*it contains a YAML alias"):
        read_settings(tmp_path)


def test_a_run_of_an_earlier_release_is_resumed(command: Command, small_run: SmallRun) -> None:
    small_run("run")
    path = Path("run/config.yaml")
    stored = yaml.safe_load(path.read_text())
    del stored["trainer"]["gradient_accumulation_steps"], stored["trainer"]["float32_matmul_precision"]
    stored["trainer"] |= {"accumulate": 2, "precision": "fast_float32"}
    path.write_text(yaml.safe_dump(stored))
    result = command(train.main, "resume=run", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    trainer = yaml.safe_load(path.read_text())["trainer"]
    assert trainer["gradient_accumulation_steps"] == 2
    assert (trainer["precision"], trainer["float32_matmul_precision"]) == ("float32", "medium")
    assert "accumulate" not in trainer


@pytest.mark.parametrize(
    ("value", "argument"),
    [
        (None, "null"),
        (True, "true"),
        (1e-05, "1e-05"),
        (["Bleu", "CIDEr"], "[Bleu,CIDEr]"),
        ("folder/a file.csv", "folder/a file.csv"),
        ("", "''"),
        ("shard-{0..9}.tar", "'shard-{0..9}.tar'"),
        ("it's", r"'it\'s'"),
    ],
)
def test_a_value_is_read_as_it_was_written(value: object, argument: str) -> None:
    assert as_argument(value) == argument
    parser = OverridesParser.create()
    assert parser.parse_override(f"key={argument}").value() == value
