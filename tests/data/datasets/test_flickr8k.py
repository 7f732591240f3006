"""Flickr8k in both common layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import Flickr8kConfig
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.errors import CaptionerError, DataError
from tests.data.tiny import FLICKR8K, flickr8k_tokens, write_flickr8k, write_images, write_text


@pytest.mark.parametrize(
    ("text_folder", "image_folder"),
    [("", "Images"), ("Flickr8k_text", "Flicker8k_Dataset"), ("", "Flickr8k_Dataset/Flicker8k_Dataset")],
)
def test_official_layout(tmp_path: Path, text_folder: str, image_folder: str) -> None:
    write_flickr8k(tmp_path, text_folder, image_folder)
    config = Flickr8kConfig(root=str(tmp_path))
    assert available_splits(config) == ["train", "val", "test"]
    train = load_dataset(config, "train")
    assert [image.path for image in train] == [tmp_path / image_folder / name for name in FLICKR8K[:3]]
    assert train.images[1].image_id == "1_ab01"
    assert train.images[1].captions == (f"A dog 0 , said of {FLICKR8K[1]} .", f"A dog 1 , said of {FLICKR8K[1]} .")
    assert train.notices == ()
    assert load_dataset(config, "dev") == load_dataset(config, "val") == load_dataset(config, "validation")


def test_captions_table_with_lists(tmp_path: Path) -> None:
    write_flickr8k(tmp_path)
    (tmp_path / "Flickr8k.token.txt").unlink()
    write_text(tmp_path / "captions.txt", "image,caption\n" + "".join(f'{n},"One , two"\n' for n in FLICKR8K[:6]))
    val = load_dataset(Flickr8kConfig(root=str(tmp_path)), "val")
    assert val.references == {"3_ab03": ["One , two"], "4_ab04": ["One , two"]}
    assert val.notices == ()


@pytest.mark.parametrize("layout", ["captions.txt", "Flickr8k.token.txt"])
def test_no_lists_fixed_split(tmp_path: Path, layout: str) -> None:
    write_images(tmp_path / "Images", FLICKR8K)
    table = "image,caption\n" + "".join(f"{name},a\n{name},b\n" for name in FLICKR8K)
    write_text(tmp_path / layout, table if layout == "captions.txt" else flickr8k_tokens(FLICKR8K))
    config = Flickr8kConfig(root=str(tmp_path))
    splits = {split: load_dataset(config, split) for split in ("train", "val", "test")}
    ids = {split: {image.image_id for image in dataset} for split, dataset in splits.items()}
    assert sorted(id for members in ids.values() for id in members) == sorted(Path(name).stem for name in FLICKR8K)
    assert len(ids["train"]) > len(ids["val"]) > 0
    assert all("split by a hash" in dataset.notices[0] for dataset in splits.values())
    assert load_dataset(config, "val") == splits["val"]  # always the same


def test_the_split_by_hash_never_changes(tmp_path: Path) -> None:
    write_images(tmp_path / "Images", FLICKR8K)
    write_text(tmp_path / "captions.txt", "image,caption\n" + "".join(f"{name},a\n" for name in FLICKR8K))
    val = load_dataset(Flickr8kConfig(root=str(tmp_path)), "val")
    # whose SHA-256 begins with the digit 0 or 1, that is, below 1/8 (computed with `sha256sum`)
    assert [image.image_id for image in val] == ["9_ab09", "16_ab16"]


def test_only_some_lists(tmp_path: Path) -> None:
    write_flickr8k(tmp_path)
    (tmp_path / "Flickr_8k.testImages.txt").unlink()
    with pytest.raises(DataError, match="Available: train, val"):
        load_dataset(Flickr8kConfig(root=str(tmp_path)), "test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Flickr8k.token.txt", "a.jpg#0 no tab\n", "line 1: expected NAME.jpg#0, a tab"),
        ("Flickr8k.token.txt", "\na.jpg#0\tfine\na.jpg\tno number\n", "line 3"),
        ("Flickr8k.token.txt", "a.jpg#x\tno number\n", "line 1"),
        ("Flickr8k.token.txt", "#0\tno name\n", "line 1"),
        ("Flickr8k.token.txt", "", "has no captions for 3 of the 3 images"),
        ("Flickr_8k.trainImages.txt", "0_ab00.jpg\nnone.jpg\n", r"no captions for 1 of the 2 .*none\.jpg"),
        ("Flickr_8k.trainImages.txt", "", "is empty"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    write_flickr8k(tmp_path)
    write_text(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        load_dataset(Flickr8kConfig(root=str(tmp_path)), "train")


def test_no_captions_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected Flickr8k\.token\.txt or captions\.txt"):
        load_dataset(Flickr8kConfig(root=str(tmp_path)), "train")


FILES = ("Flickr8k.token.txt", "captions.txt", "Flickr_8k.trainImages.txt")


@given(content=st.text('ab.jpg#01\t\r\n ,"/\\', max_size=60) | st.text(max_size=30), name=st.sampled_from(FILES))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_data_error(tmp_path_factory: pytest.TempPathFactory, content: str, name: str) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    if name == FILES[2]:
        write_text(root / FILES[0], "a.jpg#0\ta dog\n")
    (root / name).write_bytes(content.encode("utf-8", "replace"))
    with pytest.raises(CaptionerError) as caught:  # in any case because no image exists
        load_dataset(Flickr8kConfig(root=str(root)), "train")
    assert str(root) in str(caught.value)


def test_real_files(real_data: Path) -> None:
    config = Flickr8kConfig(root=str(real_data / "flickr8k"))
    assert available_splits(config) == ["train", "val"]
    for split, count in {"train": 6_000, "val": 1_000}.items():
        dataset = load_dataset(config, split)
        assert (len(dataset), dataset.notices) == (count, ())
        assert {len(image.captions) for image in dataset} == {5}
    assert dataset.images[0].image_id == "2090545563_a4e66ec76b"
    assert dataset.images[0].captions[3] == "Two small children in red shirts playing on a skateboard ."
