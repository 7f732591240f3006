"""The encoder against torchvision's own forward passes, and its freezing, names and shapes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from torch import Tensor, nn
from torchvision.models import get_model

from captioner.config import EncoderConfig, TransformConfig
from captioner.errors import ConfigError
from captioner.nn.encoders import torchvision_cnn
from captioner.nn.encoders.build_encoder import available_encoders, build_encoder
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.encoders.trunk import feature_map_shape, run_in_chunks

CONF = Path(__file__).parents[3] / "conf" / "encoder"
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "encoders.md"

# One of each family that is quick to build, at a small image size; the others of the list are marked slow.
QUICK = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "vgg11_bn": 64,
}
SLOW = {
    "efficientnet_b3": 96,
    "efficientnet_v2_s": 64,
    "mobilenet_v3_large": 64,
    "regnet_x_400mf": 64,
    "resnet50": 64,
    "resnet101": 64,
    "resnet152": 64,
    "resnext50_32x4d": 64,
    "squeezenet1_0": 64,
    "vgg11": 64,
    "vgg16": 64,
    "vgg19": 64,
    "vgg19_bn": 64,
    "wide_resnet50_2": 64,
}


def random_encoder(name: str = "resnet18", image_size: int = 64, **settings: object) -> Encoder:
    """Random weights and random BatchNorm statistics, so that a missing BatchNorm is noticed."""
    config = dataclasses.replace(EncoderConfig(name, weights=None, image_size=image_size), **settings)
    encoder = build_encoder(config)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return encoder


def head_on(network: nn.Module, feature_map: Tensor) -> Tensor:
    """The logits that torchvision's own head gives for a feature map (B, D, rows, columns)."""
    if isinstance(network, torchvision.models.AlexNet | torchvision.models.VGG):
        return network.classifier(network.avgpool(feature_map).flatten(1))
    if isinstance(network, torchvision.models.SqueezeNet):
        return network.classifier(feature_map).flatten(1)
    vector = feature_map.mean((2, 3))
    if isinstance(network, torchvision.models.ConvNeXt):
        return network.classifier(vector[:, :, None, None])
    return network.fc(vector) if hasattr(network, "fc") else network.classifier(vector)


@pytest.mark.parametrize(
    ("name", "size"), [*QUICK.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())]
)
def test_is_the_network_up_to_its_head(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head(encoder(images)) equals torchvision's network: the right cut, all layers, the regions in order."""
    built: list[nn.Module] = []

    def remember(name: str, **options: object) -> nn.Module:
        built.append(get_model(name, **options))
        return built[0]

    monkeypatch.setattr(torchvision_cnn, "get_model", remember)
    encoder, images = random_encoder(name, size), torch.randn(2, 3, size, size)
    features = encoder(images)

    rows, columns = encoder.grid_size
    assert features.vector.shape == (2, encoder.feature_dim)
    assert features.grid.shape == (2, rows * columns, encoder.feature_dim)
    assert features.grid.is_contiguous()
    torch.testing.assert_close(features.vector, features.grid.mean(1))

    network = built[0].eval()
    feature_map = features.grid.transpose(1, 2).unflatten(2, encoder.grid_size)
    with torch.no_grad():
        expected = network(images)
        actual = head_on(network, feature_map)
    assert expected.std() > 0
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def build_shapes(config: EncoderConfig) -> Encoder:
    """The bare encoder without memory for its parameters, except torchvision's RegNets: they compute while built."""
    with torch.device("cpu" if config.name.startswith("regnet") else "meta"):
        return build_encoder(config, load_weights=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*available_encoders()} - {"none", "regnet_y_128gf"}))  # the last: 2.6 GB
