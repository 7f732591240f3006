"""The choices of each group of settings: the files of conf/, and the plug-ins of installed packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from captioner.config import CELLS, DATASETS, DECODERS, ENCODERS, TOKENIZERS
from captioner.errors import ConfigError
from captioner.registry import Registry

PACKAGE = Path(__file__).resolve().parent.parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The folder of YAML files: inside the package when it was installed from a wheel, next to it in a checkout."""

SETTINGS: dict[str, Registry[Any]] = {"model": DECODERS, "data": DATASETS}
"""The groups whose choices have a dataclass of settings each; every other group has one dataclass."""

NAMES: dict[str, tuple[Registry[Any], str, str]] = {
    "encoder": (ENCODERS, "encoder", "name"),
    "tokenizer": (TOKENIZERS, "tokenizer", "name"),
    "cell": (CELLS, "model", "cell"),
}
"""The groups whose choices are names in a registry: group → registry, and the group and key of the setting."""

REGISTRIES: dict[str, Registry[Any]] = {**SETTINGS, **{group: registry for group, (registry, _, _) in NAMES.items()}}
"""The groups that other packages can add choices to."""


_FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may have been built without libyaml


def choices(*names: str | None) -> str:
    """The choices of each group (of all groups, or of those named) as the lines of --help, without the schemas."""
    wanted = {name for name in names if name}
    groups = sorted({path.parent for path in CONF.glob("*/*.yaml")})
    listed = [(group.name, group_choices(group.name)) for group in groups]
    lines = [f"  {name}: {', '.join(stems)}" for name, stems in listed if not wanted or name in wanted]
    return "\n".join(lines) + "\n"


def group_choices(group: str) -> list[str]:
    """The choices of one group: its files in conf/, and the plug-ins by name."""
    additions = REGISTRIES[group].additions() if group in REGISTRIES else ()
    return sorted({*(path.stem for path in (CONF / group).glob("*.yaml")), *additions})


def decoder_of(path: Path) -> str:
    """The `model.name` of a file in conf/model/: that of its schema, or of the file that it starts from."""
    defaults = yaml.load(path.read_text(encoding="utf-8"), Loader=_FAST_LOADER)["defaults"]
    starts = [entry for entry in defaults if isinstance(entry, str)]
    schema = next((entry.removesuffix("_schema") for entry in starts if entry.endswith("_schema")), None)
    return schema or decoder_of(path.with_name(f"{starts[0]}.yaml"))


def choices_with(setting: str) -> list[str]:
    """The choices of a group whose dataclass has this setting, such as `model.attention_dim`; none for other groups."""
    group, _, name = setting.partition(".")
    if group not in SETTINGS:
        return []
    having = {
        choice
        for choice, settings in SETTINGS[group].loadable().items()
        if name in {one.name for one in fields(settings)}
    }
    files = {path.stem: decoder_of(path) if group == "model" else path.stem for path in (CONF / group).glob("*.yaml")}
    return [choice for choice in group_choices(group) if files.get(choice, choice) in having]


def check_choices(overrides: Sequence[str]) -> None:
    """ConfigError for a plug-in that is chosen and cannot be used."""
    for override in overrides:
        group, _, values = override.lstrip("+").partition("=")
        if group in REGISTRIES:
            for name in values.split(","):
                if name in REGISTRIES[group].additions():
                    _check_addition(group, name)


def _check_addition(group: str, name: str) -> None:
    settings = REGISTRIES[group][name]
    if (CONF / group / f"{name}.yaml").is_file():
        raise ConfigError(
            f"{group}={name} is a choice of captioner itself and of a plug-in ({settings.__module__}): which one is "
            "meant cannot be told. Uninstall the plug-in's package, or rename its entry point."
        )
    if group in SETTINGS and settings.name != name:
        raise ConfigError(
            f"{group}={name}: {settings.__name__}.name is {settings.name!r}, but its entry point is {name!r}. "
            f"Give both one name in {settings.__module__}."
        )


def why_missing(group: str, choice: str) -> str | None:
    """The message for a choice that Hydra does not find because its plug-in cannot be loaded; None for any other."""
    registry = SETTINGS.get(group)
    name = choice.removesuffix("_schema")
    if registry is None or name not in registry:
        return None
    try:
        registry[name]
    except ConfigError as error:
        return str(error)
    return None
