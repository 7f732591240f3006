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
from tests.cli.conftest import Command

ACTIVE = [entry for entry in RENAMED if entry.is_active]


@pytest.mark.parametrize("entry", ACTIVE)
@pytest.mark.parametrize(
    ("command_name", "beside"),
    [("train", ["hydra.run.dir=run"]), ("train", ["resume=run"]), ("evaluate", ["hydra.run.dir=run"])],
)
def test_a_renamed_setting_names_its_successor(
    command: Command, entry: RenamedSetting | RenamedValue, command_name: str, beside: list[str]
) -> None:
    main = {"train": train.main, "evaluate": evaluate.main}[command_name]
    override = f"{entry.old}=3" if isinstance(entry, RenamedSetting) else f"{entry.setting}={entry.value}"
    result = command(main, override, *beside)
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