def test_every_available_network_can_be_cut(name: str) -> None:
    encoder = build_shapes(EncoderConfig(name, weights=None))
    rows, columns = encoder.grid_size
    assert rows == columns > 1
    assert encoder.feature_dim >= 256
    assert encoder.blocks


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_scaling_by_the_transform_equals_scaling_by_the_network(name: str) -> None:
    """torchvision normalizes for ImageNet, and these two networks undo it (`transform_input`)."""
    pixels = torch.rand(1, 3, 8, 8)
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    network = get_model(name, weights=None, aux_logits=False, init_weights=False, transform_input=True)
    theirs = network._transform_input(torchvision.transforms.functional.normalize(pixels, preset.mean, preset.std))
    transform = build_encoder(EncoderConfig(name, weights=None)).transform
    ours = torchvision.transforms.functional.normalize(pixels, transform.mean, transform.std)
    torch.testing.assert_close(ours, theirs)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "weights", "size", "interpolation", "normalisation"),
    [
        ("efficientnet_lite0", "DEFAULT", 224, "bicubic", ((127 / 255,) * 3, (128 / 255,) * 3)),
        ("efficientnet_lite1", "DEFAULT", 240, "bicubic", ((127 / 255,) * 3, (128 / 255,) * 3)),
        ("efficientnet_lite2", None, 260, "bicubic", ((127 / 255,) * 3, (128 / 255,) * 3)),
        ("efficientnet_b1", "IMAGENET1K_V1", 240, "bicubic", IMAGENET),
        ("efficientnet_b1", "IMAGENET1K_V2", 240, "bilinear", IMAGENET),
        ("efficientnet_v2_l", "DEFAULT", 480, "bicubic", HALF),
        ("inception_v3", "DEFAULT", 299, "bilinear", HALF),
        ("resnet50", "ResNet50_Weights.IMAGENET1K_V1", 224, "bilinear", IMAGENET),
        ("resnet50", "somewhere/else.pth", 224, "bilinear", IMAGENET),
        ("resnet50", None, 224, "bilinear", IMAGENET),
    ],
)
def test_declares_the_preprocessing_of_its_weights(
    name: str, weights: str | None, size: int, interpolation: str, normalisation: tuple[tuple[float, ...], ...]
) -> None:
    encoder = build_shapes(EncoderConfig(name, weights=weights, resize="crop"))
    expected = TransformConfig(size, "crop", interpolation, *normalisation)
    assert dataclasses.asdict(encoder.transform) == dataclasses.asdict(expected)


def test_the_bare_network_takes_the_weights_of_the_loaded_one() -> None:
    config = EncoderConfig("efficientnet_lite0", image_size=64)
    loaded, bare = build_encoder(config), build_encoder(config, load_weights=False)
    images = torch.randn(1, 3, 64, 64)
    assert not torch.equal(loaded(images).vector, bare(images).vector)
    bare.load_state_dict(loaded.state_dict())
    assert torch.equal(loaded(images).vector, bare(images).vector)
    assert (bare.grid_size, bare.feature_dim, bare.transform) == (
        loaded.grid_size,
        loaded.feature_dim,
        loaded.transform,
    )


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("right", [False, True])
def test_regions_are_in_reading_order(low: bool, right: bool) -> None:
    """A change in one corner of the image changes a region of that corner most."""
    encoder = build_encoder(EncoderConfig("efficientnet_lite0"))
    image = torch.zeros(1, 3, 224, 224)
    changed = image.clone()
    changed[:, :, low * 160 :, right * 160 :][:, :, :64, :64] = torch.randn(64, 64)
    difference = (encoder(changed).grid - encoder(image).grid).square().sum(2)
    row, column = divmod(int(difference.argmax()), encoder.grid_size[1])
    assert (row >= 4, column >= 4) == (low, right)
    assert 3 not in (row, column)


# ----------------------------------------------------------------------------- freezing and fine-tuning


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_frozen_encoder_does_not_change(name: str) -> None:
    """No gradients, no BatchNorm update and no stochastic depth."""
    encoder = random_encoder(name)
    before = copy.deepcopy(encoder.state_dict())
    images = torch.randn(4, 3, 64, 64, requires_grad=True)
    first, second = encoder.train()(images), encoder.train()(images)
    assert encoder.frozen
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not first.vector.requires_grad
    assert not first.grid.requires_grad
    assert torch.equal(first.grid, second.grid)
    assert torch.equal(first.grid, encoder.eval()(images).grid)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("batch_norm_eval", [True, False])
def test_only_the_blocks_from_the_named_one_on_are_trained(batch_norm_eval: bool) -> None:
    encoder = random_encoder(fine_tune_from="layer3", batch_norm_eval=batch_norm_eval).train()
    before = copy.deepcopy(encoder.state_dict())
    encoder(torch.randn(2, 3, 64, 64)).grid.square().sum().backward()
    learning = ("trunk.layer3.", "trunk.layer4.")
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == name.startswith(learning), name
    for key, value in encoder.state_dict().items():
        moved = not batch_norm_eval and key.startswith(learning) and "running" in key
        if "num_batches_tracked" not in key:
            assert torch.equal(value, before[key]) != moved, key


def test_frozen_blocks_before_a_trainable_one_stay_in_eval_mode() -> None:
    encoder = random_encoder("efficientnet_b0", fine_tune_from="features.7").train()
    modes = {name: encoder.trunk.get_submodule(name).training for name in encoder.blocks}
    assert modes == {name: name in ("features.7", "features.8") for name in encoder.blocks}
    assert not any(module.training for module in encoder.eval().modules())


