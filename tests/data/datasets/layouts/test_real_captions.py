"""The captions of real data sets, written in every layout that can hold them and read again: all the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from captioner.config import CocoConfig, DataConfig, Flickr8kConfig
from captioner.data.datasets.registry import available_splits, read_split
from tests.data.datasets.layouts import written
from tests.data.datasets.layouts.written import HASHED, WRITERS, Captions

LINES = {"flickr30k_csv", "flickr30k_tokens", "flickr8k_chinese", "roco", "text_beside_image"}
"""The layouts of one caption a line, in which the spaces around a caption are not part of it."""
NUMBERED = {"coco", "vizwiz", "nocaps", "stair", "localized_narratives"}
"""The layouts in which an image has a number."""


def _touch(folder: Path, names: Sequence[str]) -> None:
    """Files in the place of images, which this test does not decode."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


SOURCES: dict[str, tuple[type[DataConfig], dict[str, int]]] = {
    "flickr8k": (Flickr8kConfig, {"train": 100, "val": 300}),
    "coco_mini": (CocoConfig, {"train": 129, "val": 30}),
}
"""The folder → its settings, and how many images of each split are used."""


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", WRITERS)
def test_real_captions_come_back(
    name: str, source: str, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "flickr8k" and name in NUMBERED:
        pytest.skip("this layout names images by numbers")
    if name.startswith("parquet"):
        pytest.importorskip("pyarrow")
    settings, sizes = SOURCES[source]
    captions: Captions = {
        split: {
            image.path.name: list(image.captions)
            for image in read_split(settings(root=str(real_data / source)), split).images[:size]
        }
        for split, size in sizes.items()
    }
    monkeypatch.setattr(written, "write_images", _touch)
    config = written.write(name, tmp_path / "data", captions)
    found: dict[str, dict[str, list[str]]] = {}
    for split in available_splits(config):
        dataset = read_split(config, split)
        found[split] = {image.path.name: list(image.captions) for image in dataset}
    if name in HASHED:
        found = {"all": {key: value for images in found.values() for key, value in images.items()}}
        captions = {"all": {key: value for images in captions.values() for key, value in images.items()}}
    if name in LINES:
        captions = {
            split: {key: [text.strip() for text in own] for key, own in images.items()}
            for split, images in captions.items()
        }
    assert {split: dict(sorted(images.items())) for split, images in found.items()} == {
        split: dict(sorted(images.items())) for split, images in captions.items()
    }
