"""data=shards equals data=folder: images, captions, features and training; and the patterns of archives."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import CacheConfig, DataConfig, FolderConfig, ShardsConfig, TokenizerConfig
from captioner.data.batches import epoch_batches
from captioner.data.check.check_dataset import check_dataset
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.data.datasets.splits import split_by_hash
from captioner.data.datasets.tar_shards import reader as source
from captioner.data.datasets.tar_shards.pack import pack_shards
from captioner.data.datasets.tar_shards.patterns import expand_braces, shard_files
from captioner.data.datasets.tar_shards.reader import ShardImages
from captioner.data.datasets.tar_shards.tar_image import ImageInTar
from captioner.data.features.sources import open_features
from captioner.data.images.decode import load_image
from captioner.errors import ConfigError, DataError, ImageError
from captioner.nn.encoders.build_encoder import build_encoder
from tests.data.datasets.tar_shards.tars import write_tar
from tests.data.tiny import jpeg
from tests.tiny import ENCODER, write_tiny_data

SPLITS = ("train", "val", "test")


@pytest.fixture
def folder(tmp_path: Path) -> FolderConfig:
    return write_tiny_data(tmp_path / "data")


@pytest.fixture
def shards(folder: FolderConfig, tmp_path: Path) -> ShardsConfig:
    """The same data, with five images per archive."""
    for split in SPLITS:
        pack_shards(load_dataset(folder, split), tmp_path / "shards", 5)
    return ShardsConfig(root=str(tmp_path / "shards"), num_workers=0)


def one_pair(name: str, caption: str = "a cat") -> list[tuple[str, bytes]]:
    return [(f"{name}.jpg", jpeg()), (f"{name}.txt", caption.encode())]


def ids(dataset: CaptionDataset) -> list[int | str]:
    return [image.image_id for image in dataset]


@pytest.mark.parametrize("split", SPLITS)
def test_the_data_equals_that_of_the_folder(folder: FolderConfig, shards: ShardsConfig, split: str) -> None:
    ours, theirs = load_dataset(shards, split), load_dataset(folder, split)
    assert available_splits(shards) == list(SPLITS)
    assert ours.references == theirs.references
    assert ours.all_captions == theirs.all_captions
    for one, other in zip(ours, theirs, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert load_image(one.path).tobytes() == load_image(other.path).tobytes()


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_features_are_the_same_bit_for_bit(
    folder: FolderConfig, shards: ShardsConfig, cached: bool, workers: int
) -> None:
    encoder = build_encoder(ENCODER).eval()

    def features(config: DataConfig, name: str) -> list[Any]:
        data = replace(config, num_workers=workers)
        found = open_features(
            load_dataset(data, "train"),
            encoder,
            with_grid=True,
            data=data,
            cache=CacheConfig(cached, str(Path(os.environ["CAPTIONER_CACHE"], name))),
            device=torch.device("cpu"),
        )
        return list(found.batches([[15, 0, 4, 5], [9], [10, 14]]))

    with torch.inference_mode():
        pairs = list(zip(features(shards, "shards"), features(folder, "folder"), strict=True))
    for (ours, our_features), (theirs, their_features) in pairs:
        assert ours == theirs
        assert torch.equal(our_features.vector, their_features.vector)
        assert torch.equal(our_features.grid, their_features.grid)


def test_data_check_gives_the_same_report(folder: FolderConfig, shards: ShardsConfig) -> None:
    ours, theirs = (check_dataset(config, TokenizerConfig(), progress=False) for config in (shards, folder))
    assert (ours.sizes, ours.lengths, ours.vocabulary) == (theirs.sizes, theirs.lengths, theirs.vocabulary)
    assert ours.images == theirs.images == 32
    # except for the names of images, which are paths or members
    assert [problem.severity for problem in ours.problems] == [problem.severity for problem in theirs.problems]
    assert not ours.errors


def test_slices_limits_and_copies_equal_those_of_a_tuple(shards: ShardsConfig) -> None:
    images = load_dataset(shards, "train").images
    assert isinstance(images, ShardImages)
    every = tuple(images)
    assert len(images) == len(every) == 16
    assert [images[place] for place in range(-16, 16)] == [*every, *every]
    for part in (slice(3, 12), slice(None, 5), slice(12, None), slice(0, 0), slice(2, 9, 3), slice(None, None, -1)):
        assert tuple(images[part]) == every[part]
        assert [images[part][place] for place in range(len(every[part]))] == list(every[part])
    assert tuple(images[2:14][3:9]) == every[5:11]
    assert tuple(pickle.loads(pickle.dumps(images))) == every  # as to a worker process that is not forked
    with pytest.raises(IndexError):
        images[16]
    assert ids(load_dataset(replace(shards, limit=7), "train")) == [image.image_id for image in every[:7]]
    paths = load_dataset(shards, "train").paths
    assert [paths[4], *paths[5:7]] == [image.path for image in every[4:7]] == list(paths)[4:7]


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_ranks_and_workers_read_every_pair_once_per_epoch(ranks: int, batch_size: int, epoch: int, seed: int) -> None:
    """Batches are divided among ranks as in training, and among workers as in a DataLoader."""
    count = 53
    batches = epoch_batches(range(count), batch_size, seed, epoch)
    parts = [[batch[rank::ranks] for batch in batches] for rank in range(ranks)]
    by_worker = [[own[worker::3] for worker in range(3)] for own in parts]
    seen = Counter(index for own in by_worker for part in own for batch in part for index in batch)
    assert seen == Counter(range(count))


def test_workers_read_every_pair_once(shards: ShardsConfig) -> None:
    from captioner.data.images.loader import load_image_batches

    dataset = load_dataset(shards, "train")
    batches = epoch_batches(range(len(dataset)), 3, seed=1, epoch=2)
    loaded = list(
        load_image_batches(dataset.paths, batches, build_encoder(ENCODER).transform, replace(shards, num_workers=2))
    )
    assert [part.indices for part in loaded] == list(map(list, batches))
    assert sorted(index for part in loaded for index in part.indices) == list(range(16))


def test_a_shard_is_indexed_once(shards: ShardsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(source, "build_index", lambda path, build=source.build_index: (calls.append(path), build(path)))
    for _ in range(2):
        load_dataset(shards, "train")
    assert [path.name for path in calls] == [f"train-0000{number}.tar" for number in range(4)]


def test_indexing_in_several_processes_gives_the_same_index(shards: ShardsConfig, tmp_path: Path) -> None:
    several = load_dataset(replace(shards, num_workers=3), "train").references
    assert several == load_dataset(shards, "train").references


def test_a_changed_archive_is_detected(shards: ShardsConfig) -> None:
    """With the same size and modification time, but another header of the image."""
    image = load_dataset(shards, "val").images[1]
    assert isinstance(image.path, ImageInTar)
    content = bytearray(image.path.archive.read_bytes())
    content[image.path.offset - 512] ^= 1
    image.path.archive.write_bytes(content)
    with pytest.raises(ImageError, match=r"val-00000\.tar:017\.png cannot be read: the archive has changed"):
        load_image(image.path)
    image.path.archive.write_bytes(content[:2000])
    with pytest.raises(ImageError, match="the archive has changed"):
        load_image(image.path)
    image.path.archive.unlink()
    with pytest.raises(ImageError, match="No such file"):
        load_image(image.path)


def test_bad_images_are_named(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "train.tar",
        [*one_pair("good"), ("bad.jpg", b"no image"), ("bad.txt", b"?"), ("empty.jpg", b""), ("empty.txt", b"?")],
    )
    config = ShardsConfig(root=str(tmp_path), num_workers=0)
    report = check_dataset(config, TokenizerConfig(), progress=False)
    assert [problem.text for problem in report.errors] == [
        f"1 image empty (0 bytes) ({tmp_path}/train.tar:empty.jpg).",
        f"1 image that cannot be decoded ({tmp_path}/train.tar:bad.jpg is not an image in a supported format "
        "(JPEG, PNG, WEBP, GIF, BMP, DIB, TIFF, PPM, JPEG2000, AVIF)).",
    ] or "AVIF" not in report.errors[1].text
    dataset = load_dataset(config, "train")
    with pytest.raises(ImageError, match=r"train\.tar:bad\.jpg"):
        load_image(dataset.images[1].path)


def test_captions_without_an_image_are_an_error_or_left_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [*one_pair("a"), ("b.txt", b"of nothing"), *one_pair("c", " ")])
    config = ShardsConfig(root=str(tmp_path), num_workers=0)
    with pytest.raises(DataError, match=r"1 captions of train have no image in their shard \(train\.tar:b\)"):
        load_dataset(config, "train")
    dataset = load_dataset(replace(config, on_bad_image="skip"), "train")
    assert dataset.references == {"a": ["a cat"], "c": []}
    assert "have no image in their shard" in dataset.notices[0]
    assert "1 blank captions of train are left out." in dataset.notices


def test_keys_that_repeat_between_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", [*one_pair("000"), *one_pair("001")])
    write_tar(tmp_path / "train-1.tar", one_pair("000", "a dog"))
    dataset = load_dataset(ShardsConfig(root=str(tmp_path), num_workers=0), "train")
    assert dataset.references == {"train-0/000": ["a cat"], "train-0/001": ["a cat"], "train-1/000": ["a dog"]}
    assert dataset.images[2].image_id == "train-1/000"
    assert "have keys in common" in dataset.notices[0]


def test_repeated_ids_in_one_shard_are_an_error(tmp_path: Path) -> None:
    pairs = [("a.jpg", b"1"), ("a.json", b'{"image_id": 5}'), ("b.jpg", b"2"), ("b.json", b'{"image_id": 5}')]
    write_tar(tmp_path / "train.tar", pairs)
    with pytest.raises(DataError, match=r"such as 5 \(a\.jpg, b\.jpg\)"):
        load_dataset(ShardsConfig(root=str(tmp_path)), "train")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{8..11}.tar", ["8.tar", "9.tar", "10.tar", "11.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ("a{}b{", ["ab{"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize("pattern", ["{0..9999999}", "{0..9999}{0..9999}", "{0..9}" * 9])
def test_a_pattern_of_too_many_shards_is_an_error(pattern: str) -> None:
    with pytest.raises(DataError, match="more than 1,000,000 shards"):
        expand_braces(pattern)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["train-0.tar", "train-1.tar"]),
        ({"train": "train-{0..1}.tar"}, ["train-0.tar", "train-1.tar"]),
        ({"train": "train-1.tar"}, ["train-1.tar"]),
        ({"train": "tr*-?.tar"}, ["train-0.tar", "train-1.tar"]),
        ({"train": "more"}, ["more/5.tar", "more/6.tar"]),
        ({"train": "{train-0.tar,mo*}"}, ["train-0.tar", "more/5.tar", "more/6.tar"]),
        ({"train": "{train-1.tar,train-*.tar}"}, ["train-1.tar", "train-0.tar"]),
    ],
)
def test_which_archives_are_found(tmp_path: Path, settings: dict[str, str], expected: list[str]) -> None:
    for name in ("train-0.tar", "train-1.tar", "trainer.tar", "validation.tar", "more/5.tar", "more/6.tar"):
        write_tar(tmp_path / name, [])
    config = ShardsConfig(root=str(tmp_path), **settings)
    assert [path.relative_to(tmp_path).as_posix() for path in shard_files(config, "train")] == expected
    if settings:
        absolute = ShardsConfig(train=str(tmp_path / settings["train"]))
        assert "{t" in settings["train"] or shard_files(absolute, "train") == shard_files(config, "train")
    assert available_splits(config) == ["train", "val"]


def test_folders_named_as_splits(tmp_path: Path) -> None:
    write_tar(tmp_path / "train" / "00000.tar", one_pair("a"))
    write_tar(tmp_path / "dev" / "00000.tar", one_pair("b"))
    config = ShardsConfig(root=str(tmp_path))
    assert available_splits(config) == ["train", "val"]
    assert ids(load_dataset(config, "dev")) == ["b"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"train": "train-{0..3}.tar"}, r"2 of its shards do not exist \(train-2\.tar, train-3\.tar\)"),
        ({"train": "x*.tar"}, r"data\.train=x\*\.tar matches no \.tar file"),
        ({"train": "none"}, r"1 of its shards do not exist \(none\)"),
        ({"val": "train-1.tar"}, r"train-1\.tar is a shard of train and of val"),
        ({"root": "nowhere"}, r"data\.root=nowhere does not exist"),
        ({"root": None}, r"data\.root is not set"),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    for number in range(2):
        write_tar(tmp_path / f"train-{number}.tar", one_pair(f"{number}"))
    with pytest.raises(DataError, match=sentence):
        load_dataset(ShardsConfig(**{"root": str(tmp_path), **settings}), "train")


def test_a_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no split"):
        load_dataset(ShardsConfig(root=str(tmp_path)), "train")


@given(pattern=st.text(st.characters(blacklist_categories=["Cs"]), max_size=12))
@settings(deadline=None, max_examples=100)
def test_every_pattern_gives_files_or_an_error(tmp_path_factory: pytest.TempPathFactory, pattern: str) -> None:
    root = tmp_path_factory.getbasetemp() / "patterns"
    write_tar(root / "train-0.tar", [])
    with suppress(DataError):
        assert all(path.exists() for path in shard_files(ShardsConfig(root=str(root), train=pattern), "train"))


def test_archives_of_no_split_are_named(tmp_path: Path) -> None:
    """img2dataset names its archives 00000.tar, 00001.tar, …"""
    for number in range(2):
        write_tar(tmp_path / f"0000{number}.tar", one_pair(f"{number}"))
    message = (
        rf"No archive in {tmp_path} is named train\*\.tar or lies in train/: it has 00000\.tar, 00001\.tar\. "
        r"Set data\.train=… and data\.val=…"
    )
    for attempt in (lambda c: available_splits(c), lambda c: load_dataset(c, "train")):
        with pytest.raises(DataError, match=message):
            attempt(ShardsConfig(root=str(tmp_path)))
    config = ShardsConfig(root=str(tmp_path), train="{00000..00000}.tar", val="00001.tar", num_workers=0)
    assert available_splits(config) == ["train", "val"]
    assert ids(load_dataset(config, "train")) == ["0"]


def test_a_fraction_for_val_divides_the_pairs(tmp_path: Path) -> None:
    """As a table of captions without splits is divided, and as if all archives were one."""
    keys = [f"{number:03}" for number in range(60)]
    for number in range(3):
        pairs = [one_pair(key) for key in keys[20 * number : 20 * number + 20]]
        write_tar(tmp_path / f"0000{number}.tar", [file for pair in pairs for file in pair])
    config = ShardsConfig(root=str(tmp_path), val_fraction=0.2, num_workers=0)
    assert available_splits(config) == list(SPLITS)
    found = {split: ids(load_dataset(config, split)) for split in SPLITS}
    expected = split_by_hash(keys, 0.2)
    assert found == {split: [key for key in keys if expected[key] == split] for split in SPLITS}
    dataset = load_dataset(config, "val")
    assert isinstance(dataset.images, ShardImages)
    assert ids(replace(dataset, images=dataset.images[2:5])) == found["val"][2:5]
    assert dataset.images[-1].image_id == found["val"][-1]
    assert "Images are split by a hash of their ids, 20% of them for val and for test." in dataset.notices


def test_a_fraction_for_val_beside_shards_for_test(tmp_path: Path) -> None:
    pairs = [one_pair(f"{number}") for number in range(40)]
    write_tar(tmp_path / "all.tar", [file for pair in pairs for file in pair])
    write_tar(tmp_path / "new.tar", one_pair("x"))
    config = ShardsConfig(root=str(tmp_path), train="all.tar", test="new.tar", val_fraction=0.1, num_workers=0)
    found = {split: ids(load_dataset(config, split)) for split in SPLITS}
    assert found["test"] == ["x"]
    assert len(found["train"]) + len(found["val"]) == 40
    assert set(found["val"]) == {
        key for key, split in split_by_hash(map(str, range(40)), 0.1).items() if split == "val"
    }


def test_val_shards_and_a_fraction_for_val_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"data\.val=v\.tar and data\.val_fraction=0\.1"):
        ShardsConfig(val="v.tar", val_fraction=0.1)


def test_copies_across_splits_are_found_by_their_bytes_not_by_their_keys(tmp_path: Path) -> None:
    """img2dataset counts from 0 in every folder, so keys of two splits are the same for different images."""
    write_tar(tmp_path / "train.tar", [("0.jpg", jpeg(1)), ("0.txt", b"a"), ("1.jpg", jpeg(2)), ("1.txt", b"b")])
    write_tar(tmp_path / "val.tar", [("0.jpg", jpeg(3)), ("0.txt", b"c"), ("7.jpg", jpeg(2)), ("7.txt", b"d")])
    config = ShardsConfig(root=str(tmp_path), num_workers=0)
    report = check_dataset(config, TokenizerConfig(), progress=False, min_count=1)
    assert not report.errors
    assert [p.text for p in report.problems if "copy in" in p.text] == [
        "1 image of train with a copy in val (1.jpg = 7.jpg)."
    ]
