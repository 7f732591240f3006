"""Images are loaded in order, in any number of processes, and unreadable ones are named."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.config import AugmentConfig, DataConfig, TransformConfig
from captioner.data.images.augment import Augmentation
from captioner.data.images.decode import load_image
from captioner.data.images.loader import LoadedImageBatch, load_image_batches
from captioner.data.images.transforms import View, image_to_tensor
from captioner.errors import ImageError

TRANSFORM = TransformConfig(size=16)
BATCHES = [[3, 0], [4, 4, 1], [2]]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Five images of different sizes."""
    generator = np.random.default_rng(0)
    found = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(found):
        Image.fromarray(generator.integers(0, 256, (20 + number, 30, 3)).astype(np.uint8)).save(path)
    return found


def load(paths: list[Path], batches: list[list[int]] = BATCHES, **settings: int | str) -> list[LoadedImageBatch]:
    data = DataConfig(**({"num_workers": 0} | settings))  # type: ignore[arg-type]
    return list(load_image_batches(paths, batches, TRANSFORM, data))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(paths: list[Path], workers: int) -> None:
    loaded = load(paths, num_workers=workers)
    assert [one.indices for one in loaded] == BATCHES
    for one in loaded:
        expected = torch.stack([image_to_tensor(load_image(paths[index]), TRANSFORM) for index in one.indices])
        assert torch.equal(one.images, expected)
        assert one.bad == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_views_depend_on_the_index_for_any_number_of_workers(paths: list[Path], workers: int) -> None:
    view_of = partial(Augmentation(AugmentConfig(scale=(0.3, 0.9), flip=0.5), seed=0).view, 4)
    loaded = list(load_image_batches(paths, BATCHES, TRANSFORM, DataConfig(num_workers=workers), view_of))
    for one in loaded:
        images = [image_to_tensor(load_image(paths[index]), TRANSFORM, view_of(index)) for index in one.indices]
        assert torch.equal(one.images, torch.stack(images))


def test_a_small_crop_of_a_large_photo_is_decoded_at_full_size(tmp_path: Path) -> None:
    """The full image may be decoded at a quarter of its size; a crop of a tenth must not."""
    path = tmp_path / "large.jpg"
    Image.effect_noise((400, 400), 60).convert("RGB").save(path)
    view = View(0.2, 0.2, 0.1, 0.1)
    (loaded,) = load_image_batches([path], [[0]], TRANSFORM, DataConfig(num_workers=0), lambda index: view)
    assert torch.equal(loaded.images[0], image_to_tensor(load_image(path), TRANSFORM, view))


def test_batches_may_be_generated_on_demand(paths: list[Path]) -> None:
    asked = []

    def batches() -> Iterator[list[int]]:
        for batch in BATCHES:
            asked.append(batch)
            yield batch

    loading = load_image_batches(paths, batches(), TRANSFORM, DataConfig(num_workers=0))
    assert next(loading).indices == BATCHES[0]
    assert asked == BATCHES[:1]
    assert [one.indices for one in loading] == BATCHES[1:]


def test_no_batches(paths: list[Path]) -> None:
    assert load(paths, batches=[], num_workers=2) == []


def test_the_random_state_of_training_is_unchanged(paths: list[Path]) -> None:
    """Dropout is the same with and without worker processes."""
    before = torch.get_rng_state()
    load(paths, num_workers=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_raises_an_error_that_names_it(paths: list[Path], workers: int) -> None:
    paths[4].write_bytes(paths[4].read_bytes()[:80])
    data = DataConfig(num_workers=workers)
    batches = load_image_batches(paths, BATCHES, TRANSFORM, data)
    assert next(batches).indices == [3, 0]
    with pytest.raises(ImageError, match=r"4\.png .*Repair or remove it, or .*data\.on_bad_image=skip"):
        next(batches)


def test_bad_images_are_left_out(paths: list[Path]) -> None:
    paths[4].write_bytes(b"no image")
    paths[2].unlink()
    loaded = load(paths, on_bad_image="skip")
    assert [one.indices for one in loaded] == [[3, 0], [1], []]
    assert [len(one.images) for one in loaded] == [2, 1, 0]
    assert [set(one.bad) for one in loaded] == [set(), {4}, {2}]
    assert "4.png is not an image" in loaded[1].bad[4]
    assert "2.png does not exist" in loaded[2].bad[2]


def test_large_photos_are_decoded_small(tmp_path: Path) -> None:
    """A JPEG file far larger than needed is decoded at a fraction of its size."""
    path = tmp_path / "large.jpg"
    Image.effect_noise((400, 400), 60).convert("RGB").save(path)
    (loaded,) = load([path], [[0]])
    at_least = load_image(path, at_least=TRANSFORM.size)
    assert at_least.size < (400, 400)
    assert torch.equal(loaded.images[0], image_to_tensor(at_least, TRANSFORM))
