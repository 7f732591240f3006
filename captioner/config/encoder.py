"""The encoder, and how images are prepared for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError
from captioner.registry import Registry

NO_ENCODER_NAME = "none"  # for models that are trained on features made elsewhere
LARGEST_IMAGE = 4096  # pixels per side; a larger value is a typo


@dataclass
class TransformConfig:
    """The preprocessing of images, stored in the checkpoint. Pixel values are in [0, 1] before normalization."""

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "resize": ("squash", "crop"),
        "interpolation": ("bilinear", "bicubic", "lanczos"),
        "stretch": ("none", "percentile"),
    }

    size: int = 224  # height and width in pixels
    resize: str = "squash"  # squash: the whole image, stretched to a square; crop: the central square
    interpolation: str = "bilinear"  # bilinear, bicubic or lanczos, antialiased
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of each color channel, subtracted
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)  # of each color channel, divided by
    stretch: str = "none"  # none, or percentile: spread each image's values from its 2nd to its 98th percentile

    def __post_init__(self) -> None:
        within("transform.size", self.size, 1, LARGEST_IMAGE)
        check_choices("transform", self)
        if not all(map(math.isfinite, self.mean)):
            raise ConfigError(f"transform.mean={list(self.mean)}: expected three numbers.")
        if not all(0 < value < math.inf for value in self.std):
            raise ConfigError(f"transform.std={list(self.std)}: expected three numbers above 0.")


@dataclass
class EncoderConfig:
    """A convolutional network or a vision transformer, cut at its last feature map."""

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "resize": TransformConfig.choices["resize"],
        "library": ("torchvision", "timm"),
    }

    name: str = "efficientnet_lite0"  # efficientnet_lite0, …_lite1, …_lite2, or any classification CNN of torchvision
    library: str = "torchvision"  # where a name that is not built in is looked up: torchvision or timm
    weights: str | None = "DEFAULT"  # DEFAULT, the name of torchvision weights, a state-dict file, or null (random)
    image_size: int | None = None  # height and width in pixels; null: what the weights were made for
    resize: str = "squash"  # squash: the whole image, stretched to a square; crop: the central square
    grid_size: int | None = None  # average the last feature map to this many rows and columns; null: as it is
    feature_dim: int | None = None  # values per region of features made elsewhere (encoder=none); null: read from them
    fine_tune_from: str | None = None  # first trainable block, such as layer3 (a wrong name lists them); null: frozen
    fine_tune_after: int = 0  # epochs in which the encoder stays frozen before it is fine-tuned
    gradient_checkpointing: bool = False  # recompute activations of trainable blocks instead of storing them
    batch_norm_eval: bool = True  # keep the BatchNorm statistics of the weights while fine-tuning

    def __post_init__(self) -> None:
        within("encoder.image_size", self.image_size, 32, LARGEST_IMAGE)
        at_least("encoder.feature_dim", self.feature_dim, 1)
        if self.feature_dim is not None and self.name != NO_ENCODER_NAME:
            raise ConfigError(
                f"encoder.feature_dim={self.feature_dim} is for features made elsewhere (encoder=none); {self.name} "
                "has a number of its own."
            )
        if self.fine_tune_from is not None and self.name == NO_ENCODER_NAME:
            raise ConfigError(
                f"encoder.fine_tune_from={self.fine_tune_from} has no effect with encoder=none: features made "
                "elsewhere cannot be fine-tuned."
            )
        within("encoder.grid_size", self.grid_size, 1, 64)
        at_least("encoder.fine_tune_after", self.fine_tune_after, 0)
        if self.fine_tune_after and self.fine_tune_from is None:
            raise ConfigError(
                f"encoder.fine_tune_after={self.fine_tune_after} sets when fine-tuning starts, but no block is "
                "trainable: name the first trainable block with encoder.fine_tune_from."
            )
        check_choices("encoder", self)


_LITE = "captioner.nn.encoders.efficientnet_lite:efficientnet_lite_network"
ENCODERS: Registry[Callable[[EncoderConfig], Any]] = Registry(
    "encoder.name",
    "captioner.encoders",
    {
        "efficientnet_lite0": _LITE,
        "efficientnet_lite1": _LITE,
        "efficientnet_lite2": _LITE,
        NO_ENCODER_NAME: "captioner.nn.encoders.no_encoder:no_encoder",
    },
)
"""Name → a function from the settings to a `captioner.nn.encoders.trunk.EncoderNetwork`.

Besides these names, `encoder.name` may be that of any classification CNN of torchvision.
"""
