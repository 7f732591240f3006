"""The classes that an encoder's network was trained to tell apart: ImageNet's 1,000, for each image and each region.

An encoder is a classification network without its head. Where its weights are published ones, the head is published
too, and so are the blocks that fine-tuning has changed since. `build_class_head` puts the original blocks and head on
top of the blocks that the encoder still shares with the original, so only these original blocks are computed anew: a
fifth of EfficientNet-Lite0 with the encoder fine-tuned from features.6 on. No weight is stored for this.

    head = build_class_head(config, encoder)  # None where the network has no classes
    features, shared = encoder.forward_with_frozen(images)
    probabilities = head(images, shared).probabilities  # (B, 1000)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import ENCODERS, EncoderConfig
from captioner.errors import ConfigError, WeightsError
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.build_encoder import encoder_network
from captioner.nn.encoders.efficientnet_lite import VARIANTS
from captioner.nn.encoders.encoder import Encoder, FrozenPart
from captioner.nn.encoders.fuse_batch_norm import fuse_batch_norm
from captioner.nn.encoders.trunk import run_in_chunks
from captioner.nn.types import ImageFeatures

_AUXILIARY = frozenset({"aux1", "aux2", "AuxLogits"})  # classifiers of torchvision that only training uses


@dataclass(frozen=True, eq=False)
class ClassScores:
    """What a classification network says of B images.

    logits: (B, 1000), in ImageNet's usual order.
    """

    logits: Float[Tensor, "B 1000"]
    _map: Float[Tensor, "B D h w"]
    _head: ClassHead

    @property
    def probabilities(self) -> Float[Tensor, "B 1000"]:
        """softmax(logits)."""
        return self.logits.softmax(dim=1)

    def image(self, index: int) -> ClassScores:
        """The scores of one image."""
        return ClassScores(self.logits[index : index + 1], self._map[index : index + 1], self._head)

    def region_logits_of_image(self, index: int, classes: Sequence[int]) -> np.ndarray:
        """`region_logits` (C, rows, columns) of one image, as an array."""
        found: np.ndarray = self.image(index).region_logits(classes)[0].float().cpu().numpy()
        return found

    def region_logits(self, classes: Sequence[int]) -> Float[Tensor, "B C rows columns"]:
        """The logits of `classes` in each region: the head applied to the region alone (Zhou et al. 2016, "CAM").

        For a head that is linear after its mean over the regions, such as EfficientNet's and ResNet's, the mean over
        the regions is the image's logit.
        """
        images, _, rows, columns = self._map.shape
        regions = self._map.permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None]
        logits = self._head.logits(regions, torch.tensor(list(classes), device=regions.device))
        return logits.view(images, rows, columns, len(classes)).permute(0, 3, 1, 2)


class ClassHead(nn.Module):
    """The original upper blocks and the classifier of an encoder's network, frozen.

    from_images: whether the encoder shares no block with the original, so that the whole network is computed.
    """

    def __init__(self, upper: nn.Sequential, head: nn.Module, last: nn.Linear, from_images: bool) -> None:
        super().__init__()
        self.upper, self.head, self.last, self.from_images = upper, head, last, from_images
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"], shared: Float[Tensor, "B C h w"]) -> ClassScores:
        """images: as for the encoder; shared: the feature map that `Encoder.forward_with_frozen` returns beside."""
        first = images if self.from_images else shared
        found = run_in_chunks(self.upper, first.contiguous(memory_format=torch.channels_last))
        return ClassScores(self.logits(found), found, self)

    def logits(self, feature_map: Float[Tensor, "B D h w"], classes: Int[Tensor, " C"] | None = None) -> Tensor:
        """The head on the network's last feature map: logits (B, 1000), or (B, C), only those of `classes`."""
        hidden = self.head(feature_map)
        weight: Tensor = self.last.weight
        bias: Tensor | None = self.last.bias
        if classes is not None:
            weight = weight.index_select(0, classes)
            bias = None if bias is None else bias.index_select(0, classes)
        return F.linear(hidden, weight, bias)


class Classifier(FrozenPart):
    """Images → the logits of the classes, in place of an encoder's features, so that the feature cache can store them.

    name, transform, feature_dim, grid_size and vector_is_mean are as in `Encoder`; there is one region.
    """

    def __init__(self, encoder: Encoder, head: ClassHead) -> None:
        nn.Module.__init__(self)  # it has the attributes of a FrozenPart, and other blocks
        self.encoder, self.head = encoder, head
        self.name, self.transform = f"{encoder.name}_classes", encoder.transform
        self.feature_dim, self.grid_size, self.vector_is_mean = head.last.out_features, (1, 1), True

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """vector (B, 1000) and grid (B, 1, 1000), the logits."""
        shared = images if self.head.from_images else self.encoder.frozen_features(images)
        logits = self.head(images, shared).logits
        return ImageFeatures(logits, logits[:, None])


