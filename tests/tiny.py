"""Data and settings so small that a training takes a second, shared by many tests."""

from __future__ import annotations

import csv
import functools
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.config import (
    AttentionConfig,
    CacheConfig,
    DecodeConfig,
    EncoderConfig,
    FolderConfig,
    MetricConfig,
    OptimConfig,
    TrainConfig,
    TrainerConfig,
    VocabularyConfig,
)
from captioner.training.loop import train
from captioner.training.setup import prepare

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (250, 250, 250)}
SIDES = ("left", "right")
ENCODER = EncoderConfig(name="squeezenet1_1", weights=None, image_size=64)
"""A small network with random weights, without a download: a grid of 3 × 3 regions, 512 channels.

It has no BatchNorm, whose untrained statistics would leave nothing of an image in the features of
other small networks (their spread is 1e-5, here it is 0.5).
"""


def encoder_of(model: str) -> EncoderConfig:
    """`ENCODER`, or the smallest with a published classifier for a decoder that reads ImageNet's classes."""
    return EncoderConfig(image_size=64) if model == "semantic_attention" else ENCODER


def write_tiny_data(folder: Path, images: int = 32) -> FolderConfig:
    """Write images with a colored half, two captions each, and splits, as a CSV file; returns settings to read them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, png in enumerate(_tiny_images(images)):
        color, side = _color_and_side(number)
        name = f"{number:03}.png"
        (folder / name).write_bytes(png)
        split = ("train", "train", "val", "test")[number // 8]
        rows.append((name, f"a {color} half on the {side}", split))
        rows.append((name, f"the {side} is {color}", split))
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "caption", "split"))
        writer.writerows(rows)
    return FolderConfig(root=str(folder), captions="captions.csv", num_workers=0)


@functools.cache
def _tiny_images(images: int) -> list[bytes]:
    """PNG files of noise with a colored half, made once for all tests."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(images):
        color, side = _color_and_side(number)
        pixels = generator.integers(90, 130, (64, 64, 3)).astype(np.uint8)
        pixels[:, slice(0, 32) if side == "left" else slice(32, 64)] = COLORS[color]
        Image.fromarray(pixels).save(file := io.BytesIO(), format="PNG")
        files.append(file.getvalue())
    return files


def _color_and_side(number: int) -> tuple[str, str]:
    return list(COLORS)[number % 4], SIDES[number // 4 % 2]


def tiny_config(data: FolderConfig) -> TrainConfig:
    """Two epochs of four steps of a model with attention and dropout."""
    return TrainConfig(
        model=AttentionConfig(embedding_dim=8, hidden_dim=12, attention_dim=6, dropout=0.2, tie_embeddings=True),
        encoder=ENCODER,
        data=data,
        vocabulary=VocabularyConfig(min_count=1),
        optim=OptimConfig(warmup_steps=2, learning_rate=0.01),
        trainer=TrainerConfig(max_epochs=2, batch_size=4, log_every=1, eval_batch_size=4),
        decode=DecodeConfig(max_length=8),
        metric=MetricConfig(names=["Bleu", "CIDEr"]),
        device="cpu",
    )


def with_trainer(config: TrainConfig, **settings: object) -> TrainConfig:
    """`config` with other trainer settings."""
    return replace(config, trainer=replace(config.trainer, **settings))  # type: ignore[arg-type]


def train_tiny(folder: Path) -> Path:
    """Train for a second or two; returns the run, whose captions are right for almost every image in `folder/data`."""
    config = with_trainer(
        tiny_config(write_tiny_data(folder / "data")),
        max_epochs=80,
        validate_every=80,
        batch_size=8,
        label_smoothing=0.0,
    )
    config = replace(
        config,
        model=AttentionConfig(embedding_dim=24, hidden_dim=32, attention_dim=16, dropout=0.0),
        optim=replace(config.optim, learning_rate=0.02),
        cache=CacheConfig(directory=str(folder / "cache")),
    )
    run = folder / "run"
    run.mkdir()
    train(prepare(config, run))
    return run
