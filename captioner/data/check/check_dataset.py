"""Checks a data set before training: what is wrong, what is unusual, and what its features will cost.

`check_dataset` reads all annotations and decodes all images; `DatasetReport.format` gives the result as text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np

from captioner.config import DataConfig, TokenizerConfig, TrainConfig, VocabularyConfig
from captioner.data.batches import TokenizedCaptions, tokenize_captions
from captioner.data.caption_advice import TrainingLengths, caption_advice, unknown_share
from captioner.data.check.check_report import (
    BYTES_PER_IMAGE,
    SEVERITIES,
    DatasetReport,
    Problem,
    VocabularyCheck,
    problem,
)
from captioner.data.check.image_checks import HUGE, NARROW, Inspection, inspect_images
from captioner.data.dataset import CaptionDataset, ImageId, ImagePath
from captioner.data.datasets.faults import TableError, shown_of_each_kind
from captioner.data.datasets.image_files import missing_files
from captioner.data.datasets.registry import available_splits, read_split, usable_images
from captioner.data.features.precomputed.match import missing_error
from captioner.data.features.precomputed.source import checked_features
from captioner.data.features.view_features import single_images
from captioner.data.training_data import REQUIRED, encode_training_captions, split_faults, splits_of_training
from captioner.errors import CaptionerError, ConfigError, DataError
from captioner.text.tokenizers import Tokenizer, learn_tokenizer
from captioner.text.vocabulary import SPECIAL_NAMES

Member = TypeVar("Member", bound=Hashable)
Splits = dict[str, CaptionDataset]


def check_dataset(
    config: DataConfig,
    tokenizer: TokenizerConfig,
    progress: bool = True,
    *,
    min_count: int = 5,
    max_length: int = 50,
    bytes_per_image: int = BYTES_PER_IMAGE,
    images_per_second: float | None = None,
    training: TrainConfig | None = None,
) -> DatasetReport:
    """Check every split of a data set, up to its first `config.limit` images.

    min_count: the vocabulary's. max_length: captions with more tokens are reported. bytes_per_image, images_per_second:
    size of the features and speed of the encoder, for the estimate of the cache's cost. training: the settings of the
    training to check for; by default those of `train.py`, with `min_count`.

    The report has an error exactly where that training would refuse the data set (`captioner.data.training_data`); a
    fault of a split that training does not read is a warning. DataError if the splits cannot be determined;
    `unreadable_report` makes a report of it.
    """
    training = training or TrainConfig(vocabulary=VocabularyConfig(min_count))
    report = DatasetReport(config.name, config.root, tokenizer.name, bytes_per_image=bytes_per_image)
    report.encoder_images_per_second = images_per_second
    needed = splits_of_training(training.trainer.evaluate_splits)
    datasets, usable = _read(config, training, needed, report)
    with _fault_reported(report):  # a tokenizer that is learned needs training captions
        learned = learn_tokenizer(tokenizer, usable["train"].all_captions if "train" in usable else ())
        tokens = _check_captions(datasets, learned, max_length, report)
        _check_training_captions(usable, tokens, learned, training, report)
    if config.features is None:
        _check_images(datasets, usable, config, needed, progress, report)
    else:
        _check_features(usable, config, needed, report)
    report.problems = list(dict.fromkeys(report.problems))
    report.problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    return report


def unreadable_report(config: DataConfig, tokenizer: TokenizerConfig, error: DataError) -> DatasetReport:
    """The report on a data set whose splits cannot be determined."""
    return DatasetReport(config.name, config.root, tokenizer.name, problems=_faults("error", error))


def _faults(severity: str, error: CaptionerError) -> list[Problem]:
    """One problem for each of the first faults of a table and one for the others of a kind, or one for the error."""
    if not isinstance(error, TableError):
        return [Problem(severity, str(error))]
    return [Problem(severity, text, count) for text, count in shown_of_each_kind(error.faults)]


def _read(
    config: DataConfig, training: TrainConfig, needed: Sequence[str], report: DatasetReport
) -> tuple[Splits, Splits]:
    """(split → its images as the files define them, split → those that training would use).

    Adds the faults for which training refuses a split, except for missing images, which `_check_images` finds.
    """
    available = available_splits(config)
    faults = split_faults(config, available, training.trainer.evaluate_splits)
    report.problems += [Problem("error", str(fault)) for fault in faults]
    datasets, usable = Splits(), Splits()
    for split in available:
        severity = "error" if split in needed else "warning"
        try:
            whole = read_split(config, split)
        except DataError as error:
            report.problems += _faults(severity, error)
            continue
        datasets[split] = dataset = replace(whole, images=whole.images[: config.limit])
        report.sizes[split] = (len(dataset), len(dataset.all_captions))
        report.problems += [Problem("note", notice) for notice in dataset.notices]
        try:  # missing images are counted, whatever data.on_bad_image is
            source = whole if config.on_bad_image == "skip" else dataset
            usable[split] = usable_images(source, replace(config, on_bad_image="skip"))
        except DataError as error:
            report.problems.append(Problem(severity, str(error) if len(dataset) else f"{split} is empty."))
    files = {split: {image.path: image.image_id for image in dataset} for split, dataset in datasets.items()}
    for first, second, shared in _in_two_splits({split: list(paths) for split, paths in files.items()}):
        ids = [files[first][path] for path in shared]
        report.problems += problem("warning", ids, f"image of {first}", f"also in {second}")
    return datasets, usable


@contextmanager
def _fault_reported(report: DatasetReport) -> Iterator[None]:
    """A context in which a ConfigError or DataError, for which training would not start, is a problem of the report."""
    try:
        yield
    except (ConfigError, DataError) as error:
        report.problems += _faults("error", error)


def _check_captions(
    datasets: Splits, tokenizer: Tokenizer, max_length: int, report: DatasetReport
) -> dict[str, dict[ImageId, list[list[str]]]]:
    """Split → image id → tokens of its captions. Adds the captions' problems to the report."""
    tokens: dict[str, dict[ImageId, list[list[str]]]] = {}
    owners: defaultdict[str, set[ImageId]] = defaultdict(set)
    for split, dataset in datasets.items():
        pairs = [(image.image_id, caption) for image in dataset for caption in image.captions]
        tokenized = tokenizer.tokenize_all([caption for _, caption in pairs])
        tokens[split] = {image.image_id: [] for image in dataset}
        for (image_id, caption), words in zip(pairs, tokenized, strict=True):
            tokens[split][image_id].append(words)
            owners[caption].add(image_id)
        report.lengths.update(len(words) for words in tokenized if words)

        uncaptioned = [image.image_id for image in dataset if not image.captions]
        blank = [image_id for (image_id, _), words in zip(pairs, tokenized, strict=True) if not words]
        long = [
            f"{image_id}: {len(words):,} tokens"
            for (image_id, _), words in zip(pairs, tokenized, strict=True)
            if len(words) > max_length
        ]
        repeated = [image_id for (image_id, _), count in Counter(pairs).items() if count > 1]
        report.problems += problem("warning", uncaptioned, f"image of {split}", "without a caption")
        report.problems += problem("warning", blank, f"caption of {split}", "without any token")
        report.problems += problem("warning", long, f"caption of {split}", f"longer than {max_length} tokens")
        report.problems += problem("note", repeated, f"caption of {split}", "repeated for the same image")
    shared = {caption: len(ids) for caption, ids in owners.items() if len(ids) > 1 and caption.strip()}
    by_count = sorted(shared, key=lambda caption: -shared[caption])
    examples = [f"{caption.strip()[:60]!r} {shared[caption]:,} times" for caption in by_count]
    report.problems += problem("note", examples, "caption", "shared by several images")
    return tokens