def build_class_head(config: EncoderConfig, encoder: Encoder, *, download: bool = False) -> ClassHead | None:
    """The class head for `encoder`, which `config` describes; None where its network has no published classifier.

    The network must be one of torchvision's CNNs or an EfficientNet-Lite with published weights.
    download: may torchvision's weights be downloaded? Otherwise WeightsError if they are not on this machine.
    """
    if not has_class_head(config):
        return None
    network = encoder_network(config)
    assert network.whole is not None  # `has_class_head`
    assert network.read_weights is not None
    if not download:
        _check_is_here(config)
    state_dict, source = network.read_weights(str(config.weights))
    published = encoder_weights.fit_to_trunk(network.whole, state_dict, _AUXILIARY, source)
    network.whole.load_state_dict(published, strict=False)
    linear_name, linear = _last_layer(network.whole)
    if not isinstance(linear, nn.Linear):
        return None
    shares = _shares_frozen_blocks(encoder, published)
    original = Encoder(config.name, network.trunk, network.transform, config.fine_tune_from)
    if encoder.fine_tuning_paused:
        original.freeze()
    upper = nn.Sequential(*original.trainable_part()) if shares else network.trunk
    upper = nn.Sequential(*fuse_batch_norm(upper).children())
    for name, _ in list(network.trunk.named_children()):
        setattr(network.whole, name, nn.Identity())
    parent, _, name = linear_name.rpartition(".")
    setattr(network.whole.get_submodule(parent), name, nn.Identity())
    device = next(encoder.parameters()).device
    return ClassHead(upper, network.whole, linear, from_images=not shares).to(device)


def find_class_head(config: EncoderConfig, encoder: Encoder) -> ClassHead | None:
    """`build_class_head`; None also where the weights of the classifier are not on this machine."""
    try:
        return build_class_head(config, encoder)
    except WeightsError:
        return None


def linear_classifier(config: EncoderConfig, who: str) -> nn.Linear:
    """The published classifier of an encoder's network, where it is one linear layer on the mean of the grid.

    ConfigError where there is none, or where fine-tuning would change what it reads; `who`: what needs it, for the
    message.
    """
    if config.fine_tune_from is not None:
        raise ConfigError(
            f"{who} reads ImageNet's classes from the encoder's features, which encoder.fine_tune_from="
            f"{config.fine_tune_from} would change: leave it null."
        )
    network = encoder_network(config) if has_class_head(config) else None
    if network is None or network.whole is None or network.read_weights is None:
        raise ConfigError(
            f"{who} needs an encoder with published weights and their ImageNet classifier, such as "
            f"encoder=efficientnet_lite0 with encoder.weights=DEFAULT; encoder.name={config.name} with encoder.weights="
            f"{config.weights} has none."
        )
    name, linear = _last_layer(network.whole)
    others = {*network.trunk.parameters(), *linear.parameters()}
    if not isinstance(linear, nn.Linear) or any(part not in others for part in network.whole.parameters()):
        raise ConfigError(
            f"{who} needs an encoder whose classifier is one linear layer on the mean of the grid, such as "
            f"efficientnet_lite0 or resnet50; that of {config.name} has more layers."
        )
    state_dict, source = network.read_weights(str(config.weights))
    published = encoder_weights.fit_to_trunk(network.whole, state_dict, _AUXILIARY, source)
    with torch.no_grad():
        linear.weight.copy_(published[f"{name}.weight"])
        linear.bias.copy_(published[f"{name}.bias"])
    return linear


def has_class_head(config: EncoderConfig) -> bool:
    """Whether the settings name a classification network with published weights."""
    if config.weights is None or encoder_weights.looks_like_file(config.weights) or config.library != "torchvision":
        return False
    if config.name in ENCODERS:
        return config.name in VARIANTS
    from captioner.nn.encoders.torchvision_cnn import torchvision_names

    return config.name in torchvision_names()


def _check_is_here(config: EncoderConfig) -> None:
    """WeightsError where the published weights of a torchvision network would have to be downloaded."""
    if config.name in VARIANTS:
        return
    cached = encoder_weights.cached_file(encoder_weights.torchvision_entry(config.name, config.weights))
    if not cached.is_file():
        raise WeightsError(f"The published weights of {config.name}, with its classifier, are not at {cached}.")


def _last_layer(network: nn.Module) -> tuple[str, nn.Module]:
    """The name of the last layer of a classification network, and the layer."""
    *_, last = ((name, module) for name, module in network.named_modules() if not list(module.children()))
    return last


def _shares_frozen_blocks(encoder: Encoder, published: Mapping[str, Tensor]) -> bool:
    """Whether the encoder's frozen blocks are, bit by bit, the published ones."""
    prefixes = tuple(f"{block}." for block in encoder.frozen_blocks)
    frozen = {name: tensor for name, tensor in encoder.trunk.state_dict().items() if name.startswith(prefixes)}
    return bool(frozen) and all(
        torch.equal(tensor.cpu(), published[name]) for name, tensor in frozen.items() if name in published
    )
