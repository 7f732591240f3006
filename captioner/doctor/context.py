"""The input of the checks: sampled images of each split, their features, and generated captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.config import DataConfig, DecodeConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset
from captioner.data.features.sources import precomputed_features
from captioner.data.features.view_features import has_views
from captioner.data.images.loader import load_image_batches
from captioner.decode import Hypothesis, search
from captioner.errors import DataError
from captioner.nn.encoders.class_head import Classifier, build_class_head
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures, join_features
from captioner.text.tokenizers import build_tokenizer
from captioner.training.losses import captioning_losses

BATCH_SIZE = 32
Item = TypeVar("Item")
TokenIds = list[list[list[int]]]  # [image][caption][word]


@dataclass(frozen=True)
class SplitSample:
    """Sampled images of a split, all readable and with reference captions.

    images: preprocessed, or none with features made elsewhere.
    tokens, token_ids: the reference captions, [image][caption][word].
    """

    dataset: CaptionDataset
    images: Float[Tensor, "B 3 S S"]
    features: ImageFeatures
    tokens: list[list[list[str]]]
    token_ids: TokenIds


@dataclass(frozen=True)
class DiagnosticContext:
    """A checkpoint and the data on which it is checked.

    train_set, train: None if the data set has no train split. val_set, val: the split that is captioned.
    hypotheses: generated captions of `val`, decoded with the checkpoint's settings.
    """

    checkpoint: LoadedCheckpoint
    data: DataConfig
    device: torch.device
    train_set: CaptionDataset | None
    val_set: CaptionDataset
    train: SplitSample | None
    val: SplitSample
    hypotheses: list[Hypothesis]


def build_context(
    checkpoint: LoadedCheckpoint,
    data: DataConfig,
    train_set: CaptionDataset | None,
    val_set: CaptionDataset,
    max_images: int,
    device: torch.device,
) -> DiagnosticContext:
    """Encode up to `max_images` images of each split, and caption those of `val_set`."""
    val = _sample(checkpoint, data, val_set, max_images, device)
    val = replace(val, features=_with_classes(checkpoint, val, device))
    train = None if train_set is None else _sample(checkpoint, data, train_set, max_images, device)
    hypotheses = generate(checkpoint, val.features, checkpoint.settings.decode)
    return DiagnosticContext(checkpoint, data, device, train_set, val_set, train, val, hypotheses)


def _with_classes(checkpoint: LoadedCheckpoint, sample: SplitSample, device: torch.device) -> ImageFeatures:
    """The features of a split, with the class probabilities of its images where the checkpoint's search weighs them."""
    encoder, settings = checkpoint.model.encoder, checkpoint.settings
    head = build_class_head(settings.encoder, encoder, download=True) if settings.decode.class_weight else None
    if head is None:
        return sample.features
    classifier = Classifier(encoder, head).to(device)
    logits = [classifier(part.to(device)).vector for part in torch.split(sample.images, BATCH_SIZE)]
    return sample.features._replace(classes=torch.cat(logits).softmax(dim=1))


def _sample(
    checkpoint: LoadedCheckpoint, data: DataConfig, dataset: CaptionDataset, max_images: int, device: torch.device
) -> SplitSample:
    """Sample images at equal distances in the split, whose order may be by subject."""
    with_captions = [index for index, image in enumerate(dataset) if image.captions]
    step = max(1, len(with_captions) // max_images)
    chosen = [dataset.images[index] for index in with_captions[::step][:max_images]]
    sampled = replace(dataset, images=tuple(chosen))
    sampled, tensors, features = _encoded(checkpoint, data, sampled, device)
    tokenizer = build_tokenizer(replace(checkpoint.settings.tokenizer, backend="python"), checkpoint.tokenizer_model)
    tokens = [tokenizer.tokenize_all(list(image.captions)) for image in sampled]
    token_ids = [[checkpoint.vocabulary.encode(words) for words in captions if words] for captions in tokens]
    return SplitSample(sampled, tensors, features, tokens, token_ids)


def _encoded(
    checkpoint: LoadedCheckpoint, data: DataConfig, sampled: CaptionDataset, device: torch.device
) -> tuple[CaptionDataset, Float[Tensor, "B 3 S S"], ImageFeatures]:
    """The images that can be read, as tensors, and their features; no tensors for features made elsewhere."""
    encoder, chunks = checkpoint.model.encoder, sequential_batches(len(sampled), BATCH_SIZE)
    if not encoder.encodes_images:
        source = precomputed_features(sampled, encoder, with_grid=checkpoint.model.needs_grid, data=data, device=device)
        found = list(source.batches(chunks))
        kept = tuple(sampled.images[index] for indices, _ in found for index in indices)
        features = join_features([part for _, part in found])
        return replace(sampled, images=kept), torch.empty(0, 3, 1, 1), features
    if has_views(sampled):
        raise DataError(
            f"doctor reads one image per caption, and {sampled.name} {sampled.split} has samples of several images."
        )
    loaded = list(load_image_batches(sampled.paths, chunks, encoder.transform, data))
    kept = tuple(sampled.images[index] for part in loaded for index in part.indices)
    tensors = torch.cat([part.images for part in loaded if part.indices])
    with torch.no_grad():
        parts = [checkpoint.model.encode(part.to(device)) for part in torch.split(tensors, BATCH_SIZE)]
    return replace(sampled, images=kept), tensors, join_features(parts)


def batches(features: ImageFeatures, *lists: Sequence[Item]) -> list[tuple[ImageFeatures, list[list[Item]]]]:
    """Split features, and lists with one item per image, into batches of BATCH_SIZE images."""
    found = []
    for start in range(0, len(features.vector), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        of_part = features.images(partial(_rows, part))
        found.append((of_part, [list(items[part]) for items in lists]))
    return found


def _rows(part: slice, tensor: Tensor) -> Tensor:
    return tensor[part]


def generate(checkpoint: LoadedCheckpoint, features: ImageFeatures, decode: DecodeConfig) -> list[Hypothesis]:
    """The best generated caption of every image."""
    found: list[Hypothesis] = []
    with torch.no_grad():
        for part, (ids,) in batches(features, list(range(len(features.vector)))):
            decoder = checkpoint.model.decoder
            results = search(
                decoder,
                part,
                decode,
                checkpoint.vocabulary.special,
                image_ids=ids,
                phrases=checkpoint.vocabulary.phrases,
                classes=checkpoint.vocabulary.class_preferences,
                consensus=checkpoint.consensus,
            )
            found += [hypotheses[0] for hypotheses in results]
    return found


def pack(token_ids: TokenIds, device: torch.device) -> PackedCaptions:
    """Pack captions for the decoder, on `device`."""
    return pack_captions(token_ids).to(device)


def nats_per_word(
    checkpoint: LoadedCheckpoint, features: ImageFeatures, token_ids: TokenIds, device: torch.device
) -> float:
    """Mean of −ln p(word | previous words, image) over the words of reference captions, <END> included."""
    total, words = 0.0, 0
    with torch.no_grad():
        for part, (captions_of_part,) in batches(features, token_ids):
            captions = pack(captions_of_part, device)
            losses = captioning_losses(checkpoint.model, part, captions, label_smoothing=0.0)
            total += float(losses["words"]) * len(captions.targets)
            words += len(captions.targets)
    return total / words
