"""`data check` finds an error exactly where a training refuses the data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from captioner.config import (
    CacheConfig,
    CocoConfig,
    DataConfig,
    Flickr8kConfig,
    FolderConfig,
    ShardsConfig,
    TokenizerConfig,
    VocabularyConfig,
)
from captioner.data.check.check_dataset import check_dataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.datasets.tar_shards.pack import pack_shards
from captioner.errors import CaptionerError
from captioner.training.setup import prepare
from tests.data.tiny import FLICKR8K, write_coco, write_flickr8k, write_images, write_text
from tests.tiny import tiny_config, with_trainer

ROWS = [(f"{number}.png", f"a dog {number}", ("train", "train", "val", "test")[number]) for number in range(4)]


@dataclass
class Case:
    """A data set, its settings and those of the training, and whether training can start."""

    name: str
    starts: bool
    write: Callable[[Path], object]
    data: type[DataConfig] = FolderConfig
    settings: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    min_count: int = 1


def _images(root: Path) -> None:
    write_images(root, [name for name, _, _ in ROWS])


def _table(rows: list[tuple[str, str, str]], header: str = "image,caption,split") -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _images(root)
        write_text(root / "captions.csv", f"{header}\n" + "".join(",".join(row) + "\n" for row in rows))

    return write


def _with(write: Callable[[Path], None], **contents: bytes) -> Callable[[Path], None]:
    """The same with other bytes in some of the images; None removes one."""

    def write_and_replace(root: Path) -> None:
        write(root)
        for number, content in contents.items():
            path = root / f"{number.removeprefix('n')}.png"
            path.write_bytes(content) if content else path.unlink()

    return write_and_replace


def _captions(**of_split: str) -> list[tuple[str, str, str]]:
    """ROWS with another caption for the images of some splits."""
    return [(name, of_split.get(split, caption), split) for name, caption, split in ROWS]


def _without(*splits: str) -> list[tuple[str, str, str]]:
    return [row for row in ROWS if row[2] not in splits]


def _json_lines(root: Path) -> None:
    _images(root)
    lines = [json.dumps({"image": name, "captions": [text, text], "split": split}) for name, text, split in ROWS]
    write_text(root / "captions.jsonl", "\n".join(lines))


def _shards(*splits: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _table(ROWS)(root / "source")
        for split in splits:
            pack_shards(load_dataset(FolderConfig(root=str(root / "source")), split), root, 10)

    return write


def _numbered_shards(root: Path) -> None:
    _shards("train", "val")(root)
    for number, path in enumerate(sorted(root.glob("*.tar"))):
        path.rename(root / f"{number:05}.tar")


def _one_image_in_two_lists(root: Path) -> None:
    write_flickr8k(root)
    write_text(root / "Flickr_8k.devImages.txt", f"{FLICKR8K[0]}\n{FLICKR8K[3]}\n")


def _unsplit_table(root: Path) -> None:
    _images(root)
    write_text(root / "captions.csv", "image,caption\n" + "".join(f"{name},{text}\n" for name, text, _ in ROWS))


SKIP = {"on_bad_image": "skip"}
TEST = {"evaluate_splits": ["test"]}
CASES = [
    Case("a table with splits", True, _table(ROWS)),
    Case("a table without splits", True, _unsplit_table),
    Case("JSON lines", True, _json_lines),
    Case("COCO", True, write_coco, CocoConfig),
    Case("no test split", True, _table(_without("test"))),
    Case("shards", True, _shards("train", "val"), ShardsConfig),
    Case("some captions are blank", True, _table([*ROWS, ("0.png", " ", "train"), ("2.png", "", "val")])),
    Case("test is blank and not evaluated", True, _table(_captions(test=" "))),
    Case("a missing image of test, not evaluated", True, _with(_table(ROWS), n3=b"")),
    Case("a damaged image of test, not evaluated", True, _with(_table(ROWS), n3=b"no image")),
    Case("a missing image, skipped", True, _with(_table(ROWS), n0=b""), settings=SKIP),
    Case("a damaged image, skipped", True, _with(_table(ROWS), n0=b"no image"), settings=SKIP),
    Case("a missing image beyond the limit", True, _with(_table(ROWS), n1=b""), settings={"limit": 1}),
    Case("a missing image skipped within the limit", True, _with(_table(ROWS), n0=b""), settings=SKIP | {"limit": 1}),
    Case("one image in train and in val", True, _one_image_in_two_lists, Flickr8kConfig),
    Case("val has no token", True, _table(_captions(val="..."))),
    Case("test is evaluated", True, _table(ROWS), trainer={"evaluate_splits": ["val", "test"]}),
    Case("no val split", False, _table(_without("val"))),
    Case("no train split", False, _table(_without("train"))),
    Case(
        "val_fraction is 0", False, _table([row[:2] for row in ROWS], "image,caption"), settings={"val_fraction": 0.0}
    ),  # type: ignore[misc]
    Case("a table without rows", False, _table([])),
    Case("a table with another header", False, _table(ROWS, "picture,text,split")),
    Case("a row with too many columns", False, _table([*ROWS, ("0.png", "a,b", "train")])),
    Case("a folder without a table", False, _images),
    Case("val is blank", False, _table(_captions(val=" "))),
    Case("train is blank", False, _table(_captions(train=" "))),
    Case("train has no token", False, _table(_captions(train="..."))),
    Case("no word is frequent enough", False, _table(ROWS), min_count=9),
    Case("a missing image", False, _with(_table(ROWS), n0=b"")),
    Case("a damaged image", False, _with(_table(ROWS), n0=b"no image")),
    Case("a damaged image of val", False, _with(_table(ROWS), n2=b"no image")),
    Case("all of val damaged, skipped", False, _with(_table(ROWS), n2=b"no image"), settings=SKIP),
    Case("all of val missing, skipped", False, _with(_table(ROWS), n2=b""), settings=SKIP),
    Case("test is evaluated and missing", False, _table(_without("test")), trainer=TEST),
    Case("test is evaluated and blank", False, _table(_captions(test=" ")), trainer=TEST),
    Case("test is evaluated without its image", False, _with(_table(ROWS), n3=b""), trainer=TEST),
    Case("a split that does not exist", False, _table(ROWS), trainer={"evaluate_splits": ["tset"]}),
    Case("shards without val", False, _shards("train"), ShardsConfig),
    Case("shards with other names", False, _numbered_shards, ShardsConfig),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_check_agrees_with_training(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    case.write(root)
    data = case.data(root=str(root), num_workers=0, **case.settings)  # type: ignore[call-arg]
    config = with_trainer(tiny_config(FolderConfig(root=str(root))), **case.trainer)
    config = replace(
        config, data=data, vocabulary=VocabularyConfig(case.min_count), cache=CacheConfig(directory=str(tmp_path / "c"))
    )
    assert _accepts(lambda: _check(config)) is case.starts
    assert _accepts(lambda: prepare(config, tmp_path / "run")) is case.starts


def _check(config: Any) -> None:
    report = check_dataset(config.data, TokenizerConfig(), progress=False, training=config)
    if report.errors:
        raise CaptionerError(report.format())


def _accepts(job: Callable[[], object]) -> bool:
    try:
        job()
    except CaptionerError:
        return False
    return True
