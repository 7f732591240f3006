"""Training on images of 12 bits in 16: the stretch is stored, keyed in the cache, and used for every later image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.config import CacheConfig, TrainConfig
from captioner.data.features.sources import open_features
from captioner.data.images.decode import load_image
from captioner.data.images.transforms import image_to_tensor
from captioner.errors import ConfigError
from captioner.inference import Captioner
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """The tiny data set in gray, its values divided by 16 of the range."""
    folder = tmp_path_factory.mktemp("deep")
    data = write_tiny_data(folder / "data")
    for path in (folder / "data").glob("*.png"):
        gray = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(gray * 16).save(path)
    config = tiny_config(replace(data, stretch="percentile"))
    return with_trainer(replace(config, cache=CacheConfig(directory=str(folder / "cache"))), max_epochs=1)


def test_the_stretch_is_stored_and_used(config: TrainConfig, tmp_path: Path) -> None:
    run = prepare(config, tmp_path)
    train(run)
    loaded = load_checkpoint(tmp_path)
    assert loaded.settings.transform.stretch == "percentile"
    path = run.val_set.images[0].path
    captioner = Captioner(loaded, torch.device("cpu"))
    caption = captioner.caption(path)
    assert caption == captioner.caption(load_image(path, stretch="percentile"))  # as the demo gives it
    assert np.asarray(caption.plot(image=path)).shape[2] == 3
    with torch.inference_mode():
        pixels = image_to_tensor(load_image(path, stretch="percentile"), loaded.settings.transform)
        expected = loaded.model.encode(pixels[None]).vector
    _, cached = next(run.val_features.batches([[0]]))
    torch.testing.assert_close(cached.vector, expected, rtol=2e-2, atol=2e-2)  # the cache has float16


def test_other_preprocessing_has_other_features(config: TrainConfig, tmp_path: Path) -> None:
    stretched, dark = (
        prepare(replace(config, data=replace(config.data, stretch=stretch)), tmp_path)
        for stretch in ("percentile", "none")
    )
    vectors = [next(run.val_features.batches([[0, 1]]))[1].vector for run in (stretched, dark)]
    assert not torch.allclose(vectors[0], vectors[1], rtol=0.1)


def test_it_cannot_be_changed_after_training(config: TrainConfig, tmp_path: Path) -> None:
    run = prepare(replace(config, data=replace(config.data, stretch="none")), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.stretch=percentile cannot be changed after training"):
        open_features(
            run.val_set,
            run.model.encoder,
            with_grid=False,
            data=config.data,
            cache=config.cache,
            device=torch.device("cpu"),
        )
