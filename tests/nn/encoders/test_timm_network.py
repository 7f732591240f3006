"""timm's networks as encoders: their features are timm's own, weights come from files, and a part can be trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("timm")

import timm

from captioner.config import CacheConfig, EncoderConfig, FolderConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.features.cache import cached_features
from captioner.data.features.sources import open_features
from captioner.errors import ConfigError, WeightsError
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.efficientnet_lite import SameConv2d, weights_file
from captioner.nn.encoders.encoder import Encoder
from tests.data.tiny import jpeg

VIT = "test_vit"  # three small networks of timm's own tests have this kind of name


def settings(name: str = VIT, **values: object) -> EncoderConfig:
    return EncoderConfig(name, library="timm", **{"weights": None, **values})  # type: ignore[arg-type]


def saved(folder: Path, name: str = VIT, **options: object) -> tuple[torch.nn.Module, Path]:
    """timm's own network with random weights, and a file of them."""
    torch.manual_seed(3)
    model = timm.create_model(name, **options).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    return model, folder / "model.safetensors"


def images(encoder: Encoder, count: int = 2) -> torch.Tensor:
    size = encoder.transform.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [VIT, "test_vit2", "test_vit3", "test_vit4", "test_vit_relpos"])
def test_tokens_are_timms(tmp_path: Path, name: str) -> None:
    """The grid: patch tokens after the last norm; the vector: what timm's classifier reads."""
    model, file = saved(tmp_path, name)
    encoder = build_encoder(settings(name, weights=str(file))).eval()
    given = images(encoder)
    with torch.no_grad():
        expected = model.forward_features(given)
        features = encoder(given)
        vector = model.forward_head(expected, pre_logits=True)
    rows, columns = encoder.grid_size
    assert rows * columns == expected.shape[1] - model.num_prefix_tokens
    torch.testing.assert_close(features.grid, expected[:, model.num_prefix_tokens :], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.vector, vector, atol=1e-5, rtol=1e-5)
    assert not encoder.vector_is_mean


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_maxvit", "test_mambaout"])
def test_feature_maps_are_timms(tmp_path: Path, name: str) -> None:
    model, file = saved(tmp_path, name)
    encoder = build_encoder(settings(name, weights=str(file))).eval()
    given = images(encoder)
    with torch.no_grad():
        expected = model.forward_features(given)
        features = encoder(given)
    if name == "test_mambaout":  # channels last
        expected = expected.permute(0, 3, 1, 2)
    assert encoder.grid_size == tuple(expected.shape[2:])
    torch.testing.assert_close(features.grid, expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.vector, expected.mean((2, 3)), atol=1e-5, rtol=1e-5)


def test_preprocessing_is_that_of_the_weights() -> None:
    transform = build_encoder(settings("vit_tiny_patch16_224"), load_weights=False).transform
    assert (transform.size, transform.interpolation) == (224, "bicubic")
    assert transform.mean == transform.std == (0.5, 0.5, 0.5)
    clip = build_encoder(settings("test_vit", image_size=96), load_weights=False)
    assert clip.grid_size == (6, 6)


def test_weights_of_another_image_size_are_resized(tmp_path: Path) -> None:
    """As timm does: the position embedding is interpolated."""
    _, file = saved(tmp_path)
    encoder = build_encoder(settings(weights=str(file), image_size=96)).eval()
    sizes = {"img_size": 96, "pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
    expected = timm.create_model(VIT, **sizes).eval()
    given = images(encoder)
    with torch.no_grad():
        vector = expected.forward_head(expected.forward_features(given), True)
        torch.testing.assert_close(encoder(given).vector, vector, atol=1e-5, rtol=1e-5)


def test_a_file_without_a_classifier(tmp_path: Path) -> None:
    model, file = saved(tmp_path, num_classes=0)
    encoder = build_encoder(settings(weights=str(file))).eval()
    given = images(encoder)
    with torch.no_grad():
        torch.testing.assert_close(encoder(given).grid, model.forward_features(given)[:, 1:], atol=1e-5, rtol=1e-5)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    other = build_encoder(settings(weights=str(tmp_path / "model.pth")))
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), other.parameters(), strict=True))


def test_a_file_that_does_not_fit(tmp_path: Path) -> None:
    """Nothing is left random without a word."""
    model, _ = saved(tmp_path)
    some = {key: value for key, value in model.state_dict().items() if "blocks.3.attn.qkv" not in key}
    save_file(some, tmp_path / "some.safetensors")
    with pytest.raises(WeightsError, match=r"some\.safetensors does not fit test_vit .*blocks\.3\.attn\.qkv"):
        build_encoder(settings(weights=str(tmp_path / "some.safetensors")))
    with pytest.raises(WeightsError, match="does not fit test_resnet"):
        build_encoder(settings("test_resnet", weights=str(tmp_path / "some.safetensors")))
    with pytest.raises(WeightsError, match="there is no such file"):
        build_encoder(settings(weights=str(tmp_path / "none.safetensors")))


