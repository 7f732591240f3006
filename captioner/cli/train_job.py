"""The work of `python train.py` once its settings are checked; the only part of the command that imports torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from captioner.checkpoint.index import read_index
from captioner.cli.overrides import as_argument
from captioner.cli.run_config import write_settings
from captioner.cli.runs_folder import shown
from captioner.cli.tables import markdown_table
from captioner.config import LanguageModelConfig, TrainConfig
from captioner.distributed.checks import check_processes
from captioner.distributed.device import choose_device
from captioner.distributed.launch import JobFailedError, launch
from captioner.distributed.ranks import RankInfo, is_main_process, process_group, rank_info
from captioner.errors import StorageError
from captioner.evaluation.evaluation import format_scores
from captioner.metrics.format import score_notices
from captioner.metrics.grounding_scores import format_grounding
from captioner.training.language_model.language_model_run import prepare_language_run
from captioner.training.language_model.train_language_model import SAMPLES_FILE, LanguageResult, train_language_model
from captioner.training.loop import TrainingResult, train
from captioner.training.setup import prepare
from captioner.training.signals import Interrupted


def train_in_folder(
    config: TrainConfig | LanguageModelConfig, folder: Path, overrides: Sequence[str] = (), *, resume: bool = False
) -> TrainingResult | LanguageResult | None:
    """Train in the run folder `folder`: here, or in `trainer.devices` processes that this one starts.

    Nothing is written there before all settings and data have been checked. overrides: the command line, for those
    processes. Returns None where they have trained, and printed the result.
    """
    if isinstance(config, LanguageModelConfig):
        language_run = prepare_language_run(config, folder, resume=resume)
        with _resumable(config, folder):
            return train_language_model(language_run)
    if rank_info() == RankInfo() and (config.trainer.devices or 1) > 1:
        launch_run(config, folder, overrides)
        return None
    with process_group(choose_device(config.device), config.trainer.timeout_minutes):
        run = prepare(config, folder, resume=resume)
        with _resumable(config, folder):
            return train(run)


def launch_run(config: TrainConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Train a captioner in `trainer.devices` new processes; the first of them prints the result."""
    count = config.trainer.devices or 1
    rank = RankInfo(world_size=count, local_world_size=count)
    check_processes(config, rank)
    choose_device(config.device, rank)
    try:
        stopped_by = launch("train", [*overrides, f"hydra.run.dir={as_argument(str(folder.absolute()))}"], count)
    except JobFailedError as failed:
        if str(failed) and read_index(folder):
            hint = f"Resume with: python train.py resume={shown(folder)}"
            raise JobFailedError(failed.code, f"{failed} {hint}") from None
        raise
    if stopped_by is not None:
        raise Interrupted(stopped_by)


@contextmanager
def _resumable(config: TrainConfig | LanguageModelConfig, folder: Path) -> Iterator[None]:
    """Write the settings to the run folder; a training that is stopped inside prints how to resume it."""
    if is_main_process():
        write_settings(config, folder)
    try:
        yield
    except Interrupted:
        if is_main_process():
            sys.stderr.write(f"Saved. Resume with: python train.py resume={shown(folder)}\n")
        raise
    except KeyboardInterrupt:
        if is_main_process():
            sys.stderr.write(f"\nNot saved. From the latest checkpoint on: python train.py resume={shown(folder)}\n")
        raise
    except StorageError as error:
        if not folder.is_dir():
            raise
        raise StorageError(f"{error} Then resume with: python train.py resume={shown(folder)}") from error


def print_result(result: TrainingResult | LanguageResult) -> None:
    """Print the scores of a finished run, where it is, and the command to try next."""
    if isinstance(result, LanguageResult):
        _print_language_result(result)
        return
    rows = [(split, evaluation.table_row) for split, evaluation in result.evaluations.items()]
    sys.stdout.write("\n" + format_scores(rows, "split") + "\n")
    for evaluation in result.evaluations.values():
        for name, why in evaluation.scores.unavailable.items():
            sys.stdout.write(f"{name} unavailable: {why}\n")
        if evaluation.grounding is not None:
            sys.stdout.write(f"\n{format_grounding(evaluation.grounding)}\n")
        break
    for split, evaluation in result.evaluations.items():
        for notice in score_notices(evaluation.scores):
            sys.stdout.write(f"Note: {split}: {notice}\n")
    folder = shown(result.folder)
    hint = f"Caption a photo: python caption.py photo.jpg --checkpoint {folder}"
    if not result.encodes_images:
        hint = f"Caption a split: python evaluate.py checkpoint={folder} split=test"
    sys.stdout.write(f"\nRun folder: {folder}\n{hint}\n")


def _print_language_result(result: LanguageResult) -> None:
    results = result.metrics
    rows = [
        {"": name.replace("_", " "), **{part: f"{value:.3f}" for part, value in results[name].items()}}
        for name in ("bits_per_character", "bits_per_word", "perplexity_per_word")
        if name in results
    ]
    unit = "characters" if "bits_per_character" in results else "words"
    for row in results.get("counting", []):
        name = f"n-grams, {row['tokens_before']} {unit} of context (bits)"
        rows.append({"": name, "val": f"{row['val']:.3f}", "test": f"{row['test']:.3f}"})
    sys.stdout.write(
        f"\n{markdown_table(rows)}\n\nRun folder: {shown(result.folder)}\n"
        f"Samples of each stage: {shown(result.folder / SAMPLES_FILE)}\n"
        f"Generate text: python -m captioner sample --checkpoint {shown(result.folder)} --temperature 0.8\n"
    )
