"""What the checks look at: a sample of validation images, their features, and the captions a model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.config import DataConfig, DecodeConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset
from captioner.data.images.loader import load_image_batches
from captioner.decode import Hypothesis, search
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import build_tokenizer
from captioner.training.losses import captioning_losses

BATCH = 32
Item = TypeVar("Item")
TokenIds = list[list[list[int]]]  # [image][caption][word]


@dataclass(frozen=True)
class SplitSample:
    """Some images of a split, all of them with captions and readable."""

    dataset: CaptionDataset
    images: Float[Tensor, "B 3 S S"]
    features: ImageFeatures
    tokens: list[list[list[str]]]  # [image][caption][word]
    numbers: TokenIds


@dataclass(frozen=True)
class DiagnosticContext:
    """A checkpoint and the data it is examined on. `train`: None where there is no such split."""

    checkpoint: LoadedCheckpoint
    data: DataConfig
    device: torch.device
    train_set: CaptionDataset | None
    val_set: CaptionDataset
    train: SplitSample | None
    val: SplitSample
    hypotheses: list[Hypothesis]  # of `val`, by the run's own search


def build_context(
    checkpoint: LoadedCheckpoint,
    data: DataConfig,
    train_set: CaptionDataset | None,
    val_set: CaptionDataset,
    max_images: int,
    device: torch.device,
) -> DiagnosticContext:
    """Encode up to `max_images` of each split, and caption those of validation."""
    val = _sample(checkpoint, data, val_set, max_images, device)
    train = None if train_set is None else _sample(checkpoint, data, train_set, max_images, device)
    hypotheses = generate(checkpoint, val.features, checkpoint.settings.decode)
    return DiagnosticContext(checkpoint, data, device, train_set, val_set, train, val, hypotheses)


def _sample(
    checkpoint: LoadedCheckpoint, data: DataConfig, dataset: CaptionDataset, max_images: int, device: torch.device
) -> SplitSample:
    """Spread evenly over the split, whose order may be by subject."""
    with_captions = [index for index, image in enumerate(dataset) if image.captions]
    step = max(1, len(with_captions) // max_images)
    chosen = [dataset.images[index] for index in with_captions[::step][:max_images]]
    some = replace(dataset, images=tuple(chosen))
    transform = checkpoint.model.encoder.transform
    loaded = list(load_image_batches(some.paths, sequential_batches(len(some), BATCH), transform, data))
    some = replace(some, images=tuple(some.images[index] for part in loaded for index in part.indices))
    tensors = torch.cat([part.images for part in loaded if part.indices])
    with torch.no_grad():
        parts = [checkpoint.model.encode(part.to(device)) for part in torch.split(tensors, BATCH)]
    grids = [part.grid for part in parts if part.grid is not None]
    features = ImageFeatures(torch.cat([part.vector for part in parts]), torch.cat(grids) if grids else None)
    tokenizer = build_tokenizer(replace(checkpoint.settings.tokenizer, backend="python"))
    tokens = [tokenizer.tokenize_all(list(image.captions)) for image in some]
    numbers = [[checkpoint.vocabulary.encode(words) for words in own if words] for own in tokens]
    return SplitSample(some, tensors, features, tokens, numbers)


def batches(features: ImageFeatures, *beside: Sequence[Item]) -> list[tuple[ImageFeatures, list[list[Item]]]]:
    """Features in portions, and the same portions of what stands beside them."""
    found = []
    for start in range(0, len(features.vector), BATCH):
        part = slice(start, start + BATCH)
        grid = None if features.grid is None else features.grid[part]
        found.append((ImageFeatures(features.vector[part], grid), [list(each[part]) for each in beside]))
    return found


def generate(checkpoint: LoadedCheckpoint, features: ImageFeatures, decode: DecodeConfig) -> list[Hypothesis]:
    """The best caption of every image."""
    found: list[Hypothesis] = []
    with torch.no_grad():
        for part, (ids,) in batches(features, list(range(len(features.vector)))):
            decoder = checkpoint.model.decoder
            every = search(decoder, part, decode, checkpoint.vocabulary.special, image_ids=ids)
            found += [hypotheses[0] for hypotheses in every]
    return found


def packed(numbers: TokenIds, device: torch.device) -> PackedCaptions:
    """Captions as the decoder reads them."""
    return pack_captions(numbers).to(device)


def nats_a_word(
    checkpoint: LoadedCheckpoint, features: ImageFeatures, numbers: TokenIds, device: torch.device
) -> float:
    """Mean of −ln p(word | words before it, image) over the reference captions, <END> included."""
    total, words = 0.0, 0
    with torch.no_grad():
        for part, (own,) in batches(features, numbers):
            captions = packed(own, device)
            losses = captioning_losses(checkpoint.model, part, captions, label_smoothing=0.0)
            total += float(losses["words"]) * len(captions.targets)
            words += len(captions.targets)
    return total / words
