"""Samples of several images: read, encoded, cached, trained on, checked and captioned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.config import CacheConfig, FolderConfig, TokenizerConfig
from captioner.data.check.check_dataset import check_dataset
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.datasets.tar_shards.pack import packed_bytes
from captioner.data.features.sources import FeatureSource, open_features
from captioner.data.features.view_features import ViewFeatures, single_images
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import load_image
from captioner.data.images.loader import load_image_batches
from captioner.data.images.transforms import image_to_tensor
from captioner.errors import DataError, ImageError
from captioner.inference import Captioner
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.encoder import Encoder
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.data.tiny import write_json
from tests.tiny import ENCODER, tiny_config, with_trainer

COUNTS = {"train": [2, 1, 2, 3], "val": [2, 1], "test": [2]}
CPU = torch.device("cpu")


@pytest.fixture
def xrays(tmp_path: Path) -> FolderConfig:
    """R2Gen's layout: reports with one, two or three images."""
    generator = np.random.default_rng(0)
    content: dict[str, list[dict[str, object]]] = {}
    for split, counts in COUNTS.items():
        content[split] = []
        for number, count in enumerate(counts):
            names = [f"{split}{number}/{view}.png" for view in range(count)]
            for name in names:
                path = tmp_path / "images" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, 255, (40, 48 + 8 * number, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(path)
            sample = {
                "id": f"CXR{split}{number}",
                "report": f"no effusion {number} .",
                "image_path": names,
                "split": split,
            }
            content[split].append(sample)
    write_json(tmp_path / "annotation.json", content)
    return FolderConfig(root=str(tmp_path), num_workers=0)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(3)
    encoder = build_encoder(ENCODER)
    encoder.freeze()
    return encoder.eval()


def _open(dataset: CaptionDataset, encoder: Encoder, data: FolderConfig, folder: Path | None) -> FeatureSource:
    cache = CacheConfig(enabled=folder is not None, directory=None if folder is None else str(folder))
    return open_features(dataset, encoder, with_grid=True, data=data, cache=cache, device=CPU)


def test_a_list_of_images_is_one_sample(xrays: FolderConfig) -> None:
    dataset = load_dataset(xrays, "train")
    assert [image.image_id for image in dataset] == [f"CXRtrain{number}" for number in range(4)]
    assert [isinstance(image.path, ImageViews) for image in dataset] == [True, False, True, True]
    assert str(dataset.images[0].path).endswith("train0/1.png")
    assert [image.path.name for image in single_images(dataset)] == [
        f"{view}.png" for count in COUNTS["train"] for view in range(count)
    ]
    assert len(single_images(dataset)) == 8


@pytest.mark.parametrize("cached", [True, False])
def test_features_are_those_of_the_single_images(
    cached: bool, xrays: FolderConfig, encoder: Encoder, tmp_path: Path
) -> None:
    """Against the encoder on each image file; in any order, several batches."""
    dataset = load_dataset(xrays, "train")
    source = _open(dataset, encoder, xrays, tmp_path / "cache" if cached else None)
    assert isinstance(source, ViewFeatures)
    order = [[3, 0], [1], [2, 3]]
    found = list(source.batches(order))
    assert [samples for samples, _ in found] == order
    for samples, features in found:
        assert features.grid is not None
        for row, sample in enumerate(samples):
            folder = Path(str(xrays.root)) / "images" / f"train{sample}"
            images = [load_image(path, at_least=64) for path in sorted(folder.iterdir())]
            pixels = torch.stack([image_to_tensor(image, encoder.transform) for image in images])
            expected = encoder(pixels)
            grid = expected.grid.reshape(-1, encoder.feature_dim)
            tolerance = (
                {"rtol": 2e-3, "atol": 2e-3} if cached else {"rtol": 1e-5, "atol": 1e-5}
            )  # the cache has float16
            torch.testing.assert_close(features.grid[row, : len(grid)], grid, **tolerance)
            torch.testing.assert_close(features.vector[row], expected.vector.mean(0), **tolerance)
            if features.mask is not None:
                assert features.mask[row].sum() == len(grid)


def test_a_sample_with_an_unreadable_image_is_left_out(xrays: FolderConfig, encoder: Encoder, tmp_path: Path) -> None:
    (Path(str(xrays.root)) / "images/train2/1.png").write_bytes(b"no image")
    skip = replace(xrays, on_bad_image="skip")
    dataset = load_dataset(skip, "train")
    for folder in (tmp_path / "cache", None):
        source = _open(dataset, encoder, skip, folder)
        found = [samples for samples, _ in source.batches([[0, 2], [2], [1, 3]])]
        assert found == [[0], [], [1, 3]]
        assert list(source.bad) == [2]
        assert "train2/1.png" in source.bad[2]
    with pytest.raises(ImageError, match=r"train2/1\.png"):
        list(_open(dataset, encoder, xrays, None).batches([[2]]))


def test_a_sample_with_a_missing_image(xrays: FolderConfig) -> None:
    (Path(str(xrays.root)) / "images/train0/1.png").rename(Path(str(xrays.root)) / "images/train0/1.jpg")
    with pytest.raises(DataError, match=r"1 of the 4 images .*train0/1\.png: images/train0/1\.jpg is there"):
        load_dataset(xrays, "train")
    assert len(load_dataset(replace(xrays, on_bad_image="skip"), "train")) == 3


def test_the_check_looks_at_every_image(xrays: FolderConfig) -> None:
    report = check_dataset(xrays, TokenizerConfig(), progress=False, min_count=1)
    assert report.errors == []
    assert report.images == sum(map(sum, COUNTS.values()))
    assert report.sizes == {split: (len(counts), len(counts)) for split, counts in COUNTS.items()}


def test_what_cannot_have_several_images(xrays: FolderConfig, encoder: Encoder) -> None:
    dataset = load_dataset(xrays, "train")
    with pytest.raises(DataError, match="tar shards hold one image per sample"):
        packed_bytes(dataset, 10)
    with pytest.raises(ImageError, match="is a sample of 2 images, and this command encodes single images"):
        list(load_image_batches(dataset.paths, [[0]], encoder.transform, xrays))
    with pytest.raises(ImageError, match="needs two or more, and got 1"):
        ImageViews.of("a.png")


def test_the_image_for_the_eye(tmp_path: Path) -> None:
    Image.new("RGB", (10, 6), "red").save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "b.png")
    shown = load_image(ImageViews.of(str(tmp_path / "a.png"), tmp_path / "b.png"))
    assert shown.size == (20, 6)
    assert [shown.getpixel((x, 3)) for x in (0, 9, 10, 19)] == [(255, 0, 0)] * 2 + [(0, 0, 255)] * 2


