"""A look at a whole data set before hours are spent on it: what is broken, what is odd, what it will cost.

`check_dataset` reads every annotation and decodes every image; `Report.format` says it in a page.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from captioner.config import DataConfig, TokenizerConfig
from captioner.data.check.check_report import BYTES_PER_IMAGE, SEVERITIES, Problem, Report, VocabularyCheck, found
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
    longest: int = 50,
    bytes_per_image: int = BYTES_PER_IMAGE,
    images_per_second: float | None = None,
) -> Report:
    """Look at every split of a data set (its first `config.limit` images), and say what was found.

    min_count: of the vocabulary. longest: captions of more tokens are reported. bytes_per_image and
    images_per_second: of the features and of the encoder, for the estimate of what the cache will cost.

    Raises DataError where not even the splits can be told; everything else ends in the report.
    """
    report = Report(config.name, config.root, tokenizer.name, bytes_per_image=bytes_per_image)
    report.encoder_images_per_second = images_per_second
    datasets = _read(config, report)
    tokens = _check_captions(datasets, tokenizer, longest, report)
    report.vocabulary = _check_vocabulary(tokens, min_count)
    _check_images(datasets, config, progress, report)
    report.problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    return report


def _read(config: DataConfig, report: Report) -> dict[str, CaptionDataset]:
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
    ids = {split: [image.image_id for image in dataset] for split, dataset in datasets.items()}
    for first, second, shared in _in_two_splits(ids):
        report.problems += found("error", shared, f"image of {first}", f"that {second} holds, too")
    return datasets


def _check_captions(
    datasets: dict[str, CaptionDataset], config: TokenizerConfig, longest: int, report: Report
) -> dict[str, list[list[str]]]:
    """Split → tokens of its captions that hold a word; and what is wrong with the others."""
    tokenizer = build_tokenizer(config)
    tokens: dict[str, list[list[str]]] = {}
    owners: defaultdict[str, set[ImageId]] = defaultdict(set)
    for split, dataset in datasets.items():
        pairs = [(image.image_id, caption) for image in dataset for caption in image.captions]
        every = tokenizer.tokenize_all([caption for _, caption in pairs])
        tokens[split] = [words for words in every if words]
        report.lengths.update(len(words) for words in tokens[split])
        for image_id, caption in pairs:
            owners[caption].add(image_id)

        silent = [image.image_id for image in dataset if not image.captions]
        wordless = [image_id for (image_id, _), words in zip(pairs, every, strict=True) if not words]
        long = [
            (image_id, len(words)) for (image_id, _), words in zip(pairs, every, strict=True) if len(words) > longest
        ]
        twice = [image_id for (image_id, _), count in Counter(pairs).items() if count > 1]
        report.problems += found("warning", silent, f"image of {split}", "without a caption")
        report.problems += found("warning", wordless, f"caption of {split}", "without a word")
        long_ones = [f"{image_id}: {count:,} tokens" for image_id, count in long]
        report.problems += found("warning", long_ones, f"caption of {split}", f"longer than {longest} tokens")
        report.problems += found("note", twice, f"caption of {split}", "given twice to one image")
    shared = {caption: len(ids) for caption, ids in owners.items() if len(ids) > 1 and caption.strip()}
    often = sorted(shared, key=lambda caption: -shared[caption])
    examples = [f"{caption.strip()[:60]!r} {shared[caption]:,} times" for caption in often]
    report.problems += found("note", examples, "caption", "said of more than one image")
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
    whole = sum(known.issuperset(words) for words in val)
    return VocabularyCheck(min_count, len(known), hits / sum(map(len, val)), whole / len(val))


def _check_images(datasets: dict[str, CaptionDataset], config: DataConfig, progress: bool, report: Report) -> None:
    paths = list(dict.fromkeys(image.path for dataset in datasets.values() for image in dataset))
    report.images = len(paths)
    inspections, report.images_per_second = inspect_images(paths, config.num_workers, progress)
    by_fault: defaultdict[str, list[Inspection]] = defaultdict(list)
    by_storage: defaultdict[str, list[ImagePath]] = defaultdict(list)
    for inspection in inspections:
        if inspection.fault:
            by_fault[inspection.fault].append(inspection)
        else:
            by_storage[inspection.stored].append(inspection.path)
    bad = "error" if config.on_bad_image == "error" else "warning"
    report.problems += found(bad, [i.path for i in by_fault["missing"]], "image", "missing")
    report.problems += found(bad, [i.path for i in by_fault["empty"]], "image", "empty (0 bytes)")
    report.problems += found(bad, [i.why.rstrip(".") for i in by_fault["damaged"]], "image", "that cannot be decoded")
    for stored, stored_so in sorted(by_storage.items()):
        if stored != "RGB":
            report.problems += found("note", stored_so, "image", f"stored as {stored}, read as RGB")
    turned = [inspection.path for inspection in inspections if inspection.turned]
    report.problems += found("note", turned, "image", "that EXIF says to turn, read upright")
    huge = [inspection.path for inspection in inspections if inspection.pixels > HUGE]
    report.problems += found("warning", huge, "image", f"of more than {HUGE // 10**6} million pixels, slow to decode")
    _check_copies(datasets, inspections, report)


def _check_copies(datasets: dict[str, CaptionDataset], inspections: Sequence[Inspection], report: Report) -> None:
    """Images of the same bytes under different ids."""
    digests = {inspection.path: inspection.digest for inspection in inspections if not inspection.fault}
    names: dict[str, dict[bytes, ImagePath]] = {}
    for split, dataset in datasets.items():
        seen: defaultdict[bytes, list[ImagePath]] = defaultdict(list)
        for image in dataset:
            if image.path in digests:
                seen[digests[image.path]].append(image.path)
        copies = [f"{paths[0].name} = {paths[1].name}" for paths in seen.values() if len(paths) > 1]
        report.problems += found("note", copies, f"image of {split}", "with a copy under another name")
        names[split] = {digest: paths[0] for digest, paths in seen.items()}
    for first, second, shared in _in_two_splits({split: list(digests) for split, digests in names.items()}):
        pairs = [(names[first][digest], names[second][digest]) for digest in shared]
        copies = [f"{one.name} = {other.name}" for one, other in pairs if one != other]
        report.problems += found("warning", copies, f"image of {first}", f"with a copy in {second}")


def _in_two_splits(members: dict[str, list[Member]]) -> Iterator[tuple[str, str, list[Member]]]:
    """(first, second, what both hold) for every two splits that have something in common."""
    splits = list(members)
    for place, first in enumerate(splits):
        for second in splits[place + 1 :]:
            shared = set(members[second])
            both = [member for member in members[first] if member in shared]
            if both:
                yield first, second, both
