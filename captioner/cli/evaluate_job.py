"""The work of `python evaluate.py` once its settings are checked; the only part of the command that imports torch."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.cli.data_source import data_of_run
from captioner.cli.overrides import is_given
from captioner.cli.runs_folder import shown
from captioner.config import HARD_AT_TEST, DataConfig, DecodeConfig, EvaluateConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import add_boxes, available_splits, load_dataset, read_split
from captioner.data.features.sources import open_features
from captioner.distributed.device import choose_device
from captioner.distributed.ranks import is_main_process, process_group
from captioner.errors import ConfigError, choose
from captioner.evaluation.evaluate import evaluate_model
from captioner.evaluation.evaluation import Evaluation, evaluate_results, format_scores, write_evaluation
from captioner.evaluation.grounding import NEEDS_ATTENTION
from captioner.inference import Caption, Captioner
from captioner.metrics.bootstrap import bootstrap_intervals, paired_bootstrap
from captioner.metrics.coco_results import ImageId
from captioner.metrics.format import format_comparison, signature_line
from captioner.metrics.grounding_scores import format_grounding
from captioner.metrics.registry import METRICS
from captioner.report import ReportedSystem, choose_examples, write_report
from captioner.text.tokenizers import build_tokenizer

EXAMPLES = 6  # images whose attention the report shows


def evaluate_in_folder(config: EvaluateConfig, overrides: list[str], folder: Path) -> None:
    """Score what `config` names; write metrics, captions and the report into `folder`, and print the scores."""
    if config.results is None:
        with process_group(choose_device(config.device)):
            systems, dataset = _caption(config, overrides)
        evaluations = [system.evaluation for system in systems]
    else:
        evaluations, systems, dataset = _score_files(config), [], None
    if not is_main_process():
        return
    write_evaluation(folder, evaluations[0], per_image=config.metric.per_image)
    _print(evaluations, [system.name for system in systems], folder)
    if dataset is not None and config.report:
        write_report(folder / "report.html", systems, dataset, config.tokenizer)
        sys.stdout.write(f"Report: {shown(folder)}/report.html\n")
    if config.compare is not None:
        first, second = evaluations
        names = [Path(str(path)).name for path in (config.results, config.compare)]
        table = format_comparison(paired_bootstrap(first.scores, second.scores), *names)
        sys.stdout.write(f"\n{table}\n")


def _score_files(config: EvaluateConfig) -> list[Evaluation]:
    """The evaluation of `results`, and of the file it is compared with, if any."""
    dataset = load_dataset(config.data, config.split)
    novelty = _training_captions(config, config.data)
    return [
        evaluate_results(Path(file), dataset, config.tokenizer, config.metric, novelty)
        for file in (config.results, config.compare)
        if file is not None
    ]


def _caption(config: EvaluateConfig, overrides: list[str]) -> tuple[list[ReportedSystem], CaptionDataset]:
    """Caption and score with each checkpoint, on the given data set, else on that of the first checkpoint's run."""
    device = choose_device(config.device)
    paths = [Path(str(config.checkpoint)), *map(Path, config.baselines)]
    checkpoints = [load_checkpoint(path, device) for path in paths]
    if config.hard_at_test is not None:
        for checkpoint in checkpoints:
            _set_hard_at_test(checkpoint, config.hard_at_test)
    data = data_of_run(checkpoints[0].path) if not is_given("data", overrides) else None
    data = config.data if data is None else data
    dataset = load_dataset(data, config.split)
    if config.metric.grounding is not None:
        if not all(checkpoint.model.decoder.attends for checkpoint in checkpoints):
            raise ConfigError(NEEDS_ATTENTION)
        dataset = add_boxes(data, dataset)
    novelty = _training_captions(config, data)
    systems = []
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        settings = checkpoint.settings
        features = open_features(
            dataset,
            checkpoint.model.encoder,
            with_grid=checkpoint.model.needs_grid,
            data=data,
            cache=config.cache,
            device=device,
        )
        evaluation = evaluate_model(
            checkpoint.model,
            checkpoint.vocabulary,
            build_tokenizer(settings.tokenizer),
            config.tokenizer if is_given("tokenizer", overrides) else settings.tokenizer,
            dataset,
            features,
            _decode_settings(settings.decode, config.decode, overrides),
            config.metric,
            config.batch_size,
            novelty,
        )
        intervals, attention = {}, {}
        if config.report:
            intervals = bootstrap_intervals(evaluation.scores)
            attention = _example_captions(Captioner(checkpoint, device), evaluation, dataset)
        systems.append(ReportedSystem(path.name, evaluation, intervals, attention, settings.transform.resize))
    return systems, dataset


def _set_hard_at_test(checkpoint: LoadedCheckpoint, how: str) -> None:
    """Make hard attention use the expected context ("expected") or sample a location ("sample")."""
    decoder = checkpoint.model.decoder
    if not decoder.samples_attention:
        raise ConfigError(f"hard_at_test={how} needs a model with hard attention, and {checkpoint.path} has none.")
    decoder.attention_at_test = choose("hard_at_test", how, HARD_AT_TEST)


def _example_captions(captioner: Captioner, evaluation: Evaluation, dataset: CaptionDataset) -> dict[ImageId, Caption]:
    """Captions, with attention weights, of a few images, which are the same for every system."""
    chosen = choose_examples(list(evaluation.captions), EXAMPLES)
    paths = {image.image_id: image.path for image in dataset}
    captions = captioner.caption([paths[image_id] for image_id in chosen])
    return dict(zip(chosen, captions, strict=True))


def _training_captions(config: EvaluateConfig, data: DataConfig) -> list[str] | None:
    """The training captions, where a metric needs them and the data set has a split train."""
    needed = any(METRICS[name].needs_training_captions for name in config.metric.names)
    if not needed or "train" not in available_splits(data):
        return None
    return read_split(data, "train").all_captions


def _decode_settings(trained: DecodeConfig, composed: DecodeConfig, overrides: list[str]) -> DecodeConfig:
    """The decode settings: the checkpoint's, changed by `decode.KEY=VALUE`; or those of `decode=CHOICE`."""
    if any(override.startswith("decode=") for override in overrides):
        return composed
    names = {override.removeprefix("decode.").split("=")[0] for override in overrides if override.startswith("decode.")}
    return replace(trained, **{f.name: getattr(composed, f.name) for f in fields(composed) if f.name in names})


def _print(evaluations: list[Evaluation], names: list[str], folder: Path) -> None:
    """Print the scores, one row per system, what could not be scored, and where everything was written."""
    first = evaluations[0]
    if len(names) > 1:
        rows = [(name, evaluation.scores.corpus) for name, evaluation in zip(names, evaluations, strict=True)]
        table = format_scores(rows, first.split)
    else:
        table = format_scores([(first.split, first.scores.corpus)], "split")
    sys.stdout.write(f"\n{table}\n{signature_line(first.scores)}\n")
    for name, why in first.scores.unavailable.items():
        sys.stdout.write(f"{name} unavailable: {why}\n")
    for evaluation, name in zip(evaluations, names or [""], strict=False):
        if evaluation.grounding is not None:
            heading = f"{name}\n" if len(names) > 1 else ""
            sys.stdout.write(f"\n{heading}{format_grounding(evaluation.grounding)}\n")
    for notice in first.notices:
        sys.stdout.write(f"Note: {notice}\n")
    if first.skipped:
        sys.stdout.write(f"Left out {len(first.skipped)} images that cannot be read; see metrics.json.\n")
    sys.stdout.write(f"\nWritten: {shown(folder)}/metrics.json and captions_{first.split}.json\n")
