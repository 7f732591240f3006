"""`python train.py`: compose the settings, train, evaluate; a sweep ends in one table."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from captioner.cli.run import explain, run_command
from captioner.cli.settings import CONF, register, train_settings
from captioner.cli.tables import csv_table, markdown_table, run_row
from captioner.config import TrainConfig
from captioner.engine.evaluation import format_scores
from captioner.engine.interrupt import Interrupted
from captioner.engine.run import prepare
from captioner.engine.training import TrainingResult, train
from captioner.errors import CheckpointError, ConfigError
from captioner.files import write_atomically
from captioner.schema import to_plain

CONFIG_FILE = "config.yaml"
_failed: list[Exception] = []
_finished: list[TrainingResult] = []  # the runs of this process, for the table at a sweep's end


def main() -> None:
    """The entry point of train.py and of `python -m captioner train`."""
    sys.exit(run_command(_main))


def _main() -> None:
    _finished.clear()
    _failed.clear()
    register()
    # Hydra's parser takes -m before the settings only; people write it anywhere.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(_job_of_sweep)()
    finally:  # also when the sweep was stopped: what is finished deserves its table
        if len(_finished) > 1:
            _print_sweep(_finished)
    if _failed:
        raise _failed[0]


def _print_sweep(results: list[TrainingResult]) -> None:
    folder = Path(os.path.commonpath([result.folder.parent for result in results]))
    rows = [run_row(result.folder, folder) for result in results]
    table = markdown_table(rows)
    write_atomically(folder / "sweep.md", (table + "\n").encode())
    write_atomically(folder / "sweep.csv", csv_table(rows).encode())
    sys.stdout.write(f"\n{table}\n\nThe table is in {shown(folder)}/sweep.md and sweep.csv\n")


def _job_of_sweep(composed: DictConfig) -> None:
    """One run. A failure is kept for the end: the sweep's other runs go on, and Hydra adds no words of its own."""
    try:
        _job(composed)
    except Exception as error:
        _failed.append(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sys.stderr.write(f"{' '.join(HydraConfig.get().overrides.task)}: {explain(error) or error}\n")


def _job(composed: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    resuming = composed.resume is not None
    try:
        config = _resumed_settings(Path(composed.resume)) if resuming else train_settings(composed)
        if not resuming:
            refuse_used_folder(folder, f"carry it on with resume={shown(folder)}, or ")
        result = start_run(config, folder, resume=resuming)
    finally:
        remove_if_empty(folder)
    _finished.append(result)
    if HydraConfig.get().mode == RunMode.RUN:
        _print_result(result)


def start_run(config: TrainConfig, folder: Path, *, resume: bool = False) -> TrainingResult:
    """Train in `folder`, which holds nothing but, once all settings and data have been checked, this run."""
    run = prepare(config, folder, resume=resume)
    if not resume:
        write_atomically(folder / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(to_plain(config))).encode())
    try:
        return train(run)
    except Interrupted:
        sys.stderr.write(f"Saved. Carry on with: python train.py resume={shown(folder)}\n")
        raise


def _print_result(result: TrainingResult) -> None:
    rows = [(split, evaluation.scores.corpus) for split, evaluation in result.evaluations.items()]
    sys.stdout.write("\n" + format_scores(rows, "split") + "\n")
    for evaluation in result.evaluations.values():
        for name, why in evaluation.scores.unavailable.items():
            sys.stdout.write(f"{name} unavailable: {why}\n")
        break
    sys.stdout.write(
        f"\nRun folder: {shown(result.folder)}\n"
        f"Caption a photo: python caption.py photo.jpg --checkpoint {shown(result.folder)}\n"
    )


def _resumed_settings(run_folder: Path) -> TrainConfig:
    """The run's own settings, with the values given beside `resume=` in their place."""
    path = run_folder / CONFIG_FILE
    if not path.is_file():
        remove_if_empty(run_folder)
        raise CheckpointError(
            f"resume={run_folder} is no run folder: it holds no {CONFIG_FILE}. Expected one such as runs/…"
        )
    stored = OmegaConf.load(path)
    assert isinstance(stored, DictConfig)
    OmegaConf.set_struct(stored, True)
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        if override.key_or_group == "resume":
            continue
        if (CONF / override.key_or_group).is_dir():
            raise ConfigError(
                f"{override.input_line} cannot go with resume=: a resumed run keeps its {override.key_or_group}. "
                "Only values such as trainer.max_epochs=20 can be changed."
            )
        OmegaConf.update(stored, override.key_or_group, override.value())
    return replace(train_settings(stored), resume=str(run_folder))


def refuse_used_folder(folder: Path, hint: str) -> None:
    """An existing run is never overwritten. `hint`: what else a person may have wanted."""
    there = sorted(path.name for path in folder.iterdir())
    if there:
        raise ConfigError(
            f"{shown(folder)} is not empty (it holds {', '.join(there[:4])}{' …' if len(there) > 4 else ''}), and an "
            f"existing run is never overwritten: {hint}name another hydra.run.dir."
        )


def remove_if_empty(folder: Path) -> None:
    """Hydra makes the run folder before the settings are checked; leave none behind that nothing is in."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def shown(folder: Path) -> str:
    """The folder as a person would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
