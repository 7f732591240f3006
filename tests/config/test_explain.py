"""Every setting is explained once, beside its field, and the explanation is found there."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import ClassVar

import pytest

from captioner.config import DATASETS, DECODERS, LanguageModelConfig, TrainConfig
from captioner.config.explain import COMMANDS, all_settings, explain, setting_exists, settings_of
from captioner.errors import ConfigError


@dataclass
class Base:
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"kind": ("first", "second")}

    kind: str = "first"  # first or second
    size: int = 3  # of the base
    # above the line,
    # in two lines
    names: list[str] = field(default_factory=lambda: ["one", "two"])

    unexplained: float | None = None


@dataclass
class Derived(Base):
    size: int = 4  # of the derived class
    kind: str = "second"
    pair: tuple[float, float] = (
        1.0,  # a comment on a line of its value
        2.0,
    )


def test_explanations_are_the_comments() -> None:
    explained = {setting.name: setting.explanation for setting in settings_of(Base, "group")}
    assert explained == {
        "group.kind": "first or second",
        "group.size": "of the base",
        "group.names": "above the line, in two lines",
        "group.unexplained": "",
    }


def test_a_derived_class_may_explain_anew() -> None:
    settings = {setting.name: setting for setting in settings_of(Derived)}
    assert settings["kind"].explanation == "first or second"
    assert settings["kind"].default == "second"
    assert settings["kind"].choices == ("first", "second")
    assert settings["size"].explanation == "of the derived class"
    assert settings["pair"].explanation == "a comment on a line of its value"


def test_types_and_defaults_are_plain() -> None:
    settings = {setting.name: (setting.type, setting.default) for setting in settings_of(Derived)}
    assert settings == {
        "kind": ("text", "second"),
        "size": ("integer", 4),
        "names": ("list of text", ["one", "two"]),
        "unexplained": ("number or null", None),
        "pair": ("list of 2 numbers", [1.0, 2.0]),
    }


def test_settings_without_source_have_no_explanations() -> None:
    (setting,) = settings_of(make_dataclass("Made", [("size", int, 3)], namespace={"__module__": "no_such_module"}))
    assert (setting.name, setting.default, setting.explanation) == ("size", 3, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_is_explained(command: type) -> None:
    for setting in all_settings(command):
        assert setting.explanation, setting.name
        assert len(setting.explanation) <= 110, setting.name


@pytest.mark.parametrize("kind", [*DECODERS.loadable().values(), *DATASETS.loadable().values()])
def test_every_choice_is_explained(kind: type) -> None:
    for setting in settings_of(kind):
        assert setting.explanation, (kind, setting.name)


def test_a_command_s_defaults_count() -> None:
    language = {setting.name: setting.default for setting in all_settings(LanguageModelConfig)}
    captioning = {setting.name: setting for setting in all_settings(TrainConfig)}
    assert language["optim.learning_rate"] == 0.006
    assert captioning["optim.learning_rate"].default == 0.001
    assert captioning["data.name"].default == "scenes"
    assert captioning["data.name"].choices == tuple(DATASETS)
    assert captioning["model.multimodal_dim"].only_for == "mrnn"
    assert captioning["model.cell"].only_for == ""


def test_explain() -> None:
    assert "validations" in explain("trainer.patience")
    assert setting_exists("trainer.patience")
    assert setting_exists("trainer")
    assert setting_exists("model.multimodal_dim")
    assert not setting_exists("trainer.patients")
    with pytest.raises(ConfigError, match=r"trainer\.patients does not exist\. Did you mean trainer\.patience"):
        explain("trainer.patients")
