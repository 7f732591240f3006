"""Weights from files and downloads: fitting ones are loaded, others are errors, nothing is executed or left behind."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, get_model

from captioner.config import EncoderConfig
from captioner.errors import ConfigError, WeightsError
from captioner.nn.encoders import efficientnet_lite as lite
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.encoder import Encoder

StateDict = dict[str, Tensor]


@pytest.fixture(scope="module")
def resnet18() -> StateDict:
    """A whole random ResNet-18 with its head, as torchvision publishes it."""
    torch.manual_seed(1)
    return dict(get_model("resnet18", weights=None).state_dict())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache of downloads, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def build(name: str, weights: Path | str) -> Encoder:
    return build_encoder(EncoderConfig(name, weights=str(weights), image_size=64))


def assert_holds(encoder: Encoder, state_dict: StateDict) -> None:
    for key, value in encoder.trunk.state_dict().items():
        assert torch.equal(value, state_dict[key]), key


# ------------------------------------------------------------------------------------- state-dict files


def test_loads_a_file_that_torch_wrote(resnet18: StateDict, tmp_path: Path) -> None:
    torch.save(resnet18, tmp_path / "weights.pth")
    assert_holds(build("resnet18", tmp_path / "weights.pth"), resnet18)


def test_loads_safetensors_without_a_head(resnet18: StateDict, tmp_path: Path) -> None:
    trunk_only = {key: value for key, value in resnet18.items() if not key.startswith("fc.")}
    save_file(trunk_only, tmp_path / "weights.safetensors")
    assert_holds(build("resnet18", tmp_path / "weights.safetensors"), resnet18)


@pytest.mark.parametrize("name", ["mnasnet1_0", "googlenet", "inception_v3", "squeezenet1_1"])
def test_loads_networks_with_unusual_state_dicts(name: str, tmp_path: Path) -> None:
    """MNASNet needs metadata that safetensors lacks; the published Inceptions have auxiliary heads."""
    options = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    state_dict = dict(get_model(name, weights=None, **options).state_dict())
    save_file(state_dict, tmp_path / "weights.safetensors")
    encoder = build_encoder(EncoderConfig(name, weights=str(tmp_path / "weights.safetensors"), image_size=96))
    assert_holds(encoder, state_dict)


def test_loads_the_names_of_the_published_densenets(tmp_path: Path) -> None:
    state_dict = dict(get_model("densenet121", weights=None).state_dict())
    published = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): v for key, v in state_dict.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    torch.save(published, tmp_path / "densenet.pth")
    assert_holds(build("densenet121", tmp_path / "densenet.pth"), state_dict)


def test_loads_files_older_than_the_count_of_batches(resnet18: StateDict, tmp_path: Path) -> None:
    old = {key: value for key, value in resnet18.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    assert_holds(build("resnet18", tmp_path / "old.pth"), resnet18)


@pytest.mark.parametrize("layout", ["published", "torchvision"])
def test_loads_lite_weights_from_a_file_in_either_layout(layout: str, tmp_path: Path) -> None:
    expected = build("efficientnet_lite0", "DEFAULT")
    path = lite.weights_file("efficientnet_lite0")
    if layout == "torchvision":
        path = tmp_path / "lite.pth"
        torch.save(dict(expected.trunk.state_dict()), path)
    assert_holds(build("efficientnet_lite0", path), dict(expected.trunk.state_dict()))


def without(state_dict: StateDict, *prefixes: str) -> StateDict:
    return {key: value for key, value in state_dict.items() if not key.startswith(prefixes)}


def test_names_what_is_missing(resnet18: StateDict, tmp_path: Path) -> None:
    torch.save(without(resnet18, "conv1", "layer4"), tmp_path / "weights.pth")
    with pytest.raises(
        WeightsError, match=r"weights\.pth .* lacks conv1\.weight, layer4\.0.* and \d+ more\. Check that"
    ):
        build("resnet18", tmp_path / "weights.pth")


def test_names_what_is_left_over(resnet18: StateDict, tmp_path: Path) -> None:
    torch.save({**resnet18, "layer5.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"has unknown layer5\.weight\."):
        build("resnet18", tmp_path / "weights.pth")


def test_names_what_has_another_shape(resnet18: StateDict, tmp_path: Path) -> None:
    torch.save({**resnet18, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"has other shapes for conv1\.weight\."):
        build("resnet18", tmp_path / "weights.pth")


def test_another_lite_variant_is_an_error() -> None:
    with pytest.raises(WeightsError, match="belong to another variant"):
        build("efficientnet_lite1", lite.weights_file("efficientnet_lite0"))


class Trap:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_executes_nothing_in_a_file(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "executed")}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="cannot be read as a state dict"):
        build("resnet18", tmp_path / "weights.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"these are not weights", b"PK\x03\x04 cut short"])
def test_a_broken_file_is_an_error(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.\w+ cannot be read as a state dict"):
        build("resnet18", tmp_path / name)


def test_a_file_that_is_not_a_state_dict_is_an_error(resnet18: StateDict, tmp_path: Path) -> None:
    torch.save({"model": resnet18, "epoch": 3}, tmp_path / "training.pth")
    with pytest.raises(WeightsError, match=r"holds a dict of model, epoch: expected a state dict"):
        build("resnet18", tmp_path / "training.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"holds a list: expected a state dict"):
        build("resnet18", tmp_path / "list.pth")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"encoder\.weights=no/such\.pth: there is no such file"):
        build("resnet18", "no/such.pth")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "resnet50",
            "IMAGENET1K_V3",
            r"does not exist for resnet50\. Did you mean IMAGENET1K_V\d.* Choose one of: IMAG",
        ),
        ("resnet18", "IMAGENET1K_V2", r"does not exist for resnet18.*Choose one of: IMAGENET1K_V1, DEFAULT, a state"),
        ("efficientnet_lite0", "IMAGENET1K_V1", r"expected DEFAULT, a state-dict file, or null"),
    ],
)
def test_an_unknown_set_of_weights_names_the_available_ones(name: str, weights: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, weights)


# ------------------------------------------------------------------------------------------- downloads


def publish(state_dict: StateDict, folder: Path, monkeypatch: pytest.MonkeyPatch, checksum: str | None = None) -> Path:
    """Make torchvision's entry for ResNet-18 point at a local file, named after its checksum as torch expects."""
    folder.mkdir()
    torch.save(state_dict, folder / "new.pth")
    digest = checksum or hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    path = (folder / "new.pth").rename(folder / f"resnet18-{digest}.pth")
    monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", path.as_uri())
    return path


