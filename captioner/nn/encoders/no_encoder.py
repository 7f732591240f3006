"""`encoder=none`: for models that are trained on features made elsewhere (`data.features`) and never see an image."""

from __future__ import annotations

from torch import Tensor, nn

from captioner.config import EncoderConfig, TransformConfig
from captioner.errors import ConfigError
from captioner.nn.encoders.trunk import EncoderNetwork

NO_ENCODER = (
    "This model has no encoder: it was trained on features made elsewhere (data.features), so it cannot read an image. "
    "Give it features of the same kind: python evaluate.py checkpoint=RUN data.features=DIR, or in Python "
    "Captioner.caption_features."
)


class _NoImages(nn.Module):
    """Has the shape of a feature map of one region, but refuses images."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "meta":
            raise ConfigError(NO_ENCODER)
        return images.new_empty(len(images), self.feature_dim, 1, 1)


def no_encoder(config: EncoderConfig) -> EncoderNetwork:
    """A network without parameters. ConfigError unless `encoder.feature_dim` says how many values a region has."""
    if config.feature_dim is None:
        raise ConfigError(
            "encoder=none is for features made elsewhere: give data.features=DIR, which tells encoder.feature_dim."
        )
    trunk = nn.Sequential()
    trunk.add_module("no_images", _NoImages(config.feature_dim))
    return EncoderNetwork(trunk, TransformConfig(size=config.image_size or 224, resize=config.resize))
