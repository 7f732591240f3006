"""Files for test servers: their names, what is wrong with one, and the zip."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from captioner.errors import ConfigError, DataError
from captioner.evaluation.submission import (
    FILE_NAME,
    SYSTEM_NAME,
    check_submission,
    image_ids_of,
    pack_submission,
    submission_file_name,
    system_name,
)

GOOD = [{"image_id": image_id, "caption": f"a dog {image_id}"} for image_id in (1, 2, 30)]


def test_names() -> None:
    assert submission_file_name("coco2014", "test", "soft-3") == "captions_test2014_soft-3_results.json"
    assert submission_file_name("coco-karpathy", "val", "a") == "captions_val_a_results.json"
    assert FILE_NAME.fullmatch("captions_test-dev2015_x_results.json")
    for wrong in ("", "a b", "a/b", "-a", "é"):
        with pytest.raises(ConfigError, match="of letters, digits, dots and hyphens"):
            submission_file_name("coco2014", "test", wrong)
    for run in ("2026-01-02_03-04-05_attention", "my run!", "..", "é"):
        assert SYSTEM_NAME.fullmatch(system_name(run))
    assert system_name("2026-01-02_03-04-05_attention") == "2026-01-02-03-04-05-attention"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (GOOD, None),
        (GOOD[:2], "1 of 3 images have no caption: 30."),
        ([*GOOD, {"image_id": 4, "caption": "a"}], "1 image ids are not of this split: 4."),
        ([*GOOD, GOOD[0]], "1 image ids have more than one caption: 1."),
        ([*GOOD[:2], {"image_id": 30, "caption": " "}], "1 captions are empty, those of the images 30."),
        ([*GOOD[:2], {"image_id": "30", "caption": "a"}], "1 of 3 entries are not .* the first is entry 2"),
        ([*GOOD[:2], {"image_id": 30.0, "caption": "a"}], "the first is entry 2"),
        ([*GOOD[:2], {"image_id": True, "caption": "a"}], "the first is entry 2"),
        ([*GOOD[:2], {"image_id": 30, "caption": None}], "the first is entry 2"),
        ([*GOOD[:2], {"image_id": 30, "caption": "\ud800"}], "the first is entry 2"),
        ([1, 2, 3], "3 of 3 entries are not"),
        ({"1": "a"}, "It is not a list"),
        ([], "It has no captions"),
        ("\ufeff" + json.dumps(GOOD), "byte order mark"),
    ],
)
def test_what_a_server_would_not_accept(tmp_path: Path, content: object, problem: str | None) -> None:
    path = tmp_path / "captions_test2014_x_results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    found = check_submission(path, [1, 2, 30])
    if problem is None:
        assert found == check_submission(path) == []
    else:
        assert any(re.search(problem, line) for line in found), found


def test_ids_are_those_of_the_list_of_images(tmp_path: Path) -> None:
    path = tmp_path / "image_info_test2014.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "1.jpg"}, {"id": 7}], "categories": []}))
    assert image_ids_of(path) == [1, 7]
    path.write_text("[]")
    with pytest.raises(DataError, match="not an object with 'images'"):
        image_ids_of(path)


def test_the_zip_has_the_files_at_its_top(tmp_path: Path) -> None:
    files = [tmp_path / f"captions_{split}2014_x_results.json" for split in ("val", "test")]
    for file in files:
        file.write_text(json.dumps(GOOD))
    pack_submission(files, tmp_path / "a.zip")
    pack_submission(files, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [file.name for file in files]
        assert all(archive.read(file.name) == file.read_bytes() for file in files)