def test_a_trainable_and_a_frozen_encoder_agree() -> None:
    frozen = random_encoder()
    learning = random_encoder(fine_tune_from="conv1")
    learning.load_state_dict(frozen.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(learning(images).grid, frozen(images).grid, rtol=1e-4, atol=1e-4)
    assert learning.blocks == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


def test_a_frozen_encoder_records_no_gradients() -> None:
    with torch.no_grad():
        assert not random_encoder(fine_tune_from="layer4")(torch.randn(1, 3, 64, 64)).grid.requires_grad


def test_freeze_and_unfreeze() -> None:
    encoder = random_encoder(fine_tune_from="layer4").train()
    images = torch.randn(2, 3, 64, 64)
    expected = encoder.eval()(images).grid.detach()
    encoder.freeze()
    assert encoder.frozen
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    torch.testing.assert_close(encoder(images).grid, expected, rtol=1e-4, atol=1e-4)
    encoder.unfreeze()
    learning = {name.split(".")[1] for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert learning == {"layer4"}
    assert torch.equal(encoder(images).grid.detach(), expected)


@pytest.mark.parametrize("batch_norm_eval", [True, False])
@pytest.mark.parametrize(
    ("name", "fine_tune_from"), [("resnet18", "conv1"), ("resnet18", "layer3"), ("efficientnet_b0", "features.7")]
)
def test_gradient_checkpointing_changes_nothing(name: str, fine_tune_from: str, batch_norm_eval: bool) -> None:
    """Features, gradients, stochastic depth (EfficientNet) and BatchNorm statistics do not change."""
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = random_encoder(
            name,
            fine_tune_from=fine_tune_from,
            gradient_checkpointing=checkpointing,
            batch_norm_eval=batch_norm_eval,
        ).train()
        for _ in range(2):
            grid = encoder(torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)).grid
            grid.square().sum().backward()
        gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
        found.append([grid.detach(), *gradients, *encoder.state_dict().values()])
        assert all(layer.momentum for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d))
    assert len(found[0]) == len(found[1])
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_trainable_blocks_keep_channels_last() -> None:
    """The fastest layout for convolutions is kept from block to block."""
    encoder = random_encoder(fine_tune_from="layer2").train()
    layouts: list[bool] = []
    for block in ("layer2", "layer3", "layer4"):
        encoder.trunk.get_submodule(block).register_forward_hook(
            lambda module, inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
        )
    encoder(torch.randn(2, 3, 64, 64))
    assert layouts == [True, True, True]


def test_gradient_checkpointing_stores_less() -> None:
    def kept(checkpointing: bool) -> int:
        sizes: list[int] = []
        encoder = random_encoder(fine_tune_from="conv1", gradient_checkpointing=checkpointing).train()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda x: x
        ):
            encoder(torch.randn(2, 3, 64, 64))
        return sum(sizes)

    assert kept(True) < 0.5 * kept(False)


# --------------------------------------------------------------------- the fused copy of frozen blocks


@pytest.mark.parametrize("fine_tune_from", [None, "features.12"])
def test_grid_size_averages_the_last_feature_map(fine_tune_from: str | None) -> None:
    """Coarser or finer; the vector is the mean of the averaged regions, and the feature cache tells the two apart."""
    plain = build_encoder(EncoderConfig("squeezenet1_1", weights=None, image_size=96))
    config = EncoderConfig("squeezenet1_1", weights=None, image_size=96, grid_size=7, fine_tune_from=fine_tune_from)
    pooled = build_encoder(config)
    pooled.trunk.load_state_dict(plain.trunk.state_dict())
    assert (plain.grid_size, pooled.grid_size) == ((5, 5), (7, 7))
    images = torch.randn(2, 3, 96, 96)
    grid = plain.eval()(images).grid.transpose(1, 2).unflatten(2, (5, 5))
    expected = nn.functional.adaptive_avg_pool2d(grid, 7).flatten(2).transpose(1, 2)
    found = pooled.eval()(images)
    torch.testing.assert_close(found.grid, expected)
    torch.testing.assert_close(found.vector, expected.mean(1))
    assert pooled.name != plain.name


def test_the_fused_copy_is_not_in_the_state_dict() -> None:
    encoder = random_encoder()
    keys = list(encoder.state_dict())
    encoder(torch.randn(1, 3, 64, 64))
    assert list(encoder.state_dict()) == keys
    assert any("running_mean" in key for key in keys)


def test_the_fused_copy_follows_loaded_weights() -> None:
    encoder, other = nn.Sequential(random_encoder()), nn.Sequential(random_encoder())
    images = torch.randn(1, 3, 64, 64)
    assert not torch.equal(encoder(images).vector, other(images).vector)
    encoder.load_state_dict(other.state_dict())
    assert torch.equal(encoder(images).vector, other(images).vector)


