"""Annotation files of every kind, as others leave them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from captioner.config import CocoConfig, DataConfig, Flickr8kConfig, Flickr30kConfig, FolderConfig, TokenizerConfig
from captioner.data.batches import tokenize_captions
from captioner.data.check.check_dataset import check_dataset
from captioner.data.datasets.caption_sources import find_sources
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.evaluation.reference_file import read_reference_file
from captioner.evaluation.submission import check_submission
from captioner.metrics.coco_results import read_results
from captioner.text.tokenizers import build_tokenizer
from tests.data.datasets.layouts.written import write as write_layout
from tests.data.tiny import write_coco, write_images, write_json, write_text
from tests.fuzz.harness import fuzz, harmless, replaced, shares
from tests.fuzz.mutations import mutated_bytes, mutated_json

NAMES = [f"{number}.jpg" for number in range(4)]
SPLITS = ("train", "train", "val", "test")


def coco(root: Path) -> tuple[DataConfig, Path]:
    write_coco(root)
    return CocoConfig(root=str(root), num_workers=0), root / "annotations/captions_train2017.json"


def karpathy(root: Path) -> tuple[DataConfig, Path]:
    write_images(root / "flickr30k-images", NAMES)
    images = [
        {
            "filename": name,
            "imgid": number,
            "sentids": [number],
            "split": split,
            "sentences": [{"raw": f"A dog {number}.", "tokens": ["a", "dog"], "imgid": number, "sentid": number}],
        }
        for number, (name, split) in enumerate(zip(NAMES, SPLITS, strict=True))
    ]
    path = write_json(root / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    return Flickr30kConfig(root=str(root), num_workers=0), path


def flickr8k(root: Path) -> tuple[DataConfig, Path]:
    write_images(root / "Images", NAMES)
    path = write_text(
        root / "Flickr8k.token.txt", "".join(f"{name}#{i}\tA dog {i} .\n" for name in NAMES for i in (0, 1))
    )
    for part, names in {"train": NAMES[:2], "dev": NAMES[2:3], "test": NAMES[3:]}.items():
        write_text(root / f"Flickr_8k.{part}Images.txt", "\n".join(names))
    return Flickr8kConfig(root=str(root), num_workers=0), path


def flickr8k_list(root: Path) -> tuple[DataConfig, Path]:
    config, _ = flickr8k(root)
    return config, root / "Flickr_8k.trainImages.txt"


def table(root: Path) -> tuple[DataConfig, Path]:
    write_images(root, NAMES)
    rows = [f'{name},"A dog, {i}",{split}' for name, split in zip(NAMES, SPLITS, strict=True) for i in (0, 1)]
    path = write_text(root / "captions.csv", "\n".join(["image,caption,split", *rows]))
    return FolderConfig(root=str(root), captions="captions.csv", num_workers=0), path


def lines(root: Path) -> tuple[DataConfig, Path]:
    write_images(root, NAMES)
    rows = [{"image": name, "caption": "A dog", "split": split} for name, split in zip(NAMES, SPLITS, strict=True)]
    path = write_text(root / "captions.jsonl", "\n".join(map(json.dumps, rows)))
    return FolderConfig(root=str(root), captions="captions.jsonl", num_workers=0), path


def other_layout(name: str) -> Callable[[Path], tuple[DataConfig, Path]]:
    """A data set in a layout of `data=folder`, and the first of its files of captions."""

    def written(root: Path) -> tuple[DataConfig, Path]:
        config = write_layout(name, root)
        return config, find_sources(root, config)[0].path

    written.__name__ = name
    return written


OTHER_LAYOUTS = [
    other_layout(name)
    for name in ("flickr30k_csv", "flickr30k_tokens", "roco", "coco", "karpathy", "lavis", "r2gen", "textcaps")
] + [other_layout(name) for name in ("name_to_captions", "localized_narratives")]


def mutated(path: Path) -> st.SearchStrategy[bytes]:
    content = path.read_bytes()
    if path.suffix == ".json":
        return mutated_json(content)
    if path.suffix == ".jsonl":
        first, _, rest = content.partition(b"\n")
        return mutated_bytes(content) | mutated_json(first).map(lambda line: line + b"\n" + rest)
    return mutated_bytes(content)


@shares(20, 150)
@pytest.mark.parametrize("source", [coco, karpathy, flickr8k, flickr8k_list, table, lines, *OTHER_LAYOUTS])
def test_annotations(source: Callable[[Path], tuple[DataConfig, Path]], cases: int, tmp_path: Path) -> None:
    config, path = source(tmp_path / "data")
    tokenizer = build_tokenizer(TokenizerConfig())

    def check(content: bytes) -> None:
        with replaced(path, content):
            for split in ("train", "val"):
                with harmless(tmp_path):
                    available_splits(config)
                    tokenized = tokenize_captions(load_dataset(config, split), tokenizer)
                    json.dumps(list(tokenized), ensure_ascii=False).encode()  # as a vocabulary is kept
            with harmless(tmp_path):
                check_dataset(config, TokenizerConfig(), progress=False).format().encode()

    fuzz(cases, mutated(path), check)


@shares(12, 100)
def test_results(cases: int, tmp_path: Path) -> None:
    captions = [{"image_id": number, "caption": f"a dog {number}"} for number in range(3)]
    path = write_json(tmp_path / "captions.json", captions)

    def check(content: bytes) -> None:
        with replaced(path, content), harmless(tmp_path):
            read_results(path, [0, 1, 2])

    fuzz(cases, mutated(path), check)


REFERENCES = {
    "coco.json": {
        "images": [{"id": number} for number in range(3)],
        "annotations": [{"image_id": number, "caption": f"a dog {number}"} for number in range(3)],
    },
    "lists.json": {number: [f"a dog {number}", "a dog"] for number in range(3)},
    "objects.json": {number: [{"caption": f"a dog {number}"}] for number in range(3)},
    "rows.json": [{"image_id": number, "caption": f"a dog {number}"} for number in (0, 0, 1, 2)],
}


@shares(12, 100)
@pytest.mark.parametrize("name", REFERENCES)
def test_references(name: str, cases: int, tmp_path: Path) -> None:
    path = write_json(tmp_path / name, REFERENCES[name])

    def check(content: bytes) -> None:
        with replaced(path, content):
            with harmless(tmp_path):
                json.dumps(list(read_reference_file(path).references), ensure_ascii=False).encode()
            with harmless(tmp_path):
                read_results(path, [0, 1, 2], subset=True)

    fuzz(cases, mutated(path), check)


@shares(12, 100)
def test_submission(cases: int, tmp_path: Path) -> None:
    captions = [{"image_id": number, "caption": f"a dog {number}"} for number in range(3)]
    path = write_json(tmp_path / "captions_test2014_x_results.json", captions)

    def check(content: bytes) -> None:
        with replaced(path, content), harmless(tmp_path):
            "\n".join(check_submission(path, [0, 1, 2])).encode()

    fuzz(cases, mutated(path), check)
