"""Captions files of COCO: their order, and that the compact reading equals pycocotools'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data.datasets.coco_captions import captioned_images, read_captions
from captioner.errors import DataError
from tests.data.tiny import write_json


def test_captions_keep_the_files_order(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 9, "file_name": "9.jpg"}, {"id": 3, "file_name": "3.jpg"}, {"id": 5, "file_name": "5.jpg"}],
        "annotations": [
            {"id": 70, "image_id": 3, "caption": "z"},
            {"id": 10, "image_id": 9, "caption": " a\n"},
            {"id": 20, "image_id": 3, "caption": "ä"},
        ],
    }
    entries = read_captions(write_json(tmp_path / "c.json", content))
    assert [(entry.image_id, entry.captions) for entry in entries] == [(9, (" a\n",)), (3, ("z", "ä")), (5, ())]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_compact_reading_equals_that_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """`read_captions` drops fields while it parses; `captioned_images` sees the whole file, by pycocotools."""
    ids = data.draw(st.lists(st.integers(1, 9) | st.sampled_from(["1", "a"]), unique=True, max_size=5))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    images: list[dict[str, Any]] = [{"id": image_id, "file_name": f"{image_id}.jpg", "url": "x"} for image_id in ids]
    if images and data.draw(st.booleans()):
        images[0]["split"] = "val"
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(ids), text), max_size=8)) if ids else []
    annotations = [{"id": 5, "image_id": image_id, "caption": caption} for image_id, caption in pairs]
    content = {"info": {"caption": "x", "image_id": 1}, "images": images, "annotations": annotations}
    path = write_json(tmp_path_factory.getbasetemp() / "compact.json", content)
    assert read_captions(path) == captioned_images(content, path)


ENTRY = {"image_id": 3, "caption": "x"}


@pytest.mark.parametrize(
    ("images", "annotations", "error"),
    [
        ([{"id": 3, "file_name": "3.jpg", "own": ENTRY}], [ENTRY], None),  # a caption inside of an image
        ([{"id": 3, "file_name": "3.jpg"}], [{**ENTRY, "own": {"id": 4, "file_name": "4.jpg"}}], None),
        ([{"id": 3, "file_name": "3.jpg"}, ENTRY], [], "images\\[1\\] has no 'id'"),
        ([], [{"id": 3, "file_name": "3.jpg"}], "annotations\\[0\\] has no 'image_id'"),
        ([{"id": 3, "file_name": "3.jpg"}] * 2, [ENTRY], "repeats the id 3"),
        ([{"id": 4, "file_name": "3.jpg"}], [ENTRY], "not among its images"),
        ([{"id": 3, "file_name": "3.jpg"}], [ENTRY, 5], "annotations\\[1\\]"),
    ],
)
def test_images_and_captions_in_the_wrong_place(
    tmp_path: Path, images: list[Any], annotations: list[Any], error: str | None
) -> None:
    """Objects are recognized by their fields while the file is parsed, wherever they are."""
    content = {"images": images, "annotations": annotations}
    path = write_json(tmp_path / "c.json", content)
    if error is None:
        assert read_captions(path) == captioned_images(content, path)
    else:
        with pytest.raises(DataError, match=error):
            read_captions(path)