def _check_training_captions(
    usable: Splits,
    tokens: dict[str, dict[ImageId, list[list[str]]]],
    tokenizer: Tokenizer,
    training: TrainConfig,
    report: DatasetReport,
) -> None:
    """Report the vocabulary, why training would refuse the captions, and settings that do not fit them."""

    def tokenized(split: str) -> TokenizedCaptions:
        if split not in usable:
            return TokenizedCaptions.from_lists(())
        if any(image.image_id not in tokens[split] for image in usable[split]):  # beyond data.limit, for missing ones
            return tokenize_captions(usable[split], tokenizer)
        return TokenizedCaptions.from_lists(tokens[split][image.image_id] for image in usable[split])

    if "train" not in usable:
        return
    train, val = tokenized("train"), tokenized("val")
    trainer = training.trainer
    encoded = encode_training_captions(usable["train"], train, training.vocabulary, trainer.max_caption_length)
    words = encoded.vocabulary
    report.vocabulary = VocabularyCheck(training.vocabulary.min_count, len(words) - len(SPECIAL_NAMES), None, None)
    if len(val.indices.token_ids):
        report.vocabulary = replace(
            report.vocabulary,
            tokens_known=1 - unknown_share(val, words),
            captions_known=float(np.mean([all(map(words.__contains__, c)) for captions in val for c in captions])),
        )
    limits = TrainingLengths(trainer.max_caption_length, training.decode.max_length)
    advice = caption_advice(train, val, words, training.vocabulary, tokenizer.name, limits)
    report.problems += [Problem("warning", message) for message in advice]


def _check_features(usable: Splits, config: DataConfig, needed: Sequence[str], report: DatasetReport) -> None:
    """Check the features made elsewhere, which are read instead of the images."""
    for split, dataset in usable.items():
        try:
            store, match, summary = checked_features(dataset, config)
        except DataError as error:
            report.problems.append(Problem("error" if split in needed else "warning", str(error)))
            continue
        found = f"Features of {split} in {store}: {summary}, found by {match.habit}."
        report.problems.append(Problem("note", found))
        if match.missing:
            report.problems.append(Problem("warning", str(missing_error(dataset, store, match))))


