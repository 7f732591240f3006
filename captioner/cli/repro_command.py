"""The shortest `python train.py …` that gives the settings of a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml
from hydra.errors import HydraException

from captioner.cli.choices import CONF, REGISTRIES, decoder_of, group_choices
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.overrides import as_argument, flat_settings
from captioner.config import TrainConfig
from captioner.errors import CaptionerError
from captioner.schema import to_plain

_MACHINE_SETTINGS = {"data.root", "data.features", "data.num_workers", "cache.directory", "resume", "device"}
"""Settings that depend on the machine, which the command leaves out."""


def training_command(settings: TrainConfig) -> str:
    """The shortest `python train.py …` that gives these settings, from an experiment or from choices of groups.

    `data.root=DIR` stands for the folder of the data set, `data.features=DIR` for that of features made elsewhere.
    """
    models = [path.stem for path in sorted((CONF / "model").glob("*.yaml")) if decoder_of(path) == settings.model.name]
    models += [settings.model.name] if settings.model.name in REGISTRIES["model"].additions() else []
    experiments = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml")) if not _is_sweep(path)]
    starts = [[f"experiment={stem}"] for stem in experiments]
    starts += [[f"model={stem}", *_chosen_groups(settings)] for stem in models]
    features = ["data.features=DIR"] if settings.data.features is not None else []
    found = [_completed([*start, f"data={settings.data.name}", *features], settings) for start in starts]
    best = min((options for options in found if options is not None), key=len)
    root = ["data.root=DIR"] if settings.data.needs_root else []
    return "python train.py " + " ".join(shlex.quote(option) for option in [*best, *root])


def _chosen_groups(settings: TrainConfig) -> list[str]:
    """GROUP=CHOICE for the groups whose choices are named after a setting, where conf/train.yaml chooses another."""
    defaults = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    usual = {group: choice for entry in defaults if isinstance(entry, dict) for group, choice in entry.items()}
    names = {"encoder": settings.encoder.name, "optim": settings.optim.name, "decode": settings.decode.name}
    if settings.data.features is not None:
        del names["encoder"]  # features made elsewhere choose encoder=none
    return [f"{group}={name}" for group, name in names.items() if name != usual[group] and name in group_choices(group)]


def _completed(options: list[str], settings: TrainConfig) -> list[str] | None:
    """`options`, and KEY=VALUE for every setting that they leave different; None where they give another decoder."""
    try:
        composed = compose_train_settings(options)
    except (CaptionerError, HydraException):  # such as an experiment whose settings another data set does not have
        return None
    if composed.model.name != settings.model.name:
        return None
    have, wanted = flat_settings(to_plain(composed)), flat_settings(to_plain(settings))
    differing = [key for key in wanted if key in have and wanted[key] != have[key] and key not in _MACHINE_SETTINGS]
    return [*options, *(f"{key}={as_argument(wanted[key])}" for key in differing)]


def _is_sweep(path: Path) -> bool:
    return "MULTIRUN" in path.read_text(encoding="utf-8")
