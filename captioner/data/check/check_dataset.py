"""Checks a data set before training: what is wrong, what is unusual, and what its features will cost.

`check_dataset` reads all annotations and decodes all images; `DatasetReport.format` gives the result as text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from captioner.config import DataConfig, TokenizerConfig
from captioner.data.check.check_report import (
    BYTES_PER_IMAGE,
    SEVERITIES,
    DatasetReport,
    Problem,
    VocabularyCheck,
    problem,
)
from captioner.data.check.image_checks import HUGE, Inspection, inspect_images
from captioner.data.dataset import CaptionDataset, ImageId, ImagePath
from captioner.data.datasets.registry import available_splits, read_split
from captioner.errors import DataError
from captioner.text.tokenizers import build_tokenizer

Member = TypeVar("Member", bound=Hashable)


def check_dataset(
    config: DataConfig,
    tokenizer: TokenizerConfig,
    progress: bool = True,
    *,
    min_count: int = 5,
    max_length: int = 50,
    bytes_per_image: int = BYTES_PER_IMAGE,
    images_per_second: float | None = None,
) -> DatasetReport:
    """Check every split of a data set, up to its first `config.limit` images.

    min_count: the vocabulary's. max_length: captions with more tokens are reported. bytes_per_image, images_per_second:
    size of the features and speed of the encoder, for the estimate of the cache's cost.

    DataError if the splits cannot be determined; every other problem is part of the report.
    """
    report = DatasetReport(config.name, config.root, tokenizer.name, bytes_per_image=bytes_per_image)
    report.encoder_images_per_second = images_per_second
    datasets = _read(config, report)
    tokens = _check_captions(datasets, tokenizer, max_length, report)
    report.vocabulary = _check_vocabulary(tokens, min_count)
    _check_images(datasets, config, progress, report)
    report.problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    return report


def _read(config: DataConfig, report: DatasetReport) -> dict[str, CaptionDataset]:
    datasets = {}
    for split in available_splits(config):
        try:
            dataset = read_split(config, split)
        except DataError as error:
            report.problems.append(Problem("error", str(error)))
            continue
        dataset = replace(dataset, images=dataset.images[: config.limit])
        if not len(dataset):
            report.problems.append(Problem("error", f"{split} is empty."))
        datasets[split] = dataset
        report.sizes[split] = (len(dataset), len(dataset.all_captions))
        report.problems += [Problem("note", notice) for notice in dataset.notices]
    files = {split: {image.path: image.image_id for image in dataset} for split, dataset in datasets.items()}
    for first, second, shared in _in_two_splits({split: list(paths) for split, paths in files.items()}):
        ids = [files[first][path] for path in shared]
        report.problems += problem("error", ids, f"image of {first}", f"also in {second}")
    return datasets


def _check_captions(
    datasets: dict[str, CaptionDataset], config: TokenizerConfig, max_length: int, report: DatasetReport
) -> dict[str, list[list[str]]]:
    """Split → tokens of its captions, without those that have none. Adds the captions' problems to the report."""
    tokenizer = build_tokenizer(config)
    tokens: dict[str, list[list[str]]] = {}
    owners: defaultdict[str, set[ImageId]] = defaultdict(set)
    for split, dataset in datasets.items():
        pairs = [(image.image_id, caption) for image in dataset for caption in image.captions]
        tokenized = tokenizer.tokenize_all([caption for _, caption in pairs])
        tokens[split] = [words for words in tokenized if words]
        report.lengths.update(len(words) for words in tokens[split])
        for image_id, caption in pairs:
            owners[caption].add(image_id)

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


def _check_vocabulary(tokens: dict[str, list[list[str]]], min_count: int) -> VocabularyCheck | None:
    if not tokens.get("train"):
        return None
    counts = Counter(word for words in tokens["train"] for word in words)
    known = {word for word, count in counts.items() if count >= min_count}
    val = tokens.get("val")
    if not val:
        return VocabularyCheck(min_count, len(known), None, None)
    hits = sum(word in known for words in val for word in words)
    covered = sum(known.issuperset(words) for words in val)
    return VocabularyCheck(min_count, len(known), hits / sum(map(len, val)), covered / len(val))


def _check_images(
    datasets: dict[str, CaptionDataset], config: DataConfig, progress: bool, report: DatasetReport
) -> None:
    paths = list(dict.fromkeys(image.path for dataset in datasets.values() for image in dataset))
    report.images = len(paths)
    inspections, report.images_per_second = inspect_images(paths, config.num_workers, progress)
    by_fault: defaultdict[str, list[Inspection]] = defaultdict(list)
    by_mode: defaultdict[str, list[ImagePath]] = defaultdict(list)
    for inspection in inspections:
        if inspection.fault:
            by_fault[inspection.fault].append(inspection)
        else:
            by_mode[inspection.mode].append(inspection.path)
    bad = "error" if config.on_bad_image == "error" else "warning"
    report.problems += problem(bad, [i.path for i in by_fault["missing"]], "image", "missing")
    report.problems += problem(bad, [i.path for i in by_fault["empty"]], "image", "empty (0 bytes)")
    damaged = [inspection.reason.rstrip(".") for inspection in by_fault["damaged"]]
    report.problems += problem(bad, damaged, "image", "that cannot be decoded")
    for mode, mode_paths in sorted(by_mode.items()):
        if mode != "RGB":
            report.problems += problem("note", mode_paths, "image", f"stored as {mode}, converted to RGB")
    rotated = [inspection.path for inspection in inspections if inspection.rotated]
    report.problems += problem("note", rotated, "image", "rotated or flipped as EXIF specifies")
    huge = [inspection.path for inspection in inspections if inspection.pixels > HUGE]
    report.problems += problem("warning", huge, "image", f"of more than {HUGE // 10**6} million pixels, slow to decode")
    _check_copies(datasets, inspections, report)


def _check_copies(
    datasets: dict[str, CaptionDataset], inspections: Sequence[Inspection], report: DatasetReport
) -> None:
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
