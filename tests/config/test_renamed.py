"""A renamed setting is answered with its new name; settings stored under the old name are migrated."""

from __future__ import annotations

from typing import Any

import pytest

from captioner.config import renamed
from captioner.config.renamed import RENAMED, RenamedSetting, RenamedValue, check_renamed, migrate_settings
from captioner.errors import ConfigError

TABLE = (
    RenamedSetting("trainer.epochs", "trainer.max_epochs"),
    RenamedSetting("decode.search", "decode.name", values=(("widest", "beam"),)),
    RenamedSetting("random_seed", "seed"),
    RenamedValue("optim.name", "momentum", (("optim.name", "sgd"), ("optim.weight_decay", 0.1))),
    RenamedSetting("trainer.old", "trainer.not_there_yet"),
)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epochs=3", "trainer.epochs was renamed: use trainer.max_epochs=3"),
        ("+trainer.epochs=3", "trainer.epochs was renamed: use trainer.max_epochs=3"),
        ("~trainer.epochs", "trainer.epochs was renamed: use trainer.max_epochs=…"),
        ("trainer.epochs=3,4", "trainer.epochs was renamed: use trainer.max_epochs=3,4"),
        ("decode.search=widest", "decode.search was renamed: use decode.name=beam"),
        ("decode.search=greedy", "decode.search was renamed: use decode.name=greedy"),
        ("random_seed=7", "random_seed was renamed: use seed=7"),
        ("optim.name=momentum", "optim.name=momentum was renamed: use optim.name=sgd optim.weight_decay=0.1"),
        ("optim.name=adam,momentum", "optim.name=momentum was renamed: use optim.name=sgd optim.weight_decay=0.1"),
    ],
)
def test_the_message_gives_the_new_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_renamed(["model=lstm", override], TABLE)
    assert str(raised.value) == message


def test_other_settings_pass() -> None:
    check_renamed(["trainer.max_epochs=3", "optim.name=sgd", "trainer.epochs_more=1", "trainer.old=1", "-m"], TABLE)


def test_stored_settings_are_migrated() -> None:
    stored: dict[str, Any] = {
        "trainer": {"epochs": 3, "old": 1},
        "decode": {"search": "widest"},
        "random_seed": 7,
        "optim": {"name": "momentum", "betas": [0.9, 0.99]},
    }
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in stored.items()}
    assert migrate_settings(stored, TABLE) == {
        "trainer": {"max_epochs": 3, "old": 1},
        "decode": {"name": "beam"},
        "seed": 7,
        "optim": {"name": "sgd", "weight_decay": 0.1, "betas": [0.9, 0.99]},
    }
    assert stored == before


@pytest.mark.parametrize(
    "stored",
    [{}, {"trainer": 3}, {"trainer": None, "optim": []}, {"trainer": {"epochs": 3, "max_epochs": 4}}, {"seed": 1}],
)
def test_current_and_altered_settings_are_left_as_they_are(stored: dict[str, Any]) -> None:
    assert migrate_settings(stored, TABLE) == stored


def test_no_old_name_is_a_setting_again() -> None:
    for entry in RENAMED:
        if isinstance(entry, RenamedSetting) and entry.is_active:
            assert not renamed.setting_exists(entry.old), entry.old
