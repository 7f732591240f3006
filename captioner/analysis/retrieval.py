"""Finding the images that a sentence speaks of, with a model that turns sentences into image vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from captioner.data.batches import sequential_batches
from captioner.data.features.sources import FeatureSource
from captioner.errors import ConfigError
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.packing import pack_captions


def feature_reconstructor(decoder: Decoder[Any]) -> Decoder[Any]:
    """`decoder` itself; ConfigError where it does not predict image features from a caption."""
    if not decoder.reconstructs_features:
        raise ConfigError(
            "This model does not predict image features from a caption; train one that does: model=chen_zitnick."
        )
    return decoder


@torch.inference_mode()
def reconstruct_features(
    decoder: Decoder[Any], captions: Sequence[Sequence[int]], device: torch.device, batch_size: int = 256
) -> Float[Tensor, "N D"]:
    """The image vector of each caption (as word numbers), in their order."""
    found = []
    for indices in sequential_batches(len(captions), batch_size):
        packed = pack_captions([[captions[index]] for index in indices]).to(device)
        vectors = decoder.reconstruct_features(packed)  # in the packed order: the longest captions first
        found.append(torch.empty_like(vectors).index_copy_(0, packed.images, vectors))
    return torch.cat(found)


@torch.inference_mode()
def image_vectors(features: FeatureSource, count: int, batch_size: int = 64) -> tuple[list[int], Float[Tensor, "B D"]]:
    """The indices of the images (of `count`) that can be read, and their vectors."""
    indices: list[int] = []
    vectors: list[Tensor] = []
    for some, batch in features.batches(sequential_batches(count, batch_size)):
        indices += some
        vectors.append(batch.vector)
    return indices, torch.cat(vectors)


def similarity(imagined: Float[Tensor, "N D"], images: Float[Tensor, "B D"]) -> Float[Tensor, "N B"]:
    """The cosine of each imagined vector and each image's, both less the images' mean.

    What all images have in common tells none of them from another, and would hide the rest.
    """
    mean = images.mean(dim=0)
    return F.normalize(imagined - mean, dim=1) @ F.normalize(images - mean, dim=1).t()
