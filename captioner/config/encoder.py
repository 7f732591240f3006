"""The pretrained network and what it is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from captioner.config.checks import at_least, within
from captioner.errors import ConfigError, choose

LARGEST_IMAGE = 4096  # pixels a side, that an encoder is given; a slip of the finger asks for more


@dataclass
class TransformConfig:
    """The only preprocessing there is; stored in the checkpoint. Pixel values are in [0, 1] before mean and std."""

    size: int = 224  # height and width in pixels
    resize: str = "squash"  # squash: the whole image, stretched to a square; crop: the central square
    interpolation: str = "bilinear"  # bilinear or bicubic, antialiased
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        within("transform.size", self.size, 1, LARGEST_IMAGE)
        choose("transform.resize", self.resize, ("squash", "crop"))
        choose("transform.interpolation", self.interpolation, ("bilinear", "bicubic"))
        if not all(map(math.isfinite, self.mean)):
            raise ConfigError(f"transform.mean={list(self.mean)}: expected three numbers.")
        if not all(0 < value < math.inf for value in self.std):
            raise ConfigError(f"transform.std={list(self.std)}: expected three numbers above 0.")


@dataclass
class EncoderConfig:
    """A convolutional network, cut at its last feature map."""

    name: str = "efficientnet_lite0"  # or lite1, lite2, or any torchvision classification CNN
    weights: str | None = "DEFAULT"  # DEFAULT, a torchvision weights name, a state-dict file, or null (random)
    image_size: int | None = None  # null: what the weights were made for
    resize: str = "squash"  # see TransformConfig.resize
    fine_tune_from: str | None = None  # name of the first block that learns; null: frozen
    fine_tune_after: int = 0  # epochs in which only the decoder learns, before the encoder's blocks do as well
    gradient_checkpointing: bool = False  # compute activations of learning blocks twice instead of keeping them
    batch_norm_eval: bool = True  # keep BatchNorm statistics as they are, also while fine-tuning

    def __post_init__(self) -> None:
        within("encoder.image_size", self.image_size, 32, LARGEST_IMAGE)
        at_least("encoder.fine_tune_after", self.fine_tune_after, 0)
        if self.fine_tune_after and self.fine_tune_from is None:
            raise ConfigError(
                f"encoder.fine_tune_after={self.fine_tune_after} says when fine-tuning starts, but nothing is to be "
                "fine-tuned: name the first block that learns with encoder.fine_tune_from."
            )
        choose("encoder.resize", self.resize, ("squash", "crop"))
