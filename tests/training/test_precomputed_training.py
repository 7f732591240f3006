"""Training on features made elsewhere is training on the encoder that made them; and it needs no image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captioner.config import (
    DECODERS,
    AttentionConfig,
    AugmentConfig,
    CacheConfig,
    DecodeConfig,
    EncoderConfig,
    FolderConfig,
    MetricConfig,
    MRNNConfig,
    RecurrentConfig,
    TrainConfig,
)
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_features
from captioner.errors import ConfigError, DataError
from captioner.inference import Captioner
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.training.setup import prepare
from captioner.training.signals import Interrupted
from tests.tiny import ENCODER, tiny_config, with_trainer, write_tiny_data
from tests.training.test_loop import assert_same_weights, curve, interrupt_after, run

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> FolderConfig:
    return write_tiny_data(tmp_path / "data")


def write_features(data: FolderConfig, folder: Path, *, ragged: bool = False) -> FolderConfig:
    """The grids of the tests' encoder with the weights of seed 0, as .npz files; ragged: some regions are left out."""
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER).eval()
    encoder.freeze()
    folder.mkdir()
    for split in ("train", "val", "test"):
        dataset = load_dataset(data, split)
        source = open_features(
            dataset, encoder, with_grid=True, data=data, cache=CacheConfig(enabled=False), device=CPU
        )
        for indices, features in source.batches([list(range(len(dataset)))]):
            assert features.grid is not None
            for index, grid in zip(indices, features.grid.numpy(), strict=True):
                regions = grid[: 2 + index % 7] if ragged else grid
                np.savez(folder / f"{dataset.images[index].image_id}.npz", feat=regions)
    return replace(data, features=str(folder))


def without_encoder(config: TrainConfig, data: FolderConfig) -> TrainConfig:
    return replace(config, data=data, encoder=EncoderConfig())


