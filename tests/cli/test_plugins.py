"""Decoders and data sets of other packages as choices on the command line, and those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest
from hydra.core.config_store import ConfigStore

from captioner.cli import evaluate, train
from captioner.cli.choices import REGISTRIES, choices
from captioner.cli.hydra_config import compose_train_settings
from captioner.config import CELLS, DATASETS, DECODERS, ENCODERS, TOKENIZERS, RecurrentConfig, ScenesConfig
from captioner.errors import ConfigError
from captioner.metrics.registry import METRICS
from tests.cli.conftest import Command


@dataclass
class ToyDecoderConfig(RecurrentConfig):
    """A decoder of another package."""

    decoder: ClassVar[str] = "captioner.nn.decoders.recurrent:RecurrentDecoder"

    name: str = "toy"
    toys: int = 3


@dataclass
class ToyDataConfig(ScenesConfig):
    """A data set of another package."""

    name: str = "toy"
    toys: int = 3


HERE = __name__
Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install(DECODERS, toy="module:Class", …) makes these the only plug-ins of a registry."""
    stored = ConfigStore.instance().repo
    ConfigStore.instance().repo = {key: value for key, value in stored.items() if key not in REGISTRIES}

    def installed(registry: object, *points: tuple[str, str]) -> None:
        group = registry.group  # type: ignore[attr-defined]
        by_name: dict[str, list[EntryPoint]] = {}
        for name, value in points:
            by_name.setdefault(name, []).append(EntryPoint(name, value, group))
        monkeypatch.setattr(registry, "_plugins", by_name)

    yield installed
    ConfigStore.instance().repo = stored


def test_a_decoder_and_a_data_set_of_other_packages_are_choices(install: Install) -> None:
    install(DECODERS, ("toy", f"{HERE}:ToyDecoderConfig"))
    install(DATASETS, ("toy", f"{HERE}:ToyDataConfig"))
    settings = compose_train_settings(["model=toy", "data=toy", "model.toys=7", "cell=gru"])
    assert settings.model == ToyDecoderConfig(cell="gru", toys=7)
    assert settings.data == ToyDataConfig()
    assert "attention, chen_zitnick" in choices("model")
    assert ", toy" in choices("model")
    assert ", toy" in choices("data")
    assert "toy" not in choices("encoder")


def test_names_of_other_packages_are_choices_too(install: Install, command: Command) -> None:
    install(ENCODERS, ("toy_encoder", f"{HERE}:there_is_none"))
    install(CELLS, ("toy_cell", f"{HERE}:ToyDecoderConfig"))
    install(TOKENIZERS, ("toy_tokenizer", f"{HERE}:ToyDecoderConfig"))
    settings = compose_train_settings(["cell=toy_cell", "tokenizer=toy_tokenizer", "model=attention"])
    assert (settings.model.cell, settings.tokenizer.name) == ("toy_cell", "toy_tokenizer")
    assert "toy_encoder" in choices("encoder")
    result = command(train.main, "encoder=toy_encoder", "hydra.run.dir=run")
    assert result.code == 2
    assert "encoder.name=toy_encoder cannot be used" in result.err


def test_a_typo_suggests_a_setting_of_the_plug_in(install: Install, command: Command) -> None:
    install(DECODERS, ("toy", f"{HERE}:ToyDecoderConfig"))
    result = command(train.main, "model=toy", "model.toyz=1", "hydra.run.dir=run")
    assert result.code == 2
    assert "model.toyz does not exist. Did you mean model.toys" in result.err


BROKEN = {
    "does not import": (("broken", "there_is_no_such_package:Config"), "fails to import"),
    "lacks the class": (("broken", f"{HERE}:NoSuchConfig"), "fails to import"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize(("group", "registry"), [("model", DECODERS), ("data", DATASETS)])
def test_only_the_command_that_chooses_a_broken_plug_in_fails(
    install: Install, command: Command, case: str, group: str, registry: object
) -> None:
    point, message = BROKEN[case]
    install(registry, point)
    assert compose_train_settings([])
    result = command(train.main, f"{group}=broken", "hydra.run.dir=run")
    assert result.code == 2
    assert f"{group}.name=broken cannot be used: the entry point {point[1]}" in result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not Path("run").exists()
    assert "broken" in choices(group)


def test_two_plug_ins_of_one_name_exclude_each_other(install: Install, command: Command) -> None:
    install(DATASETS, ("toy", f"{HERE}:ToyDataConfig"), ("toy", f"{HERE}:OtherDataConfig"))
    assert compose_train_settings([])
    for main in (train.main, evaluate.main):
        result = command(main, "data=toy", "hydra.run.dir=run")
        assert result.code == 2
        assert "data.name=toy is provided by" in result.err
        assert "Uninstall one of these packages" in result.err


def test_a_plug_in_does_not_replace_what_is_built_in(install: Install, command: Command) -> None:
    install(DECODERS, ("recurrent", f"{HERE}:ToyDecoderConfig"))
    assert compose_train_settings(["model=attention"])
    result = command(train.main, "model=lstm", "hydra.run.dir=run")
    assert result.code == 2
    assert "model.name=recurrent is provided by" in result.err
    assert "and by captioner itself" in result.err


def test_a_plug_in_named_like_a_file_of_conf_is_not_ignored(install: Install) -> None:
    install(DECODERS, ("lstm", f"{HERE}:ToyDecoderConfig"))
    assert compose_train_settings([])
    with pytest.raises(ConfigError, match=r"model=lstm is a choice of captioner itself and of a plug-in"):
        compose_train_settings(["model=lstm"])
    with pytest.raises(ConfigError, match=r"model=lstm is a choice of captioner itself and of a plug-in"):
        compose_train_settings(["model=rnn,lstm"])


def test_a_plug_in_whose_settings_bear_another_name_says_so(install: Install) -> None:
    install(DECODERS, ("game", f"{HERE}:ToyDecoderConfig"))
    assert compose_train_settings([])
    with pytest.raises(ConfigError, match=r"^model=game: ToyDecoderConfig\.name is 'toy'"):
        compose_train_settings(["model=game"])


@pytest.mark.parametrize("command_main", [train.main, evaluate.main])
def test_help_lists_the_metrics_of_other_packages(
    command: Command, install: Install, command_main: Callable[[], None]
) -> None:
    install(METRICS, ("Shortness", "tests.metrics.test_extending_metric:LENGTH_RATIO"))
    shown = command(command_main, "--help").out
    assert "Diversity" in shown
    assert "Shortness" in shown
