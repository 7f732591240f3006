"""The work of `python evaluate.py checkpoint=RUN` once its settings are checked; the part that imports torch."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

from captioner.call_settings import decode_settings
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.load_ensemble import load_ensemble
from captioner.cli.evaluation_output import print_evaluation
from captioner.cli.overrides import as_argument, is_given
from captioner.cli.runs_folder import shown
from captioner.cli.score_job import training_captions
from captioner.config import HARD_AT_TEST, USED_BY, DecodeConfig, EvaluateConfig, TokenizerConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import add_boxes, add_objects, load_dataset
from captioner.data.features.class_source import with_classes
from captioner.data.features.precomputed.source import PrecomputedFeatures
from captioner.data.features.sources import FeatureSource, open_model_features
from captioner.distributed.checks import check_started
from captioner.distributed.device import choose_device
from captioner.distributed.launch import JobFailedError, launch
from captioner.distributed.ranks import RankInfo, is_main_process, process_group, rank_info
from captioner.errors import ConfigError, choose
from captioner.evaluation.evaluate import evaluate_model, settings_for_sets
from captioner.evaluation.evaluation import Evaluation, has_references, write_evaluation
from captioner.evaluation.grounding import NEEDS_ATTENTION
from captioner.evaluation.scoring_tokenizer import scoring_tokenizer
from captioner.evaluation.submission import check_submission, pack_submission, submission_file_name, system_name
from captioner.generated_caption import Caption
from captioner.inference import Captioner
from captioner.metrics.bootstrap import bootstrap_intervals
from captioner.metrics.coco_results import ImageId, write_results
from captioner.metrics.registry import needs_objects
from captioner.report import ReportedSystem, choose_examples, example_groups, write_report

_OTHER_UNITS = (
    "it has another tokenizer than the first model, so its loss and perplexity, which are per token of its own, cannot "
    "be compared with those of the first. The other scores can: they are of the same words."
)
EXAMPLES = 6  # images whose attention the report shows


def evaluate_in_folder(config: EvaluateConfig, overrides: list[str], folder: Path) -> None:
    """Score what `config` names; write metrics, captions and the report into `folder`, and print the scores.

    Captions are generated here, or in `devices` processes that this one starts; the first of those scores and prints.
    """
    rank = rank_info()
    if rank == RankInfo() and (config.devices or 1) > 1:
        _launch(config, overrides, folder)
        return
    check_started("devices", config.devices, rank)
    with process_group(choose_device(config.device)):
        systems, dataset, tokenizer = _caption(config, overrides)
    if not is_main_process():
        return
    evaluations = [system.evaluation for system in systems]
    write_evaluation(folder, evaluations[0], per_image=config.metric.per_image)
    print_evaluation(evaluations, [system.name for system in systems], folder)
    if config.submission is not None or not has_references(dataset):
        _write_submission(config, evaluations[0], dataset, folder)
    if config.report:
        words = scoring_tokenizer(config.metric, tokenizer, dataset.all_captions)
        write_report(folder / "report.html", systems, dataset, words)
        sys.stdout.write(f"Report: {shown(folder)}/report.html\n")


def _launch(config: EvaluateConfig, overrides: list[str], folder: Path) -> None:
    """Evaluate in `config.devices` new processes. Raises JobFailedError, also after a Ctrl-C."""
    count = config.devices or 1
    choose_device(config.device, RankInfo(world_size=count, local_world_size=count))  # before they start: one message
    if launch("evaluate", [*overrides, f"hydra.run.dir={as_argument(str(folder.absolute()))}"], count) is not None:
        raise JobFailedError(130, "")  # they have said that they were stopped


def _caption(
    config: EvaluateConfig, overrides: list[str]
) -> tuple[list[ReportedSystem], CaptionDataset, TokenizerConfig]:
    """Caption and score with each checkpoint.

    All are scored with one tokenizer, that of the first model: scores of other tokens could not be compared with its.
    """
    device = choose_device(config.device)
    paths = [Path(str(config.checkpoint)), *map(Path, config.baselines)]
    first = load_ensemble([paths[0], *map(Path, config.ensemble)], device, config.ensemble_mean, config.average)
    checkpoints = [first, *(load_checkpoint(path, device) for path in paths[1:])]
    if config.hard_at_test is not None:
        for checkpoint in checkpoints:
            _set_hard_at_test(checkpoint, config.hard_at_test)
    data = config.data
    dataset = load_dataset(data, config.split, need_captions=False)
    if config.report and not has_references(dataset):
        raise ConfigError(f"report=true shows reference captions, and the split {dataset.split} has none.")
    if config.metric.grounding is not None:
        if not all(checkpoint.model.decoder.attends for checkpoint in checkpoints):
            raise ConfigError(NEEDS_ATTENTION)
        dataset = add_boxes(data, dataset)
    if needs_objects(config.metric.names):
        dataset = add_objects(data, dataset)
    tokenizer = config.tokenizer if is_given("tokenizer", overrides) else first.settings.tokenizer
    novelty = training_captions(config, overrides, find_checkpoint(paths[0]).parent.parent)
    systems = []
    mean = "" if config.average is None else f" ({config.average})"
    together = " + ".join(f"{path.name}{mean}" for path in [paths[0], *map(Path, config.ensemble)])
    names = [together, *(path.name for path in paths[1:])]
    for name, checkpoint in zip(names, checkpoints, strict=True):
        settings = checkpoint.settings
        features = open_model_features(dataset, checkpoint.model, data=data, cache=config.cache, device=device)
        decode = _decode_settings(settings.decode, config.decode, overrides)
        settings_for_sets(decode, config.captions_per_image)
        features = with_classes(
            features,
            dataset,
            checkpoint.model.encoder,
            settings.encoder,
            decode,
            data=data,
            cache=config.cache,
            device=device,
        )
        evaluation = evaluate_model(
            checkpoint.model,
            checkpoint.vocabulary,
            checkpoint.tokenizer(),
            tokenizer,
            dataset,
            features,
            decode,
            config.metric,
            config.batch_size,
            novelty,
            config.meteor,
            config.captions_per_image,
            checkpoint.consensus,
        )
        if settings.tokenizer != first.settings.tokenizer:
            evaluation = replace(evaluation, notices=(*evaluation.notices, _OTHER_UNITS))
        intervals, attention, details = {}, {}, {}
        if config.report:
            intervals = bootstrap_intervals(evaluation.scores)
            captioner = Captioner(checkpoint, device)
            captioner.decode = settings_for_sets(decode, config.captions_per_image)
            attention = _example_captions(captioner, evaluation, dataset, features)
            details = _detailed_captions(captioner, evaluation, dataset, features)
        about = _about_confidence(checkpoint)
        systems.append(
            ReportedSystem(name, evaluation, intervals, attention, settings.transform.resize, details, about)
        )
    return systems, dataset, tokenizer


def _write_submission(config: EvaluateConfig, evaluation: Evaluation, dataset: CaptionDataset, folder: Path) -> None:
    """Write the file for a test server, check it, and say where it is and what is wrong with it."""
    run = find_checkpoint(Path(str(config.checkpoint))).parent.parent.resolve().name
    name = submission_file_name(dataset.name, dataset.split, config.submission or system_name(run))
    write_results(folder / name, evaluation.captions)
    written = [name]
    if config.submission_zip:
        written.append(Path(name).with_suffix(".zip").name)
        pack_submission([folder / name], folder / written[-1])
    sys.stdout.write(f"For a test server: {shown(folder)}/{' and '.join(written)}\n")
    for problem in check_submission(folder / name, [image.image_id for image in dataset]):
        sys.stdout.write(f"Note: a test server would not accept {name}: {problem}\n")


def _set_hard_at_test(checkpoint: LoadedCheckpoint, how: str) -> None:
    """Make hard attention use the expected context ("expected") or sample a location ("sample")."""
    decoder = checkpoint.model.decoder
    if not decoder.samples_attention:
        raise ConfigError(f"hard_at_test={how} needs a model with hard attention, and {checkpoint.path} has none.")
    decoder.attention_at_test = choose("hard_at_test", how, HARD_AT_TEST)


def _example_captions(
    captioner: Captioner, evaluation: Evaluation, dataset: CaptionDataset, features: FeatureSource
) -> dict[ImageId, Caption]:
    """Captions, with attention weights, of a few images, which are the same for every system."""
    chosen = choose_examples(list(evaluation.captions), EXAMPLES)
    if isinstance(features, PrecomputedFeatures):
        indices = [index for index, image in enumerate(dataset) if image.image_id in set(chosen)]
        regions = [features.regions(index) for index in indices]
        arrays = [
            found.features if found.grid is None else found.features.reshape(*found.grid, -1) for found in regions
        ]
        boxes = [features.boxes(index) for index in indices]
        ids = [dataset.images[index].image_id for index in indices]
        captions = captioner.caption_features(arrays, boxes=boxes, image_ids=ids)
        return dict(zip(ids, captions, strict=True))
    paths = {image.image_id: image.path for image in dataset}
    return captioner.caption_by_id({image_id: paths[image_id] for image_id in chosen})


def _detailed_captions(
    captioner: Captioner, evaluation: Evaluation, dataset: CaptionDataset, features: FeatureSource
) -> dict[ImageId, Caption]:
    """Captions, with confidence and tags, of the images that the report shows; none for features made elsewhere."""
    if isinstance(features, PrecomputedFeatures):
        return {}
    shown = {image_id for group in example_groups(evaluation).values() for image_id in group}
    return captioner.caption_by_id({image.image_id: image.path for image in dataset if image.image_id in shown})


def _about_confidence(checkpoint: LoadedCheckpoint) -> str:
    """What the checkpoint's confidence means, in a sentence; "" without a calibration."""
    if checkpoint.calibration is None:
        return ""
    record = checkpoint.calibration.record
    return (
        f"Confidence: the estimated probability that a caption's CIDEr-D is {record.good_at:.2f} or more, which three "
        f"of four reference captions reach; measured on {record.data} {record.split}, expected calibration error "
        f"{record.calibration_error:.3f}. A photo unlike these has none."
    )


