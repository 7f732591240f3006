"""Files written by version 0.1 stay readable: stored keys, file names and generated data do not change with the code.

The values below were recorded with version 0.1. A change here needs a new format version and a migration.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image, ImageChops

from captioner.config import CacheConfig, DataConfig, ScenesConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.tar_shards.shard_index import build_index, index_file, read_index
from captioner.data.features.cache import cached_features
from captioner.data.synthetic.scenes.drawing import draw_scene
from captioner.data.synthetic.scenes.generate_scenes import generate_scene, load_scenes
from captioner.data.synthetic.texts.generate_text import generate_text
from captioner.nn.encoders.build_encoder import build_encoder
from tests.data.datasets.tar_shards.tars import write_tar
from tests.tiny import ENCODER

SCENES = {
    0: {
        "scenes.json": "30ac6ca9d45a4424",
        "annotations/captions_train.json": "a218f342720f90f7",
        "annotations/captions_val.json": "f2e88487d7c65485",
        "annotations/captions_test.json": "c6b235f71203fff8",
        "annotations/instances_train.json": "92fb06b939674193",
        "annotations/instances_val.json": "d0e39ebe9c601f09",
        "annotations/instances_test.json": "94c2d71feaa2b5b8",
    },
    3: {
        "scenes.json": "edea7752078f3cf2",
        "annotations/captions_train.json": "50dd2fc3d38adf3e",
        "annotations/captions_val.json": "60dc8897a7d097ff",
        "annotations/captions_test.json": "5168a4eb5e338efd",
        "annotations/instances_train.json": "8bc9986007922a13",
        "annotations/instances_val.json": "4d17fa22dbf7dba6",
        "annotations/instances_test.json": "133726a7726fb483",
    },
}
"""Seed → file → the first digits of its SHA-256."""

TEXTS = {0: "550a3a2ed9bd7ee1", 3: "ca0b7b5777170813"}
"""Seed → the first digits of the SHA-256 of 20,000 generated characters."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("seed", SCENES)
def test_scene_annotations_are_those_of_version_0_1(tmp_path: Path, seed: int) -> None:
    load_scenes(ScenesConfig(root=str(tmp_path / "scenes"), seed=seed, train_size=40, val_size=10, test_size=10), "val")
    found = {
        path.relative_to(tmp_path / "scenes").as_posix(): digest(path.read_bytes())
        for path in (tmp_path / "scenes").rglob("*.json")
    }
    assert found == SCENES[seed]


def test_scene_images_use_the_random_stream_of_version_0_1(tmp_path: Path) -> None:
    """Pixels depend on Pillow's version, so the image is drawn again from the stream's stored name."""
    dataset = load_scenes(ScenesConfig(root=str(tmp_path / "s"), train_size=2, val_size=1, test_size=1), "train")
    for index, image in enumerate(dataset):
        stream = Random(f"captioner scenes 0 train {index} picture")
        expected = draw_scene(generate_scene(0, "train", index).scene, stream)
        with Image.open(image.path) as stored:
            assert ImageChops.difference(stored, expected).getbbox() is None


@pytest.mark.parametrize("seed", TEXTS)
def test_generated_texts_are_those_of_version_0_1(seed: int) -> None:
    assert digest(generate_text(20_000, seed).encode()) == TEXTS[seed]


def test_keys_of_a_tar_index(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "shard.tar", [("a.jpg", b"1"), ("a.txt", b"a dog"), ("alone.txt", b"a cat")])
    build_index(archive)
    header = json.loads(index_file(archive).read_bytes().split(b"\n")[0].partition(b" ")[2])
    assert list(header) == ["of", "pairs", "blank", "without_picture", "texts_size", "texts_crc32"]
    assert list(header["of"]) == ["format", "path", "size", "time"]
    assert header["of"]["format"] == 2
    index = read_index(archive)
    assert index is not None
    assert index.without_image == ("alone",)


def test_files_and_keys_of_the_feature_cache(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    dataset = CaptionDataset("red", "train", (CaptionedImage("red", tmp_path / "red.png", ("a red image",)),))
    cached_features(
        dataset,
        build_encoder(ENCODER),
        with_grid=True,
        cache=CacheConfig(directory=str(tmp_path)),
        data=DataConfig(num_workers=0),
        device=torch.device("cpu"),
        flipped=True,
    )
    (folder,) = (tmp_path / "features").iterdir()
    about = json.loads((folder / "about.json").read_bytes())
    assert sorted(about) == ["encoder", "feature_dim", "format_version", "kind", "transform", "weights"]
    assert (about["format_version"], about["kind"]) == (3, "grid")
    assert folder.name.startswith(f"{about['encoder']}-grid-")
    (listing,) = folder.glob("shard-*.json")
    assert {path.name for path in folder.iterdir()} == {"about.json", "lock", listing.name, f"{listing.stem}.f16"}
    content = json.loads(listing.read_bytes())
    assert list(content) == ["cache", "shape", "keys", "crc32"]
    image_hash = hashlib.blake2b((tmp_path / "red.png").read_bytes(), digest_size=16).hexdigest()
    assert content["keys"] == [image_hash, f"{image_hash}-mirrored"]