def test_training_evaluation_and_captioning(xrays: FolderConfig, tmp_path: Path) -> None:
    config = with_trainer(tiny_config(xrays), max_steps=2, max_epochs=1, evaluate_splits=["test"], eval_batch_size=4)
    run = tmp_path / "run"
    run.mkdir()
    (evaluation,) = train(prepare(config, run)).evaluations.values()
    assert list(evaluation.captions) == ["CXRtest0"]
    captioner = Captioner.from_checkpoint(run, "cpu")
    test, val = load_dataset(xrays, "test"), load_dataset(xrays, "val")
    caption = captioner.caption(test.images[0].path)
    assert caption.text == json.loads((run / "captions_test.json").read_text())[0]["caption"]
    rows, columns = captioner.model.encoder.grid_size
    assert caption.attention is not None
    assert caption.attention.shape == (len(caption.tokens), rows, 2 * columns)
    np.testing.assert_allclose(caption.attention.sum((1, 2)), 1, rtol=1e-5)
    assert caption.plot().width > 0
    # a batch of two views and one image gives what each gives alone
    paths = [image.path for image in val]
    together, alone = captioner.caption(paths), [captioner.caption(path) for path in paths]
    for one, other in zip(together, alone, strict=True):
        assert one.tokens == other.tokens
        assert one.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(one.attention, other.attention, rtol=1e-4, atol=1e-6)
        assert one.log_prob == pytest.approx(other.log_prob, rel=1e-5)