def test_downloads_once_and_keeps_stdout_clean(
    resnet18: StateDict,
    hub: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    published = publish(resnet18, tmp_path / "server", monkeypatch)
    assert_holds(build("resnet18", "DEFAULT"), resnet18)
    assert [path.name for path in hub.iterdir()] == [published.name]
    published.unlink()
    assert_holds(build("resnet18", "IMAGENET1K_V1"), resnet18)
    assert capsys.readouterr().out == ""


def test_a_failed_checksum_leaves_nothing_behind(
    resnet18: StateDict, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(resnet18, tmp_path / "server", monkeypatch, checksum="00000000")
    with pytest.raises(WeightsError, match=r"could not be downloaded .*invalid hash"):
        build("resnet18", "DEFAULT")
    assert list(hub.iterdir()) == []


def test_offline_names_every_alternative(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(WeightsError) as caught:
        build("resnet18", "DEFAULT")
    message = str(caught.value)
    file_name = ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    assert ResNet18_Weights.DEFAULT.url in message
    assert f"encoder.weights=/path/to/{file_name}" in message
    assert str(hub / file_name) in message
    assert "efficientnet_lite0" in message
    assert "encoder.weights=null" in message
    assert list(hub.iterdir()) == []


def test_a_damaged_cache_says_what_to_delete(hub: Path) -> None:
    hub.mkdir(parents=True)
    cached = hub / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    cached.write_bytes(b"half a downl")
    with pytest.raises(WeightsError, match=rf"{re.escape(str(cached))} cannot be read .*Delete it"):
        build("resnet18", "DEFAULT")


def test_nothing_is_read_for_a_bare_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(torch.hub, "urlopen", fail)
    monkeypatch.setattr(torch, "load", fail)
    for name, weights in (
        ("resnet18", "DEFAULT"),
        ("resnet18", "/no/such/file.pth"),
        ("efficientnet_lite0", "DEFAULT"),
    ):
        config = EncoderConfig(name, weights=weights, image_size=64)
        assert isinstance(build_encoder(config, load_weights=False), nn.Module)
