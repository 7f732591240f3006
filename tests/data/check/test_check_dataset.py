"""A data set with every kind of problem, and the report on it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.config import (
    CocoConfig,
    DecodeConfig,
    Flickr8kConfig,
    FolderConfig,
    TokenizerConfig,
    TrainConfig,
    TrainerConfig,
    VocabularyConfig,
)
from captioner.data.check import check_dataset as check
from captioner.data.check.check_dataset import check_dataset
from captioner.data.check.check_report import DatasetReport, VocabularyCheck, problem
from captioner.errors import DataError
from tests.data.tiny import write_coco, write_images, write_text

WORDS = TokenizerConfig(name="whitespace")


FITTING = TrainConfig(
    vocabulary=VocabularyConfig(min_count=1),
    trainer=TrainerConfig(max_caption_length=100),
    decode=DecodeConfig(max_length=100),
)
"""A training whose settings fit all captions of these tests."""


def _check(config: Any, **settings: Any) -> DatasetReport:
    return check_dataset(config, WORDS, progress=False, **settings)


def _write(root: Path, rows: list[tuple[str, str, str]]) -> FolderConfig:
    write_text(root / "captions.csv", "image,caption,split\n" + "".join(f"{n},{c},{s}\n" for n, c, s in rows))
    return FolderConfig(root=str(root), num_workers=0)


def _said(report: DatasetReport, severity: str) -> list[str]:
    return [problem.text for problem in report.problems if problem.severity == severity]


def test_no_problems(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    report = _check(_write(tmp_path, [("a.png", "one dog", "train"), ("b.png", "one red dog", "val")]), min_count=1)
    assert report.problems == report.errors == []
    assert report.sizes == {"train": (1, 1), "val": (1, 1)}
    assert report.lengths == {2: 1, 3: 1}
    assert report.vocabulary == VocabularyCheck(1, 2, 2 / 3, 0.0)
    assert report.images == 2
    assert report.images_per_second > 0
    assert "No problems found." in report.format()


def test_one_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "HUGE", 1000)
    write_images(tmp_path, ["fine.png", "copied.png"])
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-300])
    (tmp_path / "empty.png").touch()
    Image.new("L", (8, 8)).save(tmp_path / "gray.png")
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.jpg")
    Image.new("RGB", (40, 40)).save(tmp_path / "huge.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 9)).save(tmp_path / "turned.jpg", exif=exif)
    for copy in ("copy.png", "copy_in_val.png"):
        shutil.copy(tmp_path / "copied.png", tmp_path / copy)
    train = ["fine.png", "copied.png", "cut.png", "empty.png", "gray.png", "print.jpg", "huge.png", "turned.jpg"]
    rows = [(name, f"a dog named {name}", "train") for name in [*train, "none.png", "copy.png"]]
    rows += [("fine.png", "twice", "train"), ("fine.png", "twice", "train"), ("fine.png", "", "train")]
    rows += [("gray.png", "long " * 51, "train"), ("cut.png", "same", "train"), ("copy_in_val.png", "same", "val")]
    config = _write(tmp_path, rows)
    report = _check(config, training=FITTING)
    assert _said(report, "error") == [
        f"1 image missing ({tmp_path}/none.png).",
        f"1 image empty (0 bytes) ({tmp_path}/empty.png).",
        next(text for text in _said(report, "error") if text.startswith("1 image that cannot be decoded (")),
    ]
    assert "cut.png" in _said(report, "error")[2]
    assert _said(report, "warning") == [
        "1 caption of train without any token (fine).",
        "1 caption of train longer than 50 tokens (gray: 51 tokens).",
        f"1 image of more than 0 million pixels, slow to decode ({tmp_path}/huge.png).",
        "1 image of train with a copy in val (copied.png = copy_in_val.png).",
    ]
    assert _said(report, "note") == [
        "1 caption of train repeated for the same image (fine).",
        "1 caption shared by several images ('same' 2 times).",
        f"1 image stored as CMYK, converted to RGB ({tmp_path}/print.jpg).",
        f"1 image stored as gray, converted to RGB ({tmp_path}/gray.png).",
        f"1 image rotated or flipped as EXIF specifies ({tmp_path}/turned.jpg).",
        "1 image of train with a copy under another name (copied.png = copy.png).",
    ]
    assert "Found: 3 errors, 4 warnings, 6 notes" in report.format()
    skipping = _check(dataclasses.replace(config, on_bad_image="skip"), training=FITTING)
    assert skipping.errors == []
    assert len(_said(skipping, "warning")) == 7


def test_one_id_in_two_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "Images", ["a.jpg", "b.jpg"])
    write_text(tmp_path / "Flickr8k.token.txt", "a.jpg#0\tx\nb.jpg#0\ty\n")
    write_text(tmp_path / "Flickr_8k.trainImages.txt", "a.jpg\n")
    write_text(tmp_path / "Flickr_8k.devImages.txt", "a.jpg\nb.jpg\n")
    report = _check(Flickr8kConfig(root=str(tmp_path), num_workers=0), training=FITTING)
    assert _said(report, "error") == []  # training does not refuse it
    assert _said(report, "warning") == ["1 image of train also in val (a)."]
    assert report.images == 2  # the shared image is decoded once


def test_a_split_that_cannot_be_read(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_text(tmp_path / "annotations/captions_train2017.json", "{")
    report = _check(CocoConfig(root=str(tmp_path), num_workers=0))
    assert ["is not JSON" in text for text in _said(report, "error")] == [True]
    assert report.sizes == {"val": (2, 4)}
    assert report.vocabulary is None
    assert "Vocabulary" not in report.format()
    write_text(tmp_path / "annotations/captions_val2017.json", '{"images": [], "annotations": []}')
    report = _check(CocoConfig(root=str(tmp_path), num_workers=0))
    assert _said(report, "error")[1] == "val is empty."
    assert report.format()  # with nothing to count
    shutil.rmtree(tmp_path / "annotations")
    with pytest.raises(DataError, match="has no COCO captions"):
        _check(CocoConfig(root=str(tmp_path)))


def test_limit_and_images_without_captions(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    lines = [json.dumps({"image": f"{name}.png", "captions": [], "split": "train"}) for name in "ab"]
    write_text(tmp_path / "captions.jsonl", "\n".join(lines))
    report = _check(FolderConfig(root=str(tmp_path), limit=1, num_workers=0))
    assert report.sizes == {"train": (1, 1)}
    assert _said(report, "warning") == ["1 caption of train without any token (a)."]
    write_coco(tmp_path / "coco")
    write_text(
        tmp_path / "coco/annotations/captions_val2017.json",
        '{"images": [{"id": 4, "file_name": "000000000004.jpg"}], "annotations": []}',
    )
    report = _check(CocoConfig(root=str(tmp_path / "coco"), num_workers=0))
    assert "1 image of val without a caption (4)." in _said(report, "warning")


def test_vocabulary_counts_as_brute_force_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"{i}.png", " ".join(rng.choice(list("abcdefgh"), 4)), "train" if i < 12 else "val") for i in range(20)]
    write_images(tmp_path, [name for name, _, _ in rows])
    vocabulary = _check(_write(tmp_path, rows), min_count=6).vocabulary
    counts = Counter(word for _, caption, split in rows if split == "train" for word in caption.split())
    known = [word for word in counts if counts[word] >= 6]
    val = [caption.split() for _, caption, split in rows if split == "val"]
    assert 0 < len(known) < 8
    assert vocabulary == VocabularyCheck(
        6,
        len(known),
        sum(word in known for words in val for word in words) / 32,
        sum(all(word in known for word in words) for words in val) / 8,
    )


def test_report_of_lengths_and_cost() -> None:
    report = DatasetReport("folder", "DIR", "ptb", {"train": (100, 500)}, images=100, bytes_per_image=10**8)
    report.lengths = Counter({1: 10, 2: 20, 3: 5, 90: 1})
    report.images_per_second = 0.5
    text = report.format()
    assert "10.00 GB" in text
    assert "0 images per second, 3 min in total, plus the time of the encoder" in text
    assert "median 2, 99.5% have at most 3, maximum 90" in text
    bars = {line.split()[0]: line.count("#") for line in text.splitlines() if "#" in line}
    assert bars == {"1": 20, "2": 40, "3+": 12}
    report.encoder_images_per_second = 0.01
    assert "0 images per second in parallel, 2.8 h" in report.format()


def test_messages_of_problems() -> None:
    assert problem("note", [], "image", "x") == []
    assert problem("note", ["a"], "image of val", "x")[0].text == "1 image of val x (a)."
    assert problem("note", list("abcde"), "image of val", "x")[0].text == "5 images of val x (a, b, c and 2 more)."
    assert problem("note", list("ab"), "image", "x")[0].text == "2 images x (a, b)."


def test_real_files(real_data: Path) -> None:
    report = check_dataset(CocoConfig(root=str(real_data / "coco_mini")), TokenizerConfig(), progress=False)
    assert report.errors == []
    assert report.sizes == {"train": (129, 645), "val": (30, 150)}
    assert sum(report.lengths.values()) == 795
    assert report.vocabulary is not None
    assert report.vocabulary.tokens_known is not None
    assert 0.5 < report.vocabulary.tokens_known < 1
