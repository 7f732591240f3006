"""Every layout of features gives what was written into it, and a wrong file is one message."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import FolderConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.features.precomputed import check
from captioner.data.features.precomputed.check import check_features
from captioner.data.features.precomputed.match import match_features
from captioner.data.features.precomputed.source import PrecomputedFeatures, checked_features, relative_boxes
from captioner.data.features.precomputed.stores import open_store
from captioner.errors import DataError
from tests.data.features.precomputed.layouts import LAYOUTS, PACKAGES, Arrays, npz, write_npz, write_tsv

KEYS = ("391895", "17", "5")
D = 6


@pytest.fixture
def arrays() -> Arrays:
    generator = np.random.default_rng(0)
    found = {}
    for count, key in enumerate(KEYS, start=2):
        corners = generator.uniform(0, 16, (count, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(1, 16, (count, 2))], axis=1)
        found[key] = (generator.standard_normal((count, D)).astype(np.float32), boxes.astype(np.float32))
    return found


def dataset(*images: tuple[int | str, str]) -> CaptionDataset:
    named = images or tuple((int(key), f"COCO_val2014_{int(key):012}.jpg") for key in KEYS)
    return CaptionDataset("x", "val", tuple(CaptionedImage(i, Path("/nowhere", name), ("a",)) for i, name in named))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, arrays: Arrays, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES.get(layout, "numpy"))
    path = LAYOUTS[layout](tmp_path / "x", arrays)
    store = open_store(str(path))
    assert set(store.keys()) == set(KEYS)
    other = pickle.loads(pickle.dumps(store))  # as a worker process gets it
    for key, (features, boxes) in arrays.items():
        for found in (store.read(key), other.read(key)):
            np.testing.assert_array_equal(found.features, features)
            np.testing.assert_array_equal(found.boxes, boxes)
    for workers in (0, 2):
        data = FolderConfig(features=str(path), num_workers=workers)
        source = PrecomputedFeatures(dataset(), data, torch.device("cpu"), with_grid=True)
        for _ in range(2):  # epochs
            ((indices, batch),) = source.batches([[2, 0]])
            assert indices == [2, 0]
            assert batch.grid is not None
            assert batch.mask is not None
            assert batch.mask.tolist() == [[True] * 4, [True, True, False, False]]
            np.testing.assert_array_equal(batch.grid[1, :2], arrays[KEYS[0]][0])
    summary = check_features(dataset(), store, match_features(dataset(), store))
    assert str(summary) == f"3 images, 2 to 4 regions × {D} values, with boxes"


def test_all_images_in_one_array(arrays: Arrays, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    features = np.stack([features[:2] for features, _ in arrays.values()])
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["image_features"] = features
    with pytest.raises(DataError, match="but not whose they are: add an array image_ids"):
        open_store(str(tmp_path / "all.h5"))
    with h5py.File(tmp_path / "all.h5", "r+") as file:
        file["image_ids"] = [int(key) for key in KEYS]
    store = open_store(str(tmp_path / "all.h5"))
    np.testing.assert_array_equal(store.read("17").features, features[1])


def test_grids_and_vectors(tmp_path: Path) -> None:
    """cocotalk_att has (14, 14, 2048) and cocotalk_fc (2048,) per image."""
    np.savez(tmp_path / "1.npz", feat=np.arange(24, dtype=np.float16).reshape(2, 3, 4))
    np.save(tmp_path / "2.npy", np.ones(4))
    store = open_store(str(tmp_path))
    grid = store.read("1")
    assert grid.grid == (2, 3)
    assert grid.features.dtype == np.float32
    assert grid.features[4].tolist() == [16, 17, 18, 19]
    assert store.read("2").features.shape == (1, 4)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"feat": np.full((2, D), np.nan)}, r"holds NaN \(12 of 12 numbers\)"),
        ({"feat": np.array([[np.inf] * D])}, "holds infinite numbers"),
        ({"feat": np.ones((2, D), int)}, "numbers of the type int64"),
        ({"feat": np.ones((2, 2, 2, D))}, r"an array of the shape \(2, 2, 2, 6\)"),
        ({"feat": np.ones((0, D))}, r"an array of the shape \(0, 6\)"),
        ({"feat": np.ones((4, D + 1))}, "has 7 values per region, but others have 6"),
        ({"feat": np.ones((2, D)), "bbox": np.ones((3, 4))}, r"boxes of the shape \(3, 4\): expected \(2, 4\)"),
        ({"feat": np.ones((1, D)), "bbox": np.array([[5, 5, 1, 1]])}, "not left, top, right, bottom"),
        ({"one": np.ones(3), "two": np.ones(3)}, "holds one, two: expected an array named features, feat, x"),
        ({"feat": np.array([{"a": 1}], object)}, "holds Python objects, which would execute code"),
    ],
)
def test_wrong_arrays_are_found_before_training(
    content: dict[str, Any], sentence: str, arrays: Arrays, tmp_path: Path
) -> None:
    folder = write_npz(tmp_path, arrays)
    (folder / "5.npz").write_bytes(npz(content))
    store = open_store(str(folder))
    with pytest.raises(DataError, match=f"The features of 1 of 3 images of val cannot be used.*{sentence}"):
        check_features(dataset(), store, match_features(dataset(), store))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x80\x04K\x01.", "is pickled, which would execute code"),
        (b"PK\x03\x04", "cannot be read: .* Is it complete"),
        (b"text", "neither an .npz nor an .npy file"),
        (b"\x93NUMPY\x01\x00", "cannot be read"),
        (b"", "neither an .npz nor an .npy file"),
    ],
)
def test_wrong_files(content: bytes, sentence: str, arrays: Arrays, tmp_path: Path) -> None:
    folder = write_npz(tmp_path, arrays)
    (folder / "5.npz").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        open_store(str(folder)).read("5")


def test_faults_are_counted_and_a_check_is_done_once(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_npz(tmp_path, arrays)
    store = open_store(str(folder))
    match = match_features(dataset(), store)
    check_features(dataset(), store, match)
    monkeypatch.setattr(check, "_read_all", lambda *arguments: pytest.fail("read again"))
    assert check_features(dataset(), store, match).images == 3
    monkeypatch.undo()
    for key in KEYS[:2]:
        (folder / f"{key}.npz").write_bytes(b"broken")
    with pytest.raises(DataError, match="The features of 2 of 3 images of val cannot be used"):
        check_features(dataset(), open_store(str(folder)), match)


@pytest.mark.parametrize(
    ("images", "habit"),
    [
        ([(391895, "a.jpg"), (17, "b.jpg"), (5, "c.jpg")], "the image's id"),
        ([("x/391895", "391895.jpg"), ("x/17", "17.jpg"), ("x/5", "5.jpg")], "file's name without its suffix"),
        ([("a", "COCO_val2014_000000391895.jpg"), ("b", "im_17.png"), ("c", "5.png")], "the number at the end"),
    ],
)
def test_how_images_are_named(images: list[Any], habit: str, arrays: Arrays, tmp_path: Path) -> None:
    match = match_features(dataset(*images), open_store(str(write_npz(tmp_path, arrays))))
    assert habit in match.habit
    assert list(match.keys.values()) == list(KEYS)


def test_missing_features_are_an_error_or_left_out(arrays: Arrays, tmp_path: Path) -> None:
    folder = write_npz(tmp_path, arrays)
    images = dataset((391895, "a.jpg"), (17, "b.jpg"), (6, "new.jpg"))
    with pytest.raises(DataError, match=r"lacks the features of 1 of the 3 images of x val \(6 \(new\.jpg\)\)"):
        checked_features(images, FolderConfig(features=str(folder)))
    _, match, summary = checked_features(images, FolderConfig(features=str(folder), on_bad_image="skip"))
    assert (match.missing, summary.images) == ([2], 2)
    with pytest.raises(DataError, match=r"has no features of the images of val. It has 3 names, such as 17, 391895, 5"):
        match_features(dataset(("a", "b.jpg")), open_store(str(folder)))


def test_one_name_for_two_images_is_no_match(arrays: Arrays, tmp_path: Path) -> None:
    """The number at the end of train_5 and val_5 is the same, but the images are not."""
    store = open_store(str(write_npz(tmp_path, arrays)))
    with pytest.raises(DataError, match="has no features of the images"):
        match_features(dataset(("a", "train_5.jpg"), ("b", "val_5.jpg")), store)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none", r"none does not exist\. Expected a folder of \.npz"),
        ("a.txt", r"is a \.txt: expected a folder"),
        ("emty", r"does not exist\. Did you mean empty\?"),
        ("empty", "no .npz or .npy file"),
    ],
)
def test_a_wrong_place_is_one_message(name: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=sentence):
        open_store(str(tmp_path / name))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1\t2\t3", "line 1 has 3 columns. Expected image_id"),
        ("1\t64\t32\tx\tAAAA\tAAAA", "cannot be read"),
        ("1\t64\t32\t2\tAAAA\tAAAA", "cannot be read"),
    ],
)
def test_a_broken_table(line: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text(line + "\n")
    with pytest.raises(DataError, match=sentence):
        open_store(str(tmp_path / "x.tsv")).read("1")


def test_a_changed_table_is_indexed_again(arrays: Arrays, tmp_path: Path) -> None:
    path = write_tsv(tmp_path, arrays)
    assert set(open_store(str(path)).keys()) == set(KEYS)
    write_tsv(tmp_path, {"1": arrays["17"]})
    assert set(open_store(str(path)).keys()) == {"1"}


def test_boxes_become_fractions_of_the_image(arrays: Arrays, tmp_path: Path) -> None:
    """The table knows the size of the image (64 × 32); other files need the image."""
    image = dataset().images[0]
    found = relative_boxes(open_store(str(write_tsv(tmp_path / "t", arrays))).read("391895"), image)
    np.testing.assert_allclose(found, arrays["391895"][1] / [64, 32, 64, 32], rtol=1e-6)
    regions = open_store(str(write_npz(tmp_path, arrays))).read("391895")
    assert relative_boxes(regions, image) is None


@pytest.mark.parametrize(("package", "name"), [("h5py", "x.h5"), ("lmdb", "x.lmdb")])
def test_a_missing_package_is_named(package: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(DataError, match=r"pip install 'captioner\[features\]'"):
        open_store(str(tmp_path / name))


@pytest.mark.parametrize(("package", "name", "what"), [("h5py", "x.h5", "HDF5 file"), ("lmdb", "x.lmdb", "LMDB")])
def test_files_of_another_kind(package: str, name: str, what: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    (tmp_path / name).write_bytes(b"something else" * 1000)
    with pytest.raises(DataError, match=f"is not an {what} that can be read"):
        open_store(str(tmp_path / name))