def test_published_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = r"could not be downloaded .* from https://huggingface\.co/timm/vit_tiny_patch16_224\.\S+ elsewhere"
    with pytest.raises(WeightsError, match=message):
        build_encoder(settings("vit_tiny_patch16_224", weights="DEFAULT"))
    with pytest.raises(WeightsError, match="timm has no weights of resnetblur18"):
        build_encoder(settings("resnetblur18", weights="DEFAULT"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "vit_base_patch16_22"}, r"does not exist in timm .*Did you mean vit_base_patch16_224"),
        ({"name": "vit_base_patch16_224.augreg"}, r"timm has no weights 'augreg' .*augreg_in1k"),
        ({"image_size": 100}, r"encoder\.image_size=100 does not fit test_vit"),
        ({"weights": "IMAGENET"}, r"encoder\.weights='IMAGENET' does not exist for test_vit: expected DEFAULT"),
        ({"fine_tune_from": "blocks.9"}, r"'blocks\.9' is not a block of test_vit.*stem, blocks\.0, .*norm"),
        ({"name": "coat_tiny"}, r"'coat_tiny' has no square grid of regions"),
    ],
)
def test_a_mistake_is_one_message(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_encoder(settings(**values))  # type: ignore[arg-type]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'captioner\[timm\]'"):
        build_encoder(settings())
    build_encoder(EncoderConfig("squeezenet1_1", weights=None))  # nothing else needs it


@pytest.mark.parametrize("name", [VIT, "test_resnet"])
def test_the_last_blocks_can_be_trained(name: str) -> None:
    torch.manual_seed(0)
    first = {VIT: "blocks.4", "test_resnet": "layer4"}[name]
    encoder = build_encoder(settings(name, fine_tune_from=first)).train()
    assert encoder.frozen_blocks == encoder.blocks[: encoder.blocks.index(first)]
    given = images(encoder)
    features = encoder(given)
    (features.vector.sum() + features.grid.square().sum()).backward()
    trained = {name.split("trunk.")[1] for name, p in encoder.named_parameters() if p.grad is not None}
    assert trained
    assert all(p.requires_grad == (p.grad is not None) for p in encoder.parameters())
    part = encoder.frozen_part()
    assert part is not None
    stored = part(given).grid
    rebuilt = encoder.forward_trainable_part(stored, part.grid_size[0])
    torch.testing.assert_close(rebuilt.grid, features.grid)
    torch.testing.assert_close(rebuilt.vector, features.vector)
    encoder.freeze()
    assert encoder.frozen


@pytest.fixture
def dataset(tmp_path: Path) -> CaptionDataset:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    found = (CaptionedImage(number, tmp_path / f"{number}.jpg", ("a",)) for number in range(3))
    return CaptionDataset("tiny", "train", tuple(found))


def test_the_cache_stores_the_vector_beside_the_grid(dataset: CaptionDataset, tmp_path: Path) -> None:
    """Also where the vector is taken from grids that are stored already, and with a partly frozen encoder."""
    torch.manual_seed(0)
    encoder = build_encoder(settings()).eval()
    encoder.freeze()
    data, device = FolderConfig(num_workers=0), torch.device("cpu")
    pixels = open_features(dataset, encoder, with_grid=True, data=data, cache=CacheConfig(enabled=False), device=device)
    ((_, expected),) = pixels.batches([[2, 0, 1]])
    assert expected.grid is not None
    for folder, order in (("grids", [True, False]), ("vectors", [False])):
        for with_grid in order:
            cache = CacheConfig(directory=str(tmp_path / folder))
            found = cached_features(dataset, encoder, with_grid=with_grid, cache=cache, data=data, device=device)
            features = found.get([2, 0, 1])
            assert torch.equal(features.vector, expected.vector.half().float())
            assert (features.grid is not None) == with_grid
            if features.grid is not None:
                assert torch.equal(features.grid, expected.grid.half().float())
    partly = build_encoder(settings(fine_tune_from="blocks.5"))
    partly.load_state_dict(encoder.state_dict())
    cache = CacheConfig(directory=str(tmp_path / "partly"))
    source = open_features(dataset, partly, with_grid=True, data=data, cache=cache, device=device)
    ((_, features),) = source.batches([[2, 0, 1]])
    torch.testing.assert_close(features.vector, expected.vector, atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(features.grid, expected.grid, atol=5e-3, rtol=5e-3)


def test_lite_weights_of_tensorflow_in_timms_two_networks() -> None:
    """timm has EfficientNet-Lite twice, with equal names and shapes of tensors, so weights of one load into the other.

    tf_efficientnet_lite0 pads as TensorFlow, which is what the weights were trained with: it equals ours at every size.
    efficientnet_lite0 pads symmetrically and has another epsilon in BatchNorm. It equals them where TensorFlow's
    padding is symmetric as well (225, not 224), once the epsilon is the same, and nowhere otherwise.
    """
    weights = encoder_weights.read_state_dict(weights_file("efficientnet_lite0"))

    def features(name: str, size: int, epsilon: float | None = None) -> torch.Tensor:
        model = timm.create_model(name).eval()
        model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d) and epsilon is not None:
                layer.eps = epsilon
        with torch.no_grad():
            found: torch.Tensor = model.forward_features(torch.randn(1, 3, size, size, generator=generator(size)))
        return found

    def generator(size: int) -> torch.Generator:
        return torch.Generator().manual_seed(size)

    ours = build_encoder(EncoderConfig("efficientnet_lite0")).trunk.eval()
    assert any(isinstance(layer, SameConv2d) for layer in ours.modules())
    for size in (224, 225):
        with torch.no_grad():
            expected = ours(torch.randn(1, 3, size, size, generator=generator(size)))
        torch.testing.assert_close(features("tf_efficientnet_lite0", size), expected, atol=1e-4, rtol=1e-4)
        plain = features("efficientnet_lite0", size, epsilon=1e-3)
        distance = float((plain - expected).abs().max())
        assert distance < 1e-4 if size == 225 else distance > 1
        assert float((features("efficientnet_lite0", size) - expected).abs().max()) > 1
