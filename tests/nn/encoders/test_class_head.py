"""The classes of an encoder's network are those of the whole network, whatever fine-tuning changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from captioner.config import EncoderConfig
from captioner.errors import WeightsError
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.class_head import build_class_head
from captioner.nn.encoders.efficientnet_lite import efficientnet_lite, weights_file, with_torchvision_keys

LITE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def whole() -> nn.Module:
    """The published network, built without the class head."""
    network = efficientnet_lite(LITE)
    weights = torch.load(weights_file(LITE), map_location="cpu", weights_only=True)
    network.load_state_dict(with_torchvision_keys(LITE, weights))
    return network.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("fine_tune_from", [None, "features.6", "features.0"])
def test_classes_are_those_of_the_published_network(
    fine_tune_from: str | None, whole: nn.Module, images: torch.Tensor
) -> None:
    config = EncoderConfig(image_size=64, fine_tune_from=fine_tune_from)
    encoder = build_encoder(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)  # fine-tuning
        head = build_class_head(config, encoder)
        assert head is not None
        assert head.from_images is (fine_tune_from == "features.0")
        features, shared = encoder.forward_with_frozen(images)
        scores = head(images, shared)
        torch.testing.assert_close(scores.logits, whole(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(features.vector, encoder(images).vector, rtol=0, atol=0)
    torch.testing.assert_close(scores.probabilities.sum(1), torch.ones(2))


def test_altered_lower_blocks_are_not_shared(whole: nn.Module, images: torch.Tensor) -> None:
    config = EncoderConfig(image_size=64, fine_tune_from="features.8")
    encoder = build_encoder(config).eval()
    with torch.no_grad():
        encoder.trunk.get_submodule("features.2").get_parameter("0.block.0.0.weight").mul_(1.5)
        head = build_class_head(config, encoder)
        assert head is not None
        assert head.from_images
        _, shared = encoder.forward_with_frozen(images)
        torch.testing.assert_close(head(images, shared).logits, whole(images), rtol=1e-4, atol=1e-4)


def test_mean_over_regions_is_the_logit_of_the_image(images: torch.Tensor) -> None:
    config = EncoderConfig(image_size=64)
    encoder = build_encoder(config).eval()
    head = build_class_head(config, encoder)
    assert head is not None
    with torch.no_grad():
        _, shared = encoder.forward_with_frozen(images)
        scores = head(images, shared)
        regions = scores.region_logits([3, 281])
    assert regions.shape == (2, 2, *encoder.grid_size)
    torch.testing.assert_close(regions.mean((2, 3)), scores.logits[:, [3, 281]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_classes_of_a_torchvision_network(
    name: str, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = get_model(name, weights=None).eval()
    monkeypatch.setattr(encoder_weights, "download", lambda name, entry: network.state_dict())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    config = EncoderConfig(name=name, image_size=64)
    encoder = build_encoder(config).eval()
    with pytest.raises(WeightsError, match="published weights"):
        build_class_head(config, encoder)
    head = build_class_head(config, encoder, download=True)
    assert head is not None
    with torch.no_grad():
        _, shared = encoder.forward_with_frozen(images)
        torch.testing.assert_close(head(images, shared).logits, network(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("config", [EncoderConfig(weights=None), EncoderConfig(weights="my/weights.pth")])
def test_no_classes_without_published_weights(config: EncoderConfig) -> None:
    encoder = build_encoder(config, load_weights=False)
    assert build_class_head(config, encoder) is None
