"""The shortest command that gives a run's settings: `python train.py` with what differs from the defaults."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from captioner.cli.choices import CONF
from captioner.cli.hydra_config import compose_train_settings
from captioner.config import TrainConfig
from captioner.errors import CaptionerError
from captioner.schema import to_plain

_DEFAULTS = {"encoder": "efficientnet_lite0", "optim": "adamw", "decode": "beam"}  # of conf/train.yaml
_LEFT_TO_THE_READER = {"data.root", "data.num_workers", "cache.directory", "resume", "device"}


def training_command(settings: TrainConfig) -> str:
    """`python train.py …` for these settings, as short as an experiment or a choice of groups makes it.

    `data.root=DIR` stands for wherever the data set is.
    """
    groups = [
        f"{group}={name}"
        for group, name in (("encoder", settings.encoder.name), ("optim", settings.optim.name))
        if name != _DEFAULTS[group] and (CONF / group / f"{name}.yaml").is_file()
    ]
    groups += [f"decode={settings.decode.name}"] if settings.decode.name != _DEFAULTS["decode"] else []
    models = [path.stem for path in sorted((CONF / "model").glob("*.yaml")) if _model_of(path) == settings.model.name]
    experiments = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml")) if not _is_sweep(path)]
    starts = [[f"experiment={stem}"] for stem in experiments] + [[f"model={stem}", *groups] for stem in models]
    found = [_completed([*start, f"data={settings.data.name}"], settings) for start in starts]
    best = min((options for options in found if options is not None), key=len)
    root = ["data.root=DIR"] if settings.data.needs_root else []
    return "python train.py " + " ".join(shlex.quote(option) for option in [*best, *root])


def _completed(options: list[str], settings: TrainConfig) -> list[str] | None:
    """`options` and every setting that is different then; None where they make another model."""
    try:
        composed = compose_train_settings(options)
    except CaptionerError:
        return None
    if composed.model.name != settings.model.name:
        return None
    have, wanted = _flat(to_plain(composed)), _flat(to_plain(settings))
    differing = [key for key in wanted if key in have and wanted[key] != have[key] and key not in _LEFT_TO_THE_READER]
    return [*options, *(f"{key}={_value(wanted[key])}" for key in differing)]


def _is_sweep(path: Path) -> bool:
    return "MULTIRUN" in path.read_text(encoding="utf-8")


def _model_of(path: Path) -> str:
    """The `model.name` of a file in conf/model/: that of its schema, or of the file that it is built on."""
    defaults = yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"]
    based_on = [entry for entry in defaults if isinstance(entry, str)]
    schema = next((entry.removesuffix("_schema") for entry in based_on if entry.endswith("_schema")), None)
    return schema or _model_of(path.with_name(f"{based_on[0]}.yaml"))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(_value, value))}]" if isinstance(value, list) else str(value)
