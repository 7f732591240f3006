"""Images → the features that a decoder reads, and what the encoder's classifier says of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from captioner.config import EncoderConfig
from captioner.data.features.precomputed.region_features import RegionFeatures
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import ImageSource, load_image
from captioner.data.images.transforms import image_to_tensor
from captioner.errors import ConfigError
from captioner.nn.encoders.class_head import ClassHead, ClassScores, find_class_head
from captioner.nn.encoders.no_encoder import NO_ENCODER
from captioner.nn.model import CaptioningModel
from captioner.nn.side_by_side import side_by_side
from captioner.nn.types import ImageFeatures, join_features

Views: TypeAlias = list[list[Tensor]]
"""For each encoder, the pixels (3, S, S) of each view of an image."""

EncodedImages: TypeAlias = tuple[ImageFeatures, ClassScores | None]
"""The features of a batch, and what the classifier says of it, where it was asked and there is one."""


class ImageEncoding:
    """Reads images and encodes them by a model's encoders.

    config: the settings of the first encoder, whose classifier is used.
    """

    def __init__(self, model: CaptioningModel, config: EncoderConfig, device: torch.device) -> None:
        self.model = model
        self.config = config
        self.device = device

    @functools.cached_property
    def class_head(self) -> ClassHead | None:
        """The classifier of the encoder's network; None where it has none, or where that is not on this machine."""
        return find_class_head(self.config, self.model.encoder)

    def check_encodes_images(self) -> None:
        """ConfigError for a model that was trained on features made elsewhere."""
        if not self.model.encoder.encodes_images:
            raise ConfigError(NO_ENCODER)

    def load(self, image: ImageSource) -> Views:
        """The pixels of an image's views, preprocessed for each encoder. ImageError where it cannot be read."""
        views = image.views if isinstance(image, ImageViews) else (image,)
        transforms = [encoder.transform for encoder in self.model.encoders]
        return [
            [image_to_tensor(load_image(view, transform.size, transform.stretch), transform) for view in views]
            for transform in transforms
        ]

    def encode(self, loaded: Sequence[Views], *, classify: bool) -> EncodedImages:
        """The features of what `load` returned. classify: also what the classifier of the first encoder says."""
        scores: ClassScores | None = None
        found = []
        with torch.inference_mode():
            for number, encoder in enumerate(self.model.encoders):
                pixels = torch.stack([view for views in loaded for view in views[number]]).to(self.device)
                if classify and not number and self.class_head is not None:
                    features, shared = encoder.forward_with_frozen(pixels)
                    scores = self.class_head(pixels, shared)
                    features = features._replace(classes=scores.probabilities)
                else:
                    features = encoder(pixels)
                if len(pixels) != len(loaded):
                    features = side_by_side(features, [len(views[0]) for views in loaded])
                found.append(features)
        return found[0]._replace(others=tuple(found[1:])), scores

    def join(self, batch: Sequence[RegionFeatures]) -> ImageFeatures:
        """Features made elsewhere as those of a batch, padded; ConfigError for another D than the model's."""
        for regions in batch:
            if regions.features.shape[1] != self.model.encoder.feature_dim:
                raise ConfigError(
                    f"features have {regions.features.shape[1]} values per region, but the model was made for "
                    f"{self.model.encoder.feature_dim}."
                )
        grids = [torch.from_numpy(regions.features).unsqueeze(0) for regions in batch]
        joined = join_features([ImageFeatures(grid.mean(1), grid) for grid in grids])
        return joined.images(lambda tensor: tensor.to(self.device))
