"""Images are found by their names, or the file that may be meant is named."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from captioner.config import FolderConfig
from captioner.data.datasets.image_files import Found, ImageFinder, missing_files, nearest_files
from captioner.data.datasets.registry import load_dataset
from captioner.errors import DataError
from tests.data.tiny import write_coco, write_images, write_text

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def test_names_without_suffix_and_in_another_unicode_form(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.jpg", "b.png", f"{NFD}.jpg", "pets/c.webp", "d.1.jpg"])
    write_text(tmp_path / "e.txt", "no image")
    finder = ImageFinder()
    found = {
        name: finder.find(tmp_path, name) for name in ("a.png", "a", "b", f"{NFC}.jpg", NFC, "pets/c", "d.1", "e", "f")
    }
    assert found == {
        "a.png": Found("a.png"),
        "a": Found("a.png", "suffix"),
        "b": None,  # two images fit
        f"{NFC}.jpg": Found(f"{NFD}.jpg", "Unicode"),
        NFC: Found(f"{NFD}.jpg", "suffix"),
        "pets/c": Found("pets/c.webp", "suffix"),
        "d.1": Found("d.1.jpg", "suffix"),
        "e": None,
        "f": None,
    }


def test_ids_and_notices_of_bridged_names(tmp_path: Path) -> None:
    write_images(tmp_path / "images", ["a2.png", f"{NFD}.jpg", "CXR1_1.2.png"])
    write_text(tmp_path / "captions.csv", f"image,caption,split\na2,x,train\n{NFC}.jpg,y,train\nCXR1_1.2,z,train\n")
    dataset = load_dataset(FolderConfig(root=str(tmp_path)), "train")
    assert {image.image_id: image.path.name for image in dataset} == {
        "a2": "a2.png",
        NFC: f"{NFD}.jpg",
        "CXR1_1.2": "CXR1_1.2.png",
    }
    suffix, unicode = dataset.notices
    assert "names 2 images without a suffix" in suffix
    assert "a2: images/a2.png" in suffix
    assert "names 1 image in another Unicode form than on disk" in unicode


def test_missing_images_name_the_file_that_may_be_meant(tmp_path: Path) -> None:
    names = [
        "images/A1.JPG",
        "images/b.png",
        "Flickr30k_Images/c.jpg",
        "images/d.jpg",
        "deep/er/e.jpg",
        "deep/er/E.png",
    ]
    write_images(tmp_path, names)
    rows = [("a1.jpg", ""), ("b.jpg", ""), ("c.jpg", ""), ("d.jpg", ""), ("f.jpg", "")]
    write_text(tmp_path / "captions.csv", "image,caption,split\n" + "".join(f"{name},x,train\n" for name, _ in rows))
    with pytest.raises(DataError) as caught:
        load_dataset(FolderConfig(root=str(tmp_path)), "train")
    message = str(caught.value)
    assert "4 of the 5 images of folder train are not on disk" in message
    for missing, nearest in {
        "a1.jpg": "images/A1.JPG",
        "b.jpg": "images/b.png",
        "c.jpg": "Flickr30k_Images/c.jpg",
    }.items():
        assert f"{tmp_path / 'images' / missing}: {nearest} is there" in message
    nearest = nearest_files([tmp_path / "images/e.jpg"], tmp_path)
    assert nearest == {tmp_path / "images/e.jpg": [tmp_path / "deep/er/e.jpg", tmp_path / "deep/er/E.png"]}
    assert missing_files([tmp_path / "f.jpg"], tmp_path) == [str(tmp_path / "f.jpg")]


def test_all_images_missing_is_no_empty_split(tmp_path: Path) -> None:
    write_text(tmp_path / "captions.csv", "image,caption,split\na.jpg,x,train\n")
    with pytest.raises(DataError, match=r"is empty: 1 of the 1 images of folder train are not on disk"):
        load_dataset(FolderConfig(root=str(tmp_path), on_bad_image="skip"), "train")


def test_other_data_sets_have_the_diagnosis_too(tmp_path: Path) -> None:
    from captioner.config import CocoConfig

    write_coco(tmp_path)
    (tmp_path / "train2017").rename(tmp_path / "train")
    with pytest.raises(DataError, match=r"train2017/000000000001.jpg: train/000000000001.jpg is there"):
        load_dataset(CocoConfig(root=str(tmp_path)), "train")


def test_links_in_a_circle(tmp_path: Path) -> None:
    write_images(tmp_path, ["deep/a.PNG"])
    (tmp_path / "deep/self").symlink_to(tmp_path)
    assert nearest_files([tmp_path / "a.jpg"], tmp_path) == {tmp_path / "a.jpg": [tmp_path / "deep/a.PNG"]}
