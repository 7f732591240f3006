"""After every validation TensorBoard shows generated captions, and the attention of each word."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.config import CacheConfig, DecodeConfig, RecurrentConfig
from captioner.evaluation.evaluate import generate_captions
from captioner.training.loop import train
from captioner.training.resume import load_weights_on_all
from captioner.training.run import Run
from captioner.training.sample_captions import (
    LINE,
    SHADE,
    SHOWN,
    TILE,
    attention_sheet,
    caption_samples,
    lit_by_attention,
)
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

GREEDY = DecodeConfig(name="greedy", max_length=8)


def trained(folder: Path, **settings: Any) -> Run:
    """A run of two epochs, with a validation after each."""
    cache = CacheConfig(directory=str(folder / "cache"))
    config = replace(tiny_config(write_tiny_data(folder / "data")), cache=cache)
    (folder / "run").mkdir()
    run = prepare(replace(with_trainer(config, tensorboard=True, keep_last=1), **settings), folder / "run")
    train(run)
    return run


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory) -> Run:
    pytest.importorskip("tensorboard")
    return trained(tmp_path_factory.mktemp("attending"))


def events(run: Run, tag: str) -> dict[int, Any]:
    """Step → the value with this tag in the event file."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    (path,) = (run.folder / "tensorboard").iterdir()
    return {
        event.step: make_ndarray(value.tensor)
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag.startswith(tag)
    }


def test_the_captions_are_the_scored_ones(attending: Run) -> None:
    run = attending
    found = events(run, "validation/captions")
    assert list(found) == [4, 8]
    load_weights_on_all(run, "latest")
    generated = generate_captions(
        run.model, run.vocabulary, run.tokenizer, run.val_set, run.val_features, GREEDY, batch_size=4
    )
    _, _, *rows = found[8].item().decode().splitlines()
    entries = [[entry.strip() for entry in row.strip("|").split("|")] for row in rows]
    assert len(entries) == SHOWN
    images = {str(image.image_id): image for image in run.val_set.images}
    for image_id, caption, reference in entries:
        assert caption == generated[images[image_id].image_id]
        assert reference == images[image_id].captions[0]


def test_the_image_of_attention_can_be_read_back(attending: Run) -> None:
    run = attending
    found = events(run, "validation/attention")
    assert list(found) == [4, 8]
    load_weights_on_all(run, "latest")
    samples = caption_samples(run, GREEDY)
    width, height, encoded = found[8].tolist()
    sheet = np.asarray(Image.open(io.BytesIO(encoded)))
    assert np.array_equal(sheet, attention_sheet(run, samples).numpy())
    assert sheet.shape == (int(height), int(width), 3) == (SHOWN * (TILE + LINE), width_of(samples), 3)


def width_of(samples: list[Any]) -> int:
    return TILE * (1 + max(len(sample.words) for sample in samples))


def test_the_sheet_is_bright_where_the_weight_is(attending: Run) -> None:
    rows, columns = attending.model.encoder.grid_size
    (sample, *_) = caption_samples(attending, GREEDY)
    attention = torch.zeros(2, rows * columns)
    attention[0, 0], attention[1, -1] = 1.0, 0.5  # the first region, then the last with half the weight
    sheet = attention_sheet(attending, [replace(sample, words=["one", "two"], attention=attention)]).float().numpy()
    plain, first, last = (sheet[LINE:, column * TILE : (column + 1) * TILE] for column in range(3))
    corner, opposite = (slice(0, 8), slice(0, 8)), (slice(-8, None), slice(-8, None))
    np.testing.assert_allclose(first[corner], plain[corner], atol=1)
    np.testing.assert_allclose(first[opposite], SHADE * plain[opposite], atol=1)
    np.testing.assert_allclose(last[corner], SHADE * plain[corner], atol=1)
    np.testing.assert_allclose(last[opposite], (SHADE + (1 - SHADE) * 0.5) * plain[opposite], atol=1.5)


def test_full_attention_leaves_the_image_unchanged() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (TILE, TILE, 3)).astype(np.uint8))
    assert np.array_equal(np.asarray(lit_by_attention(image, np.ones((3, 3), np.float32))), np.asarray(image))


def test_a_missing_image_is_gray(attending: Run) -> None:
    """The cache still has its features."""
    samples = caption_samples(attending, GREEDY)
    path = Path(str(attending.val_set.images[samples[0].index].path))
    moved = path.rename(path.with_suffix(".away"))
    try:
        sheet = attention_sheet(attending, samples)
    finally:
        moved.rename(path)
    assert (sheet[LINE : LINE + TILE, :TILE] == 128).all()
    assert not (sheet[LINE + TILE + LINE : 2 * (LINE + TILE), :TILE] == 128).all()


def test_without_attention_there_are_captions_only(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = trained(tmp_path, model=RecurrentConfig(embedding_dim=8, hidden_dim=12))
    assert list(events(run, "validation/captions")) == [4, 8]
    assert events(run, "validation/attention") == {}
