"""`python train.py`: compose the settings, train, evaluate; a sweep ends in one table."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from captioner.checkpoint.index import read_index
from captioner.cli.choices import CONF
from captioner.cli.hydra_config import PRIMARY, register, task_of, training_settings
from captioner.cli.hydra_versions import VERSION_BASE
from captioner.cli.main import explain, run_command
from captioner.cli.overrides import check_overrides
from captioner.cli.run_config import keep_settings, read_settings, resumed_settings
from captioner.cli.runs_folder import CONFIG_FILE, RUNS_FOLDER, note_newest
from captioner.cli.tables import averaged_over_seeds, csv_table, markdown_table, run_rows
from captioner.config import TASKS, LanguageModelConfig, TrainConfig
from captioner.distributed.checks import check_processes
from captioner.distributed.device import choose_device
from captioner.distributed.launch import JobFailedError, launch, take_place
from captioner.distributed.ranks import RankInfo, first_value_in_job, is_main_process, process_group, rank_info
from captioner.errors import ConfigError, StorageError, choose
from captioner.evaluation.evaluate import format_scores
from captioner.files import is_unfinished, write_atomically
from captioner.metrics.grounding_scores import format_grounding
from captioner.training.language_model.language_model_run import prepare_language_run
from captioner.training.language_model.train_language_model import SAMPLES_FILE, LanguageResult, train_language_model
from captioner.training.loop import TrainingResult, train
from captioner.training.setup import prepare
from captioner.training.signals import Interrupted

T = TypeVar("T")
BEGUN = "run begun"  # what the first process tells the job's store
_failed: list[Exception] = []
_finished: list[Path] = []  # the folders of this command's runs, for the table at a sweep's end


def main() -> None:
    """The entry point of train.py and of `python -m captioner train`."""
    sys.exit(run_command(_main))


def _main() -> None:
    _finished.clear()
    _failed.clear()
    place = take_place()
    register()
    if place.size > 1 and {"-m", "--multirun"} & set(sys.argv):
        raise ConfigError(
            "A sweep (-m) is one run after the other, each in processes of its own: use python train.py -m … "
            "trainer.devices=N, without torchrun."
        )
    check_overrides(sys.argv[1:])
    # Hydra's parser takes -m before the settings only; people write it anywhere.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    try:
        primary = PRIMARY[chosen_task(sys.argv[1:])]
        hydra.main(config_path=str(CONF), config_name=primary, **VERSION_BASE)(_job_of_sweep)()
    finally:  # also when the sweep was stopped: what is finished deserves its table
        if len(_finished) > 1:
            _print_sweep(_finished)
    if _failed:
        raise _failed[0]


def chosen_task(arguments: Sequence[str]) -> str:
    """What is to be trained: `task=…` where it is given, else that of the run that is resumed, else captions."""
    given = dict(argument.split("=", 1) for argument in arguments if argument.startswith(("task=", "resume=")))
    if "task" in given:
        return choose("task", given["task"], TASKS)
    run_folder = Path(given.get("resume", ""))
    return task_of(read_settings(run_folder)) if (run_folder / CONFIG_FILE).is_file() else TASKS[0]


def _print_sweep(folders: list[Path]) -> None:
    folder = Path(os.path.commonpath([run.parent for run in folders]))
    rows = run_rows(folders, folder)
    table = markdown_table(rows)
    if averaged := averaged_over_seeds(rows):
        table += f"\n\nAveraged over seeds:\n\n{markdown_table(averaged)}"
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
    hydra, place = HydraConfig.get(), rank_info()
    folder = Path(hydra.runtime.output_dir)
    resuming = composed.resume is not None or begun_by_this_job(folder)
    result: TrainingResult | LanguageResult | None = None
    try:
        if composed.resume is None:
            config = training_settings(composed)
        else:
            config = resumed_settings(Path(composed.resume), hydra.overrides.task)
        if place.size > 1 and isinstance(config, LanguageModelConfig):
            raise ConfigError("task=language_model trains in one process: start it without torchrun.")
        if not resuming and is_main_process():
            check_unused_folder(folder, f"carry it on with resume={shown(folder)}, or ")
        if is_main_process():
            first_value_in_job(BEGUN, str(folder))
        if isinstance(config, LanguageModelConfig):
            result = start_language_run(config, folder, resume=resuming)
        elif place == RankInfo() and (config.trainer.devices or 1) > 1:
            launch_run(config, folder, list(hydra.overrides.task))
        else:
            result = start_run(config, folder, resume=resuming)
    finally:
        if is_main_process():
            remove_if_empty(folder)
    _finished.append(folder)
    if is_main_process() and isinstance(result, TrainingResult):
        note_newest(folder, RUNS_FOLDER)
    if hydra.mode != RunMode.RUN or not is_main_process():
        return
    if isinstance(result, LanguageResult):
        _print_language_result(result)
    elif result is not None:
        _print_result(result)


def begun_by_this_job(folder: Path) -> bool:
    """Had this job begun the run in `folder` before torchrun restarted it? The same answer in all processes."""
    begun = first_value_in_job(BEGUN, "") == str(folder)  # what nobody has said yet is ""
    return first_value_in_job(f"resumes/{rank_info().attempt}", str(begun)) == str(True) and rank_info().attempt > 0


def start_run(config: TrainConfig, folder: Path, *, resume: bool = False) -> TrainingResult:
    """Train in `folder`, which holds nothing but, once all settings and data have been checked, this run."""
    with process_group(choose_device(config.device), config.trainer.timeout_minutes):
        run = prepare(config, folder, resume=resume)
        return _carry_out(lambda: train(run), config, folder)


def launch_run(config: TrainConfig, folder: Path, options: list[str]) -> None:
    """The same in `trainer.devices` processes of their own, the first of which prints the result."""
    count = config.trainer.devices or 1
    place = RankInfo(size=count, local_size=count)
    check_processes(config, place)
    choose_device(config.device, place)
    quoted = str(folder.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    try:
        stopped_by = launch("train", [*options, f"hydra.run.dir='{quoted}'"], count)
    except JobFailedError as failed:
        if str(failed) and read_index(folder):
            hint = f"Carry on with: python train.py resume={shown(folder)}"
            raise JobFailedError(failed.code, f"{failed} {hint}") from None
        raise
    if stopped_by is not None:
        raise Interrupted(stopped_by)


def start_language_run(config: LanguageModelConfig, folder: Path, *, resume: bool = False) -> LanguageResult:
    """The same for a language model."""
    run = prepare_language_run(config, folder, resume=resume)
    return _carry_out(lambda: train_language_model(run), config, folder)


def _carry_out(work: Callable[[], T], config: TrainConfig | LanguageModelConfig, folder: Path) -> T:
    """Keep the settings, also those that were changed on resume; train; and say how to go on where that was stopped."""
    if is_main_process():
        keep_settings(config, folder)
    try:
        return work()
    except Interrupted:
        if is_main_process():
            sys.stderr.write(f"Saved. Carry on with: python train.py resume={shown(folder)}\n")
        raise
    except KeyboardInterrupt:
        if is_main_process():
            sys.stderr.write(f"\nNot saved. From the latest checkpoint on: python train.py resume={shown(folder)}\n")
        raise
    except StorageError as error:
        if not folder.is_dir():
            raise
        raise StorageError(f"{error} Then carry on with: python train.py resume={shown(folder)}") from error


def _print_result(result: TrainingResult) -> None:
    rows = [(split, evaluation.scores.corpus) for split, evaluation in result.evaluations.items()]
    sys.stdout.write("\n" + format_scores(rows, "split") + "\n")
    for evaluation in result.evaluations.values():
        for name, why in evaluation.scores.unavailable.items():
            sys.stdout.write(f"{name} unavailable: {why}\n")
        if evaluation.grounding is not None:
            sys.stdout.write(f"\n{format_grounding(evaluation.grounding)}\n")
        break
    sys.stdout.write(
        f"\nRun folder: {shown(result.folder)}\n"
        f"Caption a photo: python caption.py photo.jpg --checkpoint {shown(result.folder)}\n"
    )


def _print_language_result(result: LanguageResult) -> None:
    figures = result.figures
    rows = [
        {"": name.replace("_", " "), **{part: f"{value:.3f}" for part, value in figures[name].items()}}
        for name in ("bits_per_character", "bits_per_word", "perplexity_per_word")
        if name in figures
    ]
    rows += [
        {"": f"counting, {row['tokens_before']} before", "val": f"{row['val']:.3f}", "test": f"{row['test']:.3f}"}
        for row in figures.get("counting", [])
    ]
    sys.stdout.write(
        f"\n{markdown_table(rows)}\n\nRun folder: {shown(result.folder)}\n"
        f"What it wrote at each stage: {shown(result.folder / SAMPLES_FILE)}\n"
        f"Let it write: python -m captioner sample checkpoint={shown(result.folder)} temperature=0.8\n"
    )


def check_unused_folder(folder: Path, hint: str) -> None:
    """An existing run is never overwritten. `hint`: what else a person may have wanted."""
    there = sorted(path.name for path in folder.iterdir() if not is_unfinished(path))
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
