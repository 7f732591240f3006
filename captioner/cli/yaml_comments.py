"""The comments of conf/: each setting's explanation, copied from its dataclass.

A file that gives every setting of its group, such as conf/trainer/default.yaml, explains each of them at the end of its
line, and so do the files that the commands start from. Files that change a few settings keep comments of their own.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from captioner.cli.choices import CONF, SETTINGS
from captioner.config import EvaluateConfig, LanguageModelConfig, TrainConfig
from captioner.config.explain import all_settings, settings_of

PRIMARY: dict[str, type] = {
    "train.yaml": TrainConfig,
    "evaluate.yaml": EvaluateConfig,
    "language_model.yaml": LanguageModelConfig,
}
"""File → the settings of the command that starts from it."""

_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>( (\"[^\"]*\"|[^#\s][^#]*?))?)(?P<comment> +#.*)?")


def commented(path: Path) -> str:
    """The text of a file of conf/ with the explanations of today; unchanged where it explains no settings."""
    text = path.read_text(encoding="utf-8")
    explanations = explained_settings(path)
    return _with_comments(text, explanations) if explanations else text


def explained_settings(path: Path) -> dict[str, str]:
    """Dotted key in the file → explanation; empty for a file that does not give every setting of its group."""
    if path.parent == CONF:
        return {setting.name: setting.explanation for setting in all_settings(PRIMARY[path.name])}
    stored: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    kind = _dataclass_of(path, stored)
    if kind is None or {field.name for field in fields(kind)} - {"name"} - stored.keys():
        return {}
    return {setting.name: setting.explanation for setting in settings_of(kind)}


def _dataclass_of(path: Path, stored: dict[str, Any]) -> type | None:
    """The dataclass of a file in conf/<group>/: that of its group, or of the schema that it starts from."""
    group = path.parent.name
    if group in SETTINGS:
        names = [str(entry).removesuffix("_schema") for entry in stored.get("defaults", [])]
        return next((SETTINGS[group][name] for name in names if name in SETTINGS[group]), None)
    hints = get_type_hints(TrainConfig)
    return hints.get(group)


def _with_comments(text: str, explanations: dict[str, str]) -> str:
    lines, outer = [], ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            key, indent = match["key"], match["indent"]
            outer = outer if indent else key
            name = f"{outer}.{key}" if indent else key
            if len(indent) in (0, 2) and name in explanations:
                comment = f" # {explanations[name]}" if explanations[name] else ""
                line = f"{indent}{key}:{match['value']}{comment}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def write_comments() -> list[Path]:
    """Bring the comments of all files up to date; returns the files that changed."""
    changed = []
    for path in sorted(CONF.rglob("*.yaml")):
        text = commented(path)
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