def test_the_model_is_that_of_the_encoder(data: FolderConfig, tmp_path: Path) -> None:
    """The decoder's random initialization is the same, because the encoder's is drawn with another seed before it."""
    features = write_features(data, tmp_path / "features")
    config = without_encoder(tiny_config(data), features)
    captions = {}
    made = prepare(config, tmp_path / "made")
    assert made.config.encoder == EncoderConfig(name="none", weights=None, feature_dim=512)
    (_, batch), *_ = made.train_features.batches([[3, 1]])
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER).eval()
    encoder.freeze()
    pixels = open_features(
        made.train_set, encoder, with_grid=True, data=data, cache=CacheConfig(enabled=False), device=CPU
    )
    (_, expected), *_ = pixels.batches([[3, 1]])
    assert batch.grid is not None
    assert torch.equal(batch.grid, expected.grid)
    torch.testing.assert_close(batch.vector, expected.vector)
    assert batch.mask is None
    captions["made"] = run(config, tmp_path / "run")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_on_regions_of_any_number_resumes(data: FolderConfig, tmp_path: Path, workers: int) -> None:
    """Without any image on disk, it trains, is interrupted, resumes and is scored as an uninterrupted run."""
    features = replace(write_features(data, tmp_path / "features", ragged=True), num_workers=workers)
    for image in Path(str(data.root)).glob("*.png"):
        image.unlink()
    config = without_encoder(tiny_config(data), features)
    whole = run(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        interrupt_after(5, config, tmp_path / "stopped")
    run(config, tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")
    assert curve(whole) == curve(tmp_path / "stopped")


@pytest.mark.parametrize("model", [RecurrentConfig, MRNNConfig], ids=lambda kind: kind.__name__)
def test_models_without_attention(data: FolderConfig, tmp_path: Path, model: type[RecurrentConfig]) -> None:
    features = write_features(data, tmp_path / "features", ragged=True)
    small = model(embedding_dim=8, hidden_dim=8)
    config = replace(without_encoder(tiny_config(data), features), model=small)
    captioner = Captioner.from_checkpoint(run(config, tmp_path / "run"), "cpu")
    assert captioner.caption_features([np.zeros((3, 512), np.float32)])[0].attention is None


@pytest.mark.parametrize("name", [name for name in DECODERS if DECODERS[name]().attends])
def test_every_model_that_attends_reads_regions_of_any_number(data: FolderConfig, tmp_path: Path, name: str) -> None:
    """It trains on them, and captions an image among others as it does alone."""
    features = write_features(data, tmp_path / "features", ragged=True)
    small = DECODERS[name](name=name, embedding_dim=8, hidden_dim=8, layers=1)
    config = replace(with_trainer(without_encoder(tiny_config(data), features), max_steps=2), model=small)
    captioner = Captioner.from_checkpoint(run(config, tmp_path / "run"), "cpu")
    arrays = [np.load(tmp_path / "features" / f"{image}.npz")["feat"] for image in ("000", "003", "006")]
    assert len({len(array) for array in arrays}) > 1
    decode = DecodeConfig(min_length=3, max_length=5)
    together = captioner.caption_features(arrays, decode=decode)
    for array, caption in zip(arrays, together, strict=True):
        (alone,) = captioner.caption_features([array], decode=decode)
        assert caption.tokens == alone.tokens
        assert caption.attention is not None
        assert caption.attention.shape == (len(alone.tokens), 1, len(array))


def test_a_model_that_reads_classes_needs_an_encoder(data: FolderConfig, tmp_path: Path) -> None:
    features = write_features(data, tmp_path / "features")
    model = DECODERS["semantic_attention"](name="semantic_attention")
    with pytest.raises(ConfigError, match="needs an encoder with published weights"):
        prepare(replace(without_encoder(tiny_config(data), features), model=model), tmp_path / "run")


def test_what_a_model_without_an_encoder_captions(data: FolderConfig, tmp_path: Path) -> None:
    features = write_features(data, tmp_path / "features", ragged=True)
    model = Captioner.from_checkpoint(run(without_encoder(tiny_config(data), features), tmp_path / "run"), "cpu")
    assert "encoder: none, features made elsewhere with 512 values per region" in repr(model)
    with pytest.raises(ConfigError, match="This model has no encoder: it was trained on features made elsewhere"):
        model.caption(Path(str(data.root)) / "000.png")
    arrays = [np.load(tmp_path / "features" / f"{name}.npz")["feat"] for name in ("000", "003", "005")]
    boxes = np.tile(np.array([[0, 0, 0.5, 1]], np.float32), (len(arrays[1]), 1))
    together = model.caption_features(arrays, boxes=[None, boxes, None])
    for index, array in enumerate(arrays):
        alone = model.caption_features([array])[0]
        assert together[index].tokens == alone.tokens
        assert together[index].log_prob == pytest.approx(alone.log_prob, abs=1e-5)
        assert together[index].attention is not None
        assert together[index].attention.shape == (len(alone.tokens), 1, len(array))
        np.testing.assert_allclose(together[index].attention.sum((1, 2)), 1, rtol=1e-5)
    assert together[1].boxes is not None
    with pytest.raises(ConfigError, match="features have 4 values per region, but the model was made for 512"):
        model.caption_features([np.zeros((3, 4), np.float32)])
    with pytest.raises(DataError, match=r"features\[1\] holds NaN"):
        model.caption_features([arrays[0], np.full((2, 512), np.nan)])


def test_features_and_encoder_must_go_together(data: FolderConfig, tmp_path: Path) -> None:
    features = write_features(data, tmp_path / "features")
    model = Captioner.from_checkpoint(run(without_encoder(tiny_config(data), features), tmp_path / "run"), "cpu").model
    options = {"with_grid": True, "cache": CacheConfig(enabled=False), "device": CPU}
    val = load_dataset(data, "val")
    with pytest.raises(ConfigError, match=r"has no encoder: give those of this data set, data\.features=DIR"):
        open_features(val, model.encoder, data=data, **options)
    with pytest.raises(ConfigError, match="this model has the encoder squeezenet1_1 and reads images"):
        open_features(val, build_encoder(ENCODER), data=features, **options)
    (tmp_path / "other").mkdir()
    for image in val:
        np.savez(tmp_path / "other" / f"{image.image_id}.npz", feat=np.zeros((2, 7), np.float32))
    with pytest.raises(DataError, match="has 7 values per region in val, but the model was made for 512"):
        open_features(val, model.encoder, data=replace(data, features=str(tmp_path / "other")), **options)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"encoder": ENCODER}, "encoder.name=squeezenet1_1 has no effect with data.features"),
        ({"augment": AugmentConfig(flip=0.5)}, "augment needs images"),
        ({"cache": CacheConfig(flips=True)}, "cache.flips=true needs images"),
        ({"metric": MetricConfig(grounding="generated"), "model": AttentionConfig()}, "metric.grounding needs images"),
    ],
)
def test_settings_that_need_images(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TrainConfig(data=FolderConfig(features="somewhere"), **settings)  # type: ignore[arg-type]


def test_no_encoder_without_features() -> None:
    with pytest.raises(ConfigError, match=r"encoder=none is for features made elsewhere: give data.features=DIR"):
        TrainConfig(encoder=EncoderConfig(name="none", weights=None))
    with pytest.raises(ConfigError, match=r"encoder\.feature_dim=5 is for features made elsewhere"):
        EncoderConfig(feature_dim=5)
    with pytest.raises(ConfigError, match=r"encoder\.fine_tune_from=a has no effect with encoder=none"):
        EncoderConfig(name="none", weights=None, fine_tune_from="a")
