"""Where the samples of other projects are, and encoders with their sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn
from torchvision.models.resnet import Bottleneck

from captioner.config import ENCODERS, EncoderConfig, TransformConfig
from captioner.nn.encoders.trunk import EncoderNetwork


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of checkpoints that the projects' own code wrote; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CAPTIONER_DATA", "")).absolute().parent / "foreign_checkpoints"
    if not os.environ.get("CAPTIONER_DATA") or not folder.is_dir():
        pytest.skip("there is no folder foreign_checkpoints/ beside CAPTIONER_DATA")
    return folder


def small_resnet(*blocks: int) -> nn.Sequential:
    """A ResNet of torchvision's blocks up to the last feature map: 4 channels after the stem, 16 at the end."""
    trunk = nn.Sequential()
    for name, layer in (
        ("conv1", nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False)),
        ("bn1", nn.BatchNorm2d(4)),
        ("relu", nn.ReLU()),
        ("maxpool", nn.MaxPool2d(3, 2, 1)),
    ):
        trunk.add_module(name, layer)
    for number, count in enumerate(blocks, 1):
        inputs, stride = (4, 1) if number == 1 else (16, 2)
        shortcut = nn.Sequential(nn.Conv2d(inputs, 16, 1, stride=stride, bias=False), nn.BatchNorm2d(16))
        rest = [Bottleneck(16, 4) for _ in range(count - 1)]
        trunk.add_module(f"layer{number}", nn.Sequential(Bottleneck(inputs, 4, stride, shortcut), *rest))
    return trunk


def _resnet(*blocks: int) -> object:
    return lambda config: EncoderNetwork(small_resnet(*blocks), TransformConfig(size=config.image_size or 64))


def _flat(channels: int) -> object:
    def network(config: EncoderConfig) -> EncoderNetwork:
        trunk = nn.Sequential()
        trunk.add_module("conv", nn.Conv2d(3, channels, 32, stride=32))
        return EncoderNetwork(trunk, TransformConfig(size=config.image_size or 64))

    return network


SMALL_ENCODERS = {
    "resnet_1111": _resnet(1, 1, 1, 1),
    "resnet_152": _resnet(3, 8, 36, 3),
    "flat_18": _flat(18),
    "flat_20": _flat(20),
}


@pytest.fixture(autouse=True)
def small_encoders() -> Iterator[None]:
    """Encoders with as many channels as the samples' features, by name."""
    for name, network in SMALL_ENCODERS.items():
        ENCODERS.register(name, network)  # type: ignore[arg-type]
    yield
    for name in SMALL_ENCODERS:
        ENCODERS.unregister(name)
