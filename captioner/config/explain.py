"""What each setting does, read from the source of the dataclasses.

The explanation of a setting is the comment at the end of its line, or the comment lines right above it:

    patience: int | None = 4  # stop after this many validations without a better score; null: never

It is written once, there. `--help`, the comments in conf/ and docs/reference are made from it. A subclass that declares
a field of its base again may explain it again.
"""

from __future__ import annotations

import ast
import functools
import inspect
import io
import sys
import tokenize
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from typing import Any

from captioner.config.commands import EvaluateConfig, LanguageModelConfig, TrainConfig
from captioner.config.data import DATASETS, DataConfig
from captioner.config.model import DECODERS, ModelConfig
from captioner.config.type_hints import type_hints
from captioner.errors import ConfigError, near_misses

COMMANDS: tuple[type, ...] = (TrainConfig, EvaluateConfig, LanguageModelConfig)
"""The settings of each command and task."""

_TYPES = {int: "integer", float: "number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Setting:
    """One setting as a reader meets it.

    name: dotted, as on the command line. type: in words. default: plain values, as in YAML. choices: the values that
    are allowed, where they are a list of names. only_for: the `model.name` or `data.name` that the setting belongs to;
    "" where all have it.
    """

    name: str
    type: str
    default: Any
    explanation: str
    choices: tuple[str, ...] = ()
    only_for: str = ""

    @property
    def group(self) -> str:
        """The part of the name before the dot; "" for the settings that belong to no group."""
        return self.name.rpartition(".")[0]


def all_settings(command: type = TrainConfig) -> list[Setting]:
    """Every setting of a command, group by group in the order of its dataclass.

    Of `model` and `data`: the settings that all decoders or data sets have, then the further ones of each.
    """
    hints = type_hints(command)
    settings: list[Setting] = []
    for setting in settings_of(command):
        kind = hints[setting.name]
        settings += _group_settings(kind, setting) if isinstance(kind, type) and is_dataclass(kind) else [setting]
    return settings


def _group_settings(kind: type, group: Setting) -> list[Setting]:
    """The settings of one group, with the defaults that the command gives them."""
    alternatives = _alternatives(kind)
    common = [
        replace(
            setting,
            default=_plain(getattr(group.default, setting.name.rpartition(".")[2])),
            choices=tuple(alternatives) if setting.name.endswith(".name") and alternatives else setting.choices,
        )
        for setting in settings_of(kind, group.name)
    ]
    names = {setting.name for setting in common}
    further = (setting for name, other in alternatives.items() for setting in settings_of(other, group.name, name))
    return [*common, *(setting for setting in further if setting.name not in names)]


def settings_of(kind: type, group: str = "", only_for: str = "") -> list[Setting]:
    """The settings of one dataclass; `group` is the first part of their dotted names."""
    hints, explanations = type_hints(kind), _explanations(kind)
    choices: dict[str, Any] = getattr(kind, "choices", {})
    return [
        Setting(
            name=f"{group}.{field.name}" if group else field.name,
            type=type_in_words(hints[field.name]),
            default=_default(field),
            explanation=explanations.get(field.name, ""),
            choices=tuple(choices.get(field.name, ())),
            only_for=only_for,
        )
        for field in fields(kind)
    ]


def explain(name: str) -> str:
    """The explanation of a dotted setting of any command; ConfigError with near misses where there is none."""
    settings = [setting for command in COMMANDS for setting in all_settings(command)]
    found = [setting for setting in settings if setting.name == name]
    if not found:
        raise ConfigError(f"{name} does not exist.{near_misses(name, [setting.name for setting in settings])}")
    return next((setting.explanation for setting in found if setting.explanation), "")


def setting_names(command: type) -> list[str]:
    """The dotted names of a command's settings, and the names of its groups."""
    names = [field.name for field in fields(command)]
    return list(dict.fromkeys([*names, *(setting.name for setting in all_settings(command))]))


def setting_exists(name: str) -> bool:
    """Is this dotted name a setting of any command?"""
    return any(name in setting_names(command) for command in COMMANDS)


def type_in_words(expected: Any) -> str:
    """The type of a setting for a reader who may not know Python: "integer or null", "list of text"."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        words = [type_in_words(option) for option in arguments if option is not type(None)]
        return " or ".join([*words, "null"] if type(None) in arguments else words)
    if origin is list:
        return f"list of {type_in_words(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)} {type_in_words(arguments[0])}s"
    return _TYPES.get(expected, str(getattr(expected, "__name__", expected)))


def _alternatives(kind: Any) -> dict[str, type]:
    """Name → dataclass, where a group has one of several."""
    if kind is ModelConfig:
        return dict(DECODERS.loadable())
    return dict(DATASETS.loadable()) if kind is DataConfig else {}


def _default(field: Field[Any]) -> Any:
    return _plain(field.default_factory() if field.default_factory is not MISSING else field.default)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _explanations(kind: type) -> dict[str, str]:
    """Field → explanation, of a dataclass and its bases."""
    explanations: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        explanations |= _module_explanations(base.__module__).get(base.__qualname__, {})
    return explanations


@functools.cache
def _module_explanations(module: str) -> dict[str, dict[str, str]]:
    """Class → field → explanation, of one module; empty where its source is not there to be read."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):  # made in a notebook, built in, or installed without its source
        return {}
    comments = dict(_comments(source))
    lines = source.splitlines()
    explained: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            explained[node.name] = {
                statement.target.id: text
                for statement in node.body
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
                if (text := _comment_of(statement, comments, lines))
            }
    return explained


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Line number → comment on this line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.removeprefix("#").strip()


def _comment_of(statement: ast.AnnAssign, comments: dict[int, str], lines: list[str]) -> str:
    """The comment on the lines of a statement, else the lines of comment right above it."""
    for number in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1):
        if number in comments:
            return comments[number]
    above: list[str] = []
    line = statement.lineno - 1
    while line in comments and lines[line - 1].lstrip().startswith("#"):
        above.insert(0, comments[line])
        line -= 1
    return " ".join(above)
