"""The classification CNNs of torchvision as encoders.

Imported where one is used, because torchvision imports torch.compile and much else: 2 seconds and 170 MB.
"""

from __future__ import annotations

from functools import partial

import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_builder, list_models

from captioner.config import ENCODERS, EncoderConfig, TransformConfig
from captioner.errors import ConfigError, near_misses
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.trunk import EncoderNetwork, cut_head

# They scale pixels to [-1, 1] themselves (`transform_input`); here the transform does, in one step.
_SCALE_THEMSELVES = frozenset({"googlenet", "inception_v3"})
_TRANSFORMERS = ("vit_", "swin_", "maxvit_")


def torchvision_names() -> list[str]:
    """The names of the classification CNNs that the installed torchvision has."""
    return [name for name in list_models(module=torchvision.models) if not name.startswith(_TRANSFORMERS)]


def torchvision_network(config: EncoderConfig) -> EncoderNetwork:
    """The network called `config.name`. ConfigError where torchvision has none, or its weights do not exist."""
    _check_name(config.name)
    preset = encoder_weights.torchvision_entry(config.name, config.weights).transforms()
    scales_itself = config.name in _SCALE_THEMSELVES
    transform = TransformConfig(
        size=config.image_size or preset.crop_size[0],
        resize=config.resize,
        interpolation=preset.interpolation.value,
        mean=(0.5, 0.5, 0.5) if scales_itself else tuple(preset.mean),
        std=(0.5, 0.5, 0.5) if scales_itself else tuple(preset.std),
    )
    options = {"aux_logits": False, "init_weights": False} if scales_itself else {}
    network = get_model(config.name, weights=None, **options)
    trunk = cut_head(network)
    if isinstance(network, torchvision.models.DenseNet):
        trunk.add_module("relu", nn.ReLU(inplace=True))  # DenseNet applies it in forward()
    return EncoderNetwork(trunk, transform, partial(_read_weights, config.name), whole=network)


def _read_weights(name: str, wanted: str) -> tuple[dict[str, Tensor], str]:
    if encoder_weights.looks_like_file(wanted):
        return encoder_weights.read_weights_file(wanted)
    entry = encoder_weights.torchvision_entry(name, wanted)
    return encoder_weights.download(name, entry), entry.url


def _check_name(name: str) -> None:
    """ConfigError that says why, unless `name` is a classification CNN of torchvision."""
    names = torchvision_names()
    if name in names:
        return
    if name not in list_models():
        raise ConfigError(
            f"encoder.name={name!r} does not exist.{near_misses(name, [*ENCODERS, *names])} "
            f"Expected {', '.join(ENCODERS)}, or a classification CNN of torchvision such as resnet50."
        )
    if name.startswith(_TRANSFORMERS):
        kind = "a vision transformer"
    else:  # torchvision.models.<task>.<architecture>
        task = get_model_builder(name).__module__.split(".")[2].replace("_", " ")
        kind = f"{'an' if task[0] in 'aeiou' else 'a'} {task} model"
    raise ConfigError(
        f"encoder.name={name!r} is {kind}: expected a classification CNN, whose last feature map "
        "is a grid over one image, such as efficientnet_lite0 or resnet50."
    )
