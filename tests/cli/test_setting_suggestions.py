"""Which setting is meant by a name that does not exist, and by a --flag."""

from __future__ import annotations

import pytest

from captioner.cli.choices import CONF
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
