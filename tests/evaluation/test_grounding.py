"""Grounding: attention weights are matched with named objects and their boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.config import CacheConfig, FolderConfig, MetricConfig, RecurrentConfig, ScenesConfig
from captioner.data.dataset import Box, CaptionDataset, CaptionedImage
from captioner.data.datasets.registry import add_boxes, check_has_boxes, load_dataset
from captioner.data.features.sources import open_features
from captioner.errors import ConfigError, DataError
from captioner.evaluation.grounding import AttendedCaption, attention_on_references, measure_grounding
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.setup import check_settings
from tests.tiny import tiny_config, write_tiny_data


def dataset_with_boxes(folder: Path, *boxes: tuple[Box, ...], size: tuple[int, int] = (40, 20)) -> CaptionDataset:
    images = []
    for number, of_image in enumerate(boxes):
        path = folder / f"{number}.png"
        Image.new("RGB", size).save(path)
        images.append(CaptionedImage(number, path, ("a dog",), of_image))
    return CaptionDataset("coco2017", "val", tuple(images))


def model_with_grid(resize: str) -> Any:
    """A stand-in for a model with a grid of 2 × 2 regions."""
    return SimpleNamespace(encoder=SimpleNamespace(grid_size=(2, 2), transform=SimpleNamespace(resize=resize)))


def test_attention_is_compared_with_the_boxes_of_the_named_object(tmp_path: Path) -> None:
    """The left half of a 40 × 20 image, squashed, is the left half of the grid."""
    left, right = Box("dog", 0, 0, 20, 20), Box("cat", 20, 0, 20, 20)
    dataset = dataset_with_boxes(tmp_path, (left, right), (left,))
    attention = torch.tensor([[0.25] * 4, [0.4, 0.1, 0.3, 0.2], [0.25] * 4, [0.0, 0.6, 0.0, 0.4]])
    attended = [
        AttendedCaption(0, ["a", "dog", "and", "cat"], attention),
        AttendedCaption(1, ["a", "dog", "and", "cat"], attention),
    ]
    found = measure_grounding(attended, dataset, model_with_grid("squash"))
    assert found.attention.value == pytest.approx((0.7 + 1.0 + 0.7) / 3)
    assert found.uniform.value == pytest.approx(0.5)
    assert (found.words, found.images, found.without_box) == (3, 2, 1)  # there is no cat in the second


def test_boxes_of_a_cropped_image_are_cropped(tmp_path: Path) -> None:
    """The crop of a 40 × 20 image is its columns 10 to 30: this box covers its left half, and the cat is outside."""
    dataset = dataset_with_boxes(tmp_path, *[(Box("dog", 0, 0, 20, 20), Box("cat", 0, 0, 9, 9))] * 2)
    attended = [AttendedCaption(n, ["dog", "cat"], torch.tensor([[0.5, 0.1, 0.4, 0.0]] * 2)) for n in range(2)]
    found = measure_grounding(attended, dataset, model_with_grid("crop"))
    assert (found.attention.value, found.uniform.value) == (pytest.approx(0.9), pytest.approx(0.5))
    assert (found.words, found.without_box) == (2, 2)


def test_the_attention_of_a_name_of_two_words_is_their_mean(tmp_path: Path) -> None:
    dataset = dataset_with_boxes(tmp_path, *[(Box("hot dog", 0, 0, 20, 20),)] * 2)
    attention = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    found = measure_grounding(
        [AttendedCaption(n, ["hot", "dog"], attention) for n in range(2)], dataset, model_with_grid("squash")
    )
    assert found.attention.value == pytest.approx(0.5)


@pytest.fixture(scope="module")
def trained(tiny_run: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_run)


def test_attention_on_references_equals_that_of_single_steps(trained: LoadedCheckpoint, tmp_path: Path) -> None:
    """Reference captions read at once, compared with one step per word."""
    data = write_tiny_data(tmp_path / "data")
    dataset = load_dataset(data, "test")
    cache = CacheConfig(directory=str(tmp_path / "cache"))
    features = open_features(
        dataset, trained.model.encoder, with_grid=True, data=data, cache=cache, device=torch.device("cpu")
    )
    tokenizer, vocabulary = build_tokenizer(trained.settings.tokenizer), trained.vocabulary
    attended = attention_on_references(trained.model, vocabulary, tokenizer, dataset, features, 3, seed=0)
    assert len(attended) == sum(len(image.captions) for image in dataset)
    for caption in attended[::5]:
        token_ids = vocabulary.encode(caption.words)
        ((_, encoded),) = features.batches([[caption.image_index]])
        state = trained.model.decoder.init_state(encoded)  # type: ignore[operator]
        for token_id, expected in zip([SPECIAL_TOKENS.start, *token_ids], caption.attention, strict=False):
            with torch.no_grad():
                step = trained.model.decoder.step(torch.tensor([token_id]), state)  # type: ignore[operator]
            torch.testing.assert_close(step.attention[0], expected, atol=1e-5, rtol=0)
            state = step.state


def test_data_without_boxes_and_models_without_attention_are_errors_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"bounding boxes of objects, which data=folder does not have. Data sets with boxes: scenes, coco\.",
    ):
        check_has_boxes(FolderConfig(root=str(tmp_path)), "val")
    scenes = ScenesConfig(root=str(tmp_path / "scenes"), train_size=1, val_size=2, test_size=1)
    dataset = load_dataset(scenes, "val")
    assert add_boxes(scenes, dataset) == dataset
    assert all(image.boxes for image in dataset)
    config = replace(tiny_config(write_tiny_data(tmp_path / "data")), metric=MetricConfig(grounding="generated"))
    with pytest.raises(DataError, match=r"metric\.grounding"):
        check_settings(config)
    with pytest.raises(ConfigError, match="needs a decoder with attention"):
        check_settings(replace(config, model=RecurrentConfig()))
    with pytest.raises(ConfigError, match="Did you mean generated"):
        MetricConfig(grounding="generatd")
