"""The work of `python evaluate.py results=FILE`: captions from files are scored, without torch and without images."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from captioner.cli.data_source import tokenizer_of_run, training_limit
from captioner.cli.evaluation_output import print_evaluation
from captioner.cli.overrides import is_given
from captioner.cli.runs_folder import METRICS_FILE, shown
from captioner.config import EvaluateConfig, TokenizerConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import add_objects, available_splits, load_dataset, load_references, read_split
from captioner.distributed.ranks import is_main_process
from captioner.errors import DataError
from captioner.evaluation.evaluation import Evaluation, evaluate_results, write_evaluation
from captioner.evaluation.reference_file import read_reference_file
from captioner.evaluation.scoring_tokenizer import scoring_tokenizer
from captioner.metrics.bootstrap import Comparison, bootstrap_intervals, paired_bootstrap
from captioner.metrics.format import format_comparison
from captioner.metrics.registry import METRICS, needs_objects


def score_in_folder(config: EvaluateConfig, overrides: list[str], folder: Path) -> None:
    """Score the captions of `config.results`; write the results into `folder`, and print the scores.

    Captions in a run folder are scored with the tokenizer of the run, as they were after its training, and so are those
    that are compared with them. The images are read only for `config.report`.
    """
    if not is_main_process():
        return
    files = [Path(file) for file in (config.results, config.compare) if file is not None]
    dataset = _references(config, overrides)
    tokenizer = None if is_given("tokenizer", overrides) else tokenizer_of_run(files[0].parent)
    tokenizer = tokenizer or config.tokenizer
    novelty = training_captions(config, overrides, files[0].parent) if config.references is None else None
    subset = config.subset is not None
    try:
        evaluations = [
            evaluate_results(file, dataset, tokenizer, config.metric, novelty, config.meteor, subset=subset)
            for file in files
        ]
    except DataError as error:
        if config.references is not None or is_given("data", overrides):
            raise
        raise DataError(
            f"{error} (Scored against data={config.data.name}, as no other was given: give references=FILE, or "
            "data=NAME data.root=DIR.)"
        ) from error
    names = system_names(files)
    comparison = paired_bootstrap(*(e.scores for e in evaluations)) if config.compare is not None else None
    extra = {} if comparison is None else {"comparison": _comparison_record(names, comparison)}
    write_evaluation(folder, evaluations[0], per_image=config.metric.per_image, extra=extra)
    print_evaluation(evaluations, names, folder)
    if config.report:
        _report(scoring_tokenizer(config.metric, tokenizer, dataset.all_captions), evaluations, names, dataset, folder)
    if comparison is not None:
        sys.stdout.write(f"\n{format_comparison(comparison, *names)}\n")


def _comparison_record(names: Sequence[str], comparison: Mapping[str, Comparison]) -> dict[str, Any]:
    """The comparison for metrics.json: unrounded fractions; differences are the second system's minus the first's."""
    return {"first": names[0], "second": names[1], "scores": {name: asdict(row) for name, row in comparison.items()}}


def _references(config: EvaluateConfig, overrides: list[str]) -> CaptionDataset:
    """The reference captions, of `references` or of the data set."""
    if config.references is not None:
        return read_reference_file(
            Path(config.references).expanduser(), config.split if is_given("split", overrides) else None
        )
    load = load_dataset if config.report else load_references
    dataset = load(config.data, config.split)
    return add_objects(config.data, dataset) if needs_objects(config.metric.names) else dataset


def training_captions(config: EvaluateConfig, overrides: list[str], run_folder: Path) -> Sequence[str] | None:
    """The training captions, where a metric needs them and the data set has a split train.

    overrides, run_folder: for the images that the run was trained on, see `training_limit`.
    """
    needed = any(METRICS[name].needs_training_captions for name in config.metric.names)
    if not needed or "train" not in available_splits(config.data):
        return None
    train = read_split(config.data, "train", find_images=False)
    return replace(train, images=train.images[: training_limit(overrides, run_folder)]).all_captions


def system_names(files: Sequence[Path]) -> list[str]:
    """A name for the system whose captions each file has: the run's, for a file in a run folder, else the file's.

    Where two names would be equal, the folders around are added until they differ.
    """
    names = [file.parent.name if _is_in_run(file) else file.name for file in files]
    for depth in range(2, max(len(file.resolve().parts) for file in files) + 1):
        if len(set(names)) == len(names):
            break
        names = ["/".join(file.resolve().parts[-depth:]) for file in files]
    return names


def _is_in_run(file: Path) -> bool:
    return bool(file.parent.name) and (file.parent / METRICS_FILE).is_file()


def _report(
    tokenizer: TokenizerConfig, evaluations: list[Evaluation], names: list[str], dataset: CaptionDataset, folder: Path
) -> None:
    from captioner.report import ReportedSystem, write_report  # imports torch

    scored = evaluations[0].scores.per_image
    images = tuple(image for image in dataset if image.image_id in scored)
    systems = [
        ReportedSystem(name, evaluation, bootstrap_intervals(evaluation.scores))
        for name, evaluation in zip(names, evaluations, strict=True)
    ]
    write_report(folder / "report.html", systems, replace(dataset, images=images), tokenizer)
    sys.stdout.write(f"Report: {shown(folder)}/report.html\n")
