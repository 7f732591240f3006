"""Image retrieval by caption, with a decoder that predicts image features from captions."""

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
    """`decoder` itself; ConfigError if it does not predict image features from a caption."""
    if not decoder.reconstructs_features:
        raise ConfigError(
            "This model does not predict image features from a caption; train one that does: model=chen_zitnick."
        )
    return decoder


@torch.inference_mode()
def reconstruct_features(
    decoder: Decoder[Any], captions: Sequence[Sequence[int]], device: torch.device, batch_size: int = 256
) -> Float[Tensor, "N D"]:
    """The image vector that the decoder predicts from each caption (token ids), in the order of `captions`."""
    found = []
    for indices in sequential_batches(len(captions), batch_size):
        packed = pack_captions([[captions[index]] for index in indices]).to(device)
        vectors = decoder.reconstruct_features(packed)  # in packed order: the longest captions first
        found.append(torch.empty_like(vectors).index_copy_(0, packed.images, vectors))
    return torch.cat(found)


@torch.inference_mode()
def image_vectors(features: FeatureSource, count: int, batch_size: int = 64) -> tuple[list[int], Float[Tensor, "B D"]]:
    """The indices of the images, of 0 … `count` − 1, that can be read, and their mean feature vectors."""
    indices: list[int] = []
    vectors: list[Tensor] = []
    for read, batch in features.batches(sequential_batches(count, batch_size)):
        indices += read
        vectors.append(batch.vector)
    return indices, torch.cat(vectors)


def similarity(predicted: Float[Tensor, "N D"], images: Float[Tensor, "B D"]) -> Float[Tensor, "N B"]:
    """The cosine of each predicted vector and each image's vector, after subtracting the mean of the images.

    The mean does not distinguish images, and would dominate the cosine.
    """
    mean = images.mean(dim=0)
    return F.normalize(predicted - mean, dim=1) @ F.normalize(images - mean, dim=1).t()
