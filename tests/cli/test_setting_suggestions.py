"""Which setting is meant by a name that does not exist, and by a --flag."""

from __future__ import annotations

import pytest
from hydra.errors import ConfigCompositionException

from captioner.cli.choices import CONF, group_choices
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.setting_suggestions import ABBREVIATIONS, check_flags, meant_settings, unknown_setting
from captioner.config.explain import setting_exists
from captioner.errors import ConfigError


def test_every_abbreviation_stands_for_one_setting_that_exists() -> None:
    names = [name for abbreviations in ABBREVIATIONS.values() for name in abbreviations]
    assert len(names) == len(set(names))
    for setting in ABBREVIATIONS:
        assert setting == "hydra.run.dir" or setting_exists(setting) or (CONF / setting).is_dir(), setting


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("epochs", "trainer.max_epochs"),
        ("max_epochs", "trainer.max_epochs"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("train.max_epochs", "trainer.max_epochs"),
        ("lr", "optim.learning_rate"),
        ("LR", "optim.learning_rate"),
        ("optim.lr", "optim.learning_rate"),
        ("beam-size", "decode.beam_width"),
        ("hidden_dim", "model.hidden_dim"),
        ("trainer.device", "device"),
        ("model.seed", "seed"),
        ("lenght_penalty", "decode.length_penalty"),
    ],
)
def test_the_first_suggestion(name: str, setting: str) -> None:
    assert meant_settings(name)[0] == setting


def test_a_name_that_is_like_nothing() -> None:
    assert unknown_setting("xyzzy") == "xyzzy does not exist. See --help for all settings."


@pytest.mark.parametrize("group", ["model", "data"])
def test_a_setting_of_another_choice_names_the_choices_that_have_it(group: str) -> None:
    """Those of conf/ with which it can be composed, and no others."""
    own = {"model": "model.attention_dim", "data": "data.karpathy"}[group]
    value = {"model": "8", "data": "file.json"}[group]
    can = []
    for choice in group_choices(group):
        try:
            compose_train_settings([f"{group}={choice}", f"{own}={value}"])
        except (ConfigError, ConfigCompositionException):
            continue
        can.append(choice)
    assert 0 < len(can) < len(group_choices(group))
    assert unknown_setting(own) == f"{own} is no setting of the chosen {group}. It is one of {group}={', '.join(can)}."
    assert unknown_setting("data.root") == "data.root=… cannot be set here. See --help for all settings."  # all have it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "3"], "Write trainer.max_epochs=3"),
        (["--epochs=3"], "Write trainer.max_epochs=3"),
        (["--lr"], "Write optim.learning_rate=…"),
        (["model=lstm", "-x"], "-x does not exist: settings are KEY=VALUE"),
        (["--hepl"], "Did you mean --help?"),
        (["--to", "DIR"], "--to is a setting now: write out=DIR."),
    ],
)
def test_flags_where_settings_are_expected(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_flags(arguments, renamed={"--to": "out=DIR"})
    assert message in str(raised.value)