def test_the_fused_copy_follows_a_move() -> None:
    encoder = nn.Sequential(random_encoder())
    images = torch.randn(1, 3, 64, 64)
    single = encoder(images).vector
    double = encoder.double()(images.double()).vector
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 8, 11])
def test_images_do_not_depend_on_their_batch(count: int) -> None:
    encoder = random_encoder()
    images = torch.randn(count, 3, 64, 64)
    one_by_one = torch.cat([encoder(image[None]).grid for image in images])
    torch.testing.assert_close(encoder(images).grid, one_by_one, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------- mistakes in the settings


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", r"does not exist\. Did you mean .*resnet50"),
        ("efficientnet_lite3", r"Did you mean .*efficientnet_lite"),
        ("vit_b_16", "is a vision transformer"),
        ("swin_t", "is a vision transformer"),
        ("maxvit_t", "is a vision transformer"),
        ("fasterrcnn_resnet50_fpn", "is a detection model"),
        ("fcn_resnet50", "is a segmentation model"),
        ("r3d_18", "is a video model"),
        ("raft_small", "is an optical flow model"),
        ("quantized_resnet18", "is a quantization model"),
    ],
)
def test_other_networks_than_classification_cnns_are_errors(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(EncoderConfig(name))


def test_an_unknown_block_is_an_error_before_weights_are_read() -> None:
    config = EncoderConfig("resnet18", weights="/nowhere.pth", fine_tune_from="layer5")
    with pytest.raises(ConfigError, match=r"Did you mean layer\d.* Its blocks are: conv1, bn1, layer1"):
        build_encoder(config)


class Pooled(nn.Module):
    """A network of the user's, with a setting that is no module's."""

    def __init__(self, size: int, padding: int) -> None:
        super().__init__()
        self.size = size
        self.convolution = nn.Conv2d(3, 4, 3, padding=padding)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(self.convolution(images), self.size)


def test_the_feature_map_has_the_shape_of_each_network() -> None:
    """Shapes are computed once for each network: all that they depend on tells one network from another."""
    for _ in range(2):
        for size, padding, image_size in itertools.product((1, 2, 4), (0, 1), (18, 34)):
            trunk = nn.Sequential(Pooled(size, padding))
            expected = tuple(trunk(torch.zeros(1, 3, image_size, image_size)).shape[1:])
            assert feature_map_shape("pooled", trunk, image_size) == expected
        with pytest.raises(ConfigError, match="image_size=4 is too small for pooled"):
            feature_map_shape("pooled", nn.Sequential(Pooled(4, 0)), 4)


def test_too_small_images_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"image_size=40 is too small for inception_v3"):
        build_encoder(EncoderConfig("inception_v3", weights=None, image_size=40))


# --------------------------------------------------------------------------------- conf/encoder, docs


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_of_conf_encoder_is_described_correctly(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    if path.stem == "torchvision":
        assert values == {"name": "???"}
        return
    if path.stem == "none":
        assert values == {"name": "none", "weights": None}
        return
    if path.stem == "timm":
        assert values == {"name": "???", "library": "timm"}
        return
    assert values["name"] == path.stem
    encoder = build_shapes(EncoderConfig(**values))
    millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    rows, columns = encoder.grid_size
    size, first, last = encoder.transform.size, encoder.blocks[0], encoder.blocks[-1]
    comment = f"# {millions:.1f} million parameters, D = {encoder.feature_dim}, grid {rows}×{columns} at {size} px."
    assert comment in text
    row = (
        f"| `{path.stem}` | {millions:.1f} | {encoder.feature_dim} | {rows}×{columns} | {size} | `{first}` … `{last}` |"
    )
    assert row in DOCUMENTATION.read_text(encoding="utf-8")


def test_the_default_file_lists_every_setting_with_its_default() -> None:
    values = yaml.safe_load((CONF / "efficientnet_lite0.yaml").read_text(encoding="utf-8"))
    assert values == dataclasses.asdict(EncoderConfig())


@pytest.mark.parametrize(
    ("images", "size", "chunks"),
    [(20, 32, [7, 7, 6]), (32, 64, [8] * 4), (1, 64, [1]), (0, 64, [0]), (14, 224, [5, 5, 4]), (9, 512, [3, 3, 3])],
)
def test_images_go_through_the_network_in_even_parts(images: int, size: int, chunks: list[int]) -> None:
    """At most 8 at a time; of large ones fewer, but 4 at a time are allowed, whatever their size."""
    seen = []

    class Corner(nn.Module):
        def forward(self, part: Tensor) -> Tensor:
            seen.append(len(part))
            return part[:, 0, 0, 0]

    numbers = torch.arange(images, dtype=torch.float32)
    assert torch.equal(run_in_chunks(Corner(), numbers.view(-1, 1, 1, 1).expand(-1, 3, size, size)), numbers)
    assert seen == chunks
