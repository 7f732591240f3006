"""The pages of docs/reference, written from the settings' dataclasses and the files of conf/.

They describe what is built in: plug-ins of the environment that writes them are left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

from captioner.cli.choices import CONF, REGISTRIES, SETTINGS, decoder_of
from captioner.cli.overrides import as_argument
from captioner.config import DECODERS, EvaluateConfig, LanguageModelConfig, ModelConfig, TrainConfig
from captioner.config.explain import Setting, all_settings, settings_of
from captioner.config.renamed import RENAMED, RenamedSetting

NOTICE = "<!-- Written by `make reference` from the dataclasses in captioner/config/: edit those. -->\n"


def settings_page() -> str:
    """docs/reference/settings.md: every setting of every command, in one table per group."""
    train = [setting for setting in all_settings(TrainConfig) if _is_built_in(setting)]
    sections = [
        "# Settings\n\n" + NOTICE,
        "A setting is written `group.name=value` on the command line, and a choice of a whole group `group=choice`.\n"
        "`python train.py --help` lists the same settings; `python train.py --cfg job` prints their values for the\n"
        "choices made. The settings of the models are [on their page](models.md).\n",
        "## train\n\n`python train.py`\n\n" + _table(setting for setting in train if not setting.group),
        *(_group_section(group, train) for group in _groups(TrainConfig) if group != "model"),
        _other_command("evaluate", "python evaluate.py", EvaluateConfig, train),
        _other_command("language_model", "python train.py task=language_model", LanguageModelConfig, train),
    ]
    sections.append(_renamed_section())
    return "\n".join(sections)


def models_page() -> str:
    """docs/reference/models.md: every `model=`, its source, and the settings of each decoder."""
    paths = sorted((CONF / "model").glob("*.yaml"))
    rows = [
        (f"`model={path.stem}`", _header(path), f"[{decoder_of(path)}](#decoder-{decoder_of(path)})") for path in paths
    ]
    decoders = {name: kind for name, kind in DECODERS.loadable().items() if _built_in("model", name)}
    sections = [
        "# Models\n\n" + NOTICE,
        "A model is a decoder with its settings. Several models share a decoder and differ in their settings.\n",
        _markdown(("choice", "what it is", "decoder"), rows),
        "## Settings of every decoder\n\n" + _table(settings_of(ModelConfig, "model")),
        *(_choices_section(group) for group in ("cell", "injection", "attention")),
        *(_decoder_section(name, kind, paths) for name, kind in decoders.items()),
    ]
    return "\n".join(sections)


def _group_section(group: str, settings: Sequence[Setting]) -> str:
    kind = get_type_hints(TrainConfig)[group]
    parts = [f"## {group}\n", f"{_summary(kind)}\n", _choices(group)]
    parts.append(_table(setting for setting in settings if setting.group == group and not setting.only_for))
    for name in dict.fromkeys(setting.only_for for setting in settings if setting.group == group and setting.only_for):
        parts.append(f"With `{group}={name}`:\n")
        parts.append(_table(setting for setting in settings if setting.group == group and setting.only_for == name))
    return "\n".join(parts)


def _other_command(title: str, command: str, kind: type, train: Sequence[Setting]) -> str:
    """The settings of a command; of a group that `train` has too, only those with another default."""
    hints, hints_of_train = get_type_hints(kind), get_type_hints(TrainConfig)
    shared = [group for group in _groups(kind) if hints[group] == hints_of_train.get(group)]
    known = {(setting.name, str(setting.default)) for setting in train}
    listed = [
        setting
        for setting in all_settings(kind)
        if _is_built_in(setting) and (setting.group not in shared or (setting.name, str(setting.default)) not in known)
    ]
    links = ", ".join(f"[{group}](#{group})" for group in shared)
    return "\n".join([f"## {title}\n", f"`{command}`\n", _table(listed), f"As in `train`: {links}.\n"])


def _renamed_section() -> str:
    rows = [
        (f"`{entry.shown}`", f"`{entry.new if isinstance(entry, RenamedSetting) else entry.replacement(None)}`")
        for entry in RENAMED
        if entry.is_active
    ]
    intro = "Commands answer an old name with the new one. Run folders and checkpoints with old names still load.\n"
    return f"## Renamed settings\n\n{intro}\n" + _markdown(("until 0.1", "since 0.2"), rows)


def _decoder_section(name: str, kind: type, paths: Sequence[Path]) -> str:
    common = {field.name: field.default for field in fields(ModelConfig)}
    settings = settings_of(kind, "model")
    own = [entry for entry in settings if _key(entry) not in common]
    changed = [entry for entry in settings if _key(entry) in common and entry.default != common[_key(entry)]]
    files = [f"`model={path.stem}`" for path in paths if decoder_of(path) == name]
    parts = [
        f"## Decoder: {name} {{#decoder-{name}}}\n",
        f"{_summary(kind)} Used by {', '.join(files)}.\n",
        _table(own),
    ]
    if changed := [entry for entry in changed if _key(entry) != "name"]:
        parts += ["Settings of every decoder that have another default here:\n", _table(changed)]
    return "\n".join(parts)


def _choices_section(group: str) -> str:
    return f"## Choices of {group}\n\n{_choices(group)}"


def _choices(group: str) -> str:
    """The files of a group with their first lines, where there is a choice."""
    paths = sorted((CONF / group).glob("*.yaml"))
    if len(paths) < 2:
        return ""
    return _markdown(("choice", "what it is"), [(f"`{group}={path.stem}`", _header(path)) for path in paths])


def _header(path: Path) -> str:
    """The comment at the top of a file of conf/."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return _escaped(" ".join(lines))


def _summary(kind: type) -> str:
    """The first paragraph of a dataclass's docstring."""
    return _escaped(" ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()))


def _table(settings: Iterable[Setting]) -> str:
    rows = [(f"`{entry.name}`", f"`{as_argument(entry.default)}`", entry.type, _explained(entry)) for entry in settings]
    return _markdown(("setting", "default", "type", "what it does"), rows) if rows else ""


def _explained(setting: Setting) -> str:
    """The explanation, and the choices that it does not name where they have no files in conf/ either."""
    unnamed = [choice for choice in setting.choices if not re.search(rf"\b{re.escape(choice)}\b", setting.explanation)]
    if not unnamed or (CONF / _key(setting)).is_dir() or (setting.group in SETTINGS and _key(setting) == "name"):
        return _escaped(setting.explanation)
    return f"{_escaped(setting.explanation)}: {', '.join(f'`{choice}`' for choice in setting.choices)}"


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escaped(text: str) -> str:
    """`text` with Markdown's special characters escaped, except in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*\[\]<>|]|\b_|_\b)", r"\\\1", part) for part in parts)


def _groups(command: type) -> list[str]:
    return list(dict.fromkeys(setting.group for setting in all_settings(command) if setting.group))


def _key(setting: Setting) -> str:
    return setting.name.rpartition(".")[2]


def _is_built_in(setting: Setting) -> bool:
    return not setting.only_for or _built_in(setting.group, setting.only_for)


def _built_in(group: str, name: str) -> bool:
    return name not in REGISTRIES[group].additions()
