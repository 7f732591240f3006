"""Karpathy's counts: no notice for a complete file, a notice for an incomplete one, an error for other splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.data.datasets.karpathy import COUNTS, check_counts, read_list, read_split
from captioner.errors import DataError
from tests.data.tiny import write_json

PATH = Path("dataset_coco.json")


def _write(path: Path, counts: dict[str, int]) -> Path:
    images = [{"filename": "a.jpg", "cocoid": 1, "split": part, "sentences": []} for part in counts]
    return write_json(path, {"images": [image for image in images for _ in range(counts[image["split"]])]})


def test_published_counts_give_no_notice() -> None:
    assert COUNTS["coco"] == {"train": 113_287, "val": 5_000, "test": 5_000}
    for dataset, counts in COUNTS.items():
        for split in counts:
            assert check_counts(dict(counts), split, dataset, PATH) == []


def test_complete_but_divided_differently() -> None:
    with pytest.raises(DataError, match="train 113,286, val 5,001, test 5,000"):
        check_counts({"train": 113_286, "val": 5_001, "test": 5_000}, "test", "coco", PATH)


def test_a_part_of_it() -> None:
    assert check_counts({"train": 10, "test": 5_000}, "test", "coco", PATH) == []  # this split is complete
    assert "are not comparable" in check_counts({"train": 10, "test": 5_000}, "train", "coco", PATH)[0]


def test_complete_json(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.json", {"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000})
    chosen, notices = read_split(path, "train", "coco")
    assert (len(chosen), notices) == (113_287, [])


def test_real_lists(real_data: Path) -> None:
    folder = real_data / "coco_text/karpathy"
    every = {split: read_list(folder, split) for split in ("train", "val", "test")}
    assert {split: len(ids) for split, (ids, _) in every.items()} == COUNTS["coco"]
    assert all(notices == [] for _, notices in every.values())
    assert len({image_id for ids, _ in every.values() for image_id in ids}) == 123_287