def _decode_settings(trained: DecodeConfig, composed: DecodeConfig, overrides: list[str]) -> DecodeConfig:
    """The checkpoint's decode settings, changed by `decode.KEY=VALUE` and by `decode=CHOICE`, as by caption.py's flags.

    A choice changes what its file sets to other values than the defaults: for those of captioner, the search alone. So
    max_length, allow_unknown and the like stay those with which the captioner was trained.
    """
    given = {override.removeprefix("decode.").split("=")[0] for override in overrides if override.startswith("decode.")}
    name = trained.name
    if "name" in given or any(override.startswith("decode=") for override in overrides):
        name, defaults = composed.name, DecodeConfig()
        changed = {entry.name for entry in fields(composed)} - given
        given |= {key for key in changed if getattr(composed, key) != getattr(defaults, key)}
    _check_effect(name, overrides)
    values = {key: getattr(composed, key) for key in given - {"name"} if name in USED_BY.get(key, (name,))}
    return decode_settings(trained, name, 0, values)


def _check_effect(search: str, overrides: list[str]) -> None:
    """ConfigError for a setting on the command line that the search does not use."""
    for override in overrides:
        name, _, value = override.removeprefix("decode.").partition("=")
        if override.startswith("decode.") and search not in USED_BY.get(name, (search,)):
            needed = " or ".join(f"decode={other}" for other in USED_BY[name])
            raise ConfigError(f"decode.{name}={value} has no effect on decode={search}: give {needed} as well.")
