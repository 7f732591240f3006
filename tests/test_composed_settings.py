"""Settings kept for all tests are those that Hydra composes, with the same types and in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig

from captioner.cli.choices import CONF
from captioner.cli.hydra_config import register
from captioner.cli.hydra_versions import VERSION_BASE
from tests import composed_settings
from tests.composed_settings import keep_composed_settings


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Hydra without what tests/conftest.py keeps; the patch, to turn it on."""
    from tests.conftest import composed_once

    register()
    composed_once.undo()
    monkeypatch.setattr(composed_settings, "_kept", {})
    yield monkeypatch
    monkeypatch.undo()
    keep_composed_settings(composed_once)


def everything(node: Any) -> Any:
    """The content of a node with all that OmegaConf knows of it."""
    known = node._metadata
    content = node._content if isinstance(node, (DictConfig, ListConfig)) else node._value()
    if isinstance(content, dict):
        content = [(key, everything(value)) for key, value in content.items()]
    elif isinstance(content, list):
        content = [everything(value) for value in content]
    return type(node), known.ref_type, known.object_type, known.optional, known.key, known.flags, content


def composed(primary: str, options: Sequence[str], folder: Path = CONF) -> Any:
    with initialize_config_dir(str(folder), **VERSION_BASE):
        try:
            return everything(compose(primary, list(options)))
        except HydraException as error:
            return str(error)


COMMANDS = [
    ("train", ["data=folder", "data.root=data", "model=gru", "model.hidden_dim=7", "metric.names=[Bleu,CIDEr]"]),
    ("train", ["data.root=x", "model=gru"]),
    ("train", ["experiment=demo", "data.root=y"]),
    ("train", ["model=no_such"]),
    ("train", ["model=gru,lstm"]),
    ("train", ["+trainer.more=1", "data.root=${device}"]),
    ("language_model", []),
]


def test_kept_settings_are_those_composed(plain: pytest.MonkeyPatch) -> None:
    expected = [composed(*command) for command in COMMANDS]
    assert len({str(one) for one in expected}) == len(COMMANDS)
    keep_composed_settings(plain)
    for _ in range(2):
        assert [composed(*command) for command in COMMANDS] == expected


def test_a_caller_changes_its_own_copy(plain: pytest.MonkeyPatch) -> None:
    keep_composed_settings(plain)
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        first = compose("train", ["data.root=x"])
        first.optim.learning_rate = 5.0
        assert compose("train", ["data.root=x"]).optim.learning_rate < 5.0


def test_what_tests_add_is_seen(plain: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A setting that is stored, and the files of another folder."""

    @dataclass
    class Settings:
        number: int = 1

    keep_composed_settings(plain)
    plain.setattr(ConfigStore.instance(), "repo", dict(ConfigStore.instance().repo))
    assert "no_such" in composed("no_such", [])
    for number in (1, 2):
        ConfigStore.instance().store("no_such", Settings(number))
        with initialize_config_dir(str(CONF), **VERSION_BASE):
            assert compose("no_such").number == number
    for number in (1, 2):
        (tmp_path / "own.yaml").write_text(f"answer: {number}\n")
        with initialize_config_dir(str(tmp_path), **VERSION_BASE):
            assert compose("own").answer == number