def _check_images(
    datasets: Splits, usable: Splits, config: DataConfig, needed: Sequence[str], progress: bool, report: DatasetReport
) -> None:
    datasets = {split: single_images(dataset) for split, dataset in datasets.items()}
    usable = {split: single_images(dataset) for split, dataset in usable.items()}
    of_training = {image.path for split in needed for part in (datasets, usable) for image in part.get(split, ())}
    paths = list(dict.fromkeys([*(image.path for part in datasets.values() for image in part), *of_training]))
    report.images = len(paths)
    inspections, report.images_per_second = inspect_images(paths, config.num_workers, progress)
    by_mode: defaultdict[str, list[ImagePath]] = defaultdict(list)
    for inspection in inspections:
        if not inspection.fault:
            by_mode[inspection.mode].append(inspection.path)
    faulty = [inspection for inspection in inspections if inspection.fault]
    bad = "error" if config.on_bad_image == "error" else "warning"
    report.problems += _image_faults(bad, [found for found in faulty if found.path in of_training], "", config.root)
    others = [found for found in faulty if found.path not in of_training]
    report.problems += _image_faults("warning", others, ", of a split that training does not read", config.root)
    unreadable = {inspection.path for inspection in faulty}
    for split in REQUIRED:
        if bad == "warning" and split in usable and unreadable.issuperset(usable[split].paths):
            report.problems.append(Problem("error", f"No image of {split} can be read."))
    for mode, mode_paths in sorted(by_mode.items()):
        if mode != "RGB":
            report.problems += problem("note", mode_paths, "image", f"stored as {mode}, converted to RGB")
    _check_depth(inspections, config, report)
    rotated = [inspection.path for inspection in inspections if inspection.rotated]
    report.problems += problem("note", rotated, "image", "rotated or flipped as EXIF specifies")
    huge = [inspection.path for inspection in inspections if inspection.pixels > HUGE]
    report.problems += problem("warning", huge, "image", f"of more than {HUGE // 10**6} million pixels, slow to decode")
    _check_copies(datasets, inspections, report)


def _check_depth(inspections: Sequence[Inspection], config: DataConfig, report: DatasetReport) -> None:
    """Report images that would be nearly black, and channels that are not used."""
    narrow = [f"{found.path.name}: {found.used:.1%}" for found in inspections if found.used < NARROW]
    if narrow and config.stretch == "none":
        what = "with more than 8 bits, of whose range less than 1/8 is used, so nearly black or of one gray"
        advice = "Set data.stretch=percentile to spread the values of each image."
        (found,) = problem("warning", narrow, "image", what)
        report.problems.append(replace(found, text=f"{found.text} {advice}"))
    banded = [f"{found.path.name}: {found.bands}" for found in inspections if found.bands > 3]
    what = "with more than three bands, of which the first three are used as red, green and blue"
    report.problems += problem("warning", banded, "image", what)


def _image_faults(severity: str, faulty: Sequence[Inspection], where: str, root: str | None) -> list[Problem]:
    """One problem for each kind of fault."""
    paths = {kind: [found.path for found in faulty if found.fault == kind] for kind in ("missing", "empty")}
    damaged = [found.reason.rstrip(".") for found in faulty if found.fault == "damaged"]
    return [
        *problem(severity, missing_files(paths["missing"], root), "image", f"missing{where}"),
        *problem(severity, paths["empty"], "image", f"empty (0 bytes){where}"),
        *problem(severity, damaged, "image", f"that cannot be decoded{where}"),
    ]


def _check_copies(datasets: Splits, inspections: Sequence[Inspection], report: DatasetReport) -> None:
    """Report images with identical files under different ids."""
    digests = {inspection.path: inspection.digest for inspection in inspections if not inspection.fault}
    names: dict[str, dict[bytes, ImagePath]] = {}
    for split, dataset in datasets.items():
        seen: defaultdict[bytes, list[ImagePath]] = defaultdict(list)
        for image in dataset:
            if image.path in digests:
                seen[digests[image.path]].append(image.path)
        copies = [f"{paths[0].name} = {paths[1].name}" for paths in seen.values() if len(paths) > 1]
        report.problems += problem("note", copies, f"image of {split}", "with a copy under another name")
        names[split] = {digest: paths[0] for digest, paths in seen.items()}
    for first, second, shared in _in_two_splits({split: list(digests) for split, digests in names.items()}):
        pairs = [(names[first][digest], names[second][digest]) for digest in shared]
        copies = [f"{one.name} = {other.name}" for one, other in pairs if one != other]
        report.problems += problem("warning", copies, f"image of {first}", f"with a copy in {second}")


def _in_two_splits(members: dict[str, list[Member]]) -> Iterator[tuple[str, str, list[Member]]]:
    """(first split, second split, common members) for every two splits that have members in common."""
    splits = list(members)
    for position, first in enumerate(splits):
        for second in splits[position + 1 :]:
            shared = set(members[second])
            both = [member for member in members[first] if member in shared]
            if both:
                yield first, second, both
