"""The work of `captioner retrieve` once its flags are checked; the only part of the command that imports torch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from captioner.analysis.retrieval import (
    feature_reconstructor,
    image_vectors,
    reconstruct_features,
    similarity,
)
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.cli.tables import markdown_table
from captioner.config import CacheConfig, DataConfig
from captioner.data.batches import encode_captions, tokenize_captions
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_features
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError
from captioner.metrics.retrieval_scores import RECALLS, retrieval_scores
from captioner.nn.decoders.decoder import Decoder


@dataclass(frozen=True)
class Collection:
    """Images to search: those at `indices` of the data set, and their image vectors (B, D)."""

    dataset: CaptionDataset
    indices: list[int]
    vectors: Tensor


def retrieve(
    checkpoint: Path,
    data: DataConfig,
    split: str,
    query: str | None,
    top: int,
    device_name: str,
    *,
    as_json: bool = False,
) -> None:
    """Print the `top` images for `query`; without a query, recall over all captions of the split."""
    device = choose_device(device_name)
    loaded = load_checkpoint(checkpoint, device)
    decoder = feature_reconstructor(loaded.model.decoder)
    dataset = load_dataset(data, split)
    features = open_features(
        dataset, loaded.model.encoder, with_grid=False, data=data, cache=CacheConfig(), device=device
    )
    collection = Collection(dataset, *image_vectors(features, len(dataset)))
    if query is None:
        _measure(loaded, decoder, collection, as_json=as_json)
    else:
        _find(loaded, decoder, collection, query, top, as_json=as_json)


def _measure(loaded: LoadedCheckpoint, decoder: Decoder[Any], collection: Collection, *, as_json: bool) -> None:
    """Print recall and median rank where each reference caption is a query for its own image, and those of chance."""
    tokenized = tokenize_captions(collection.dataset, loaded.tokenizer())
    longest = max(len(words) for captions in tokenized for words in captions)
    encoded = encode_captions(tokenized, loaded.vocabulary, longest)
    pairs = [(row, words) for row, index in enumerate(collection.indices) for words in encoded[index]]
    reconstructed = reconstruct_features(decoder, [words for _, words in pairs], collection.vectors.device)
    table = similarity(reconstructed, collection.vectors).cpu()
    scores = retrieval_scores(table, [row for row, _ in pairs])
    images = len(collection.indices)
    chance = {f"R@{k}": min(k / images, 1.0) for k in RECALLS} | {"median_rank": (images + 1) / 2}
    if as_json:
        split = {"data": collection.dataset.name, "split": collection.dataset.split}
        record = {**split, "images": images, "captions": len(pairs), "model": scores, "chance": chance}
        sys.stdout.write(json.dumps(record) + "\n")
        return
    rows = []
    for name, values in (("the model", scores), ("chance", chance)):
        recalls = {f"R@{k}": f"{100 * values[f'R@{k}']:.1f}" for k in RECALLS}
        rows.append({"": name} | recalls | {"median rank": f"{values['median_rank']:g}"})
    sys.stdout.write(
        f"{len(pairs)} captions search for their own image among {images} images of {collection.dataset.name} "
        f"{collection.dataset.split}:\n\n{markdown_table(rows)}\n"
    )


def _find(
    loaded: LoadedCheckpoint, decoder: Decoder[Any], collection: Collection, query: str, top: int, *, as_json: bool
) -> None:
    """Print the `top` images whose vectors are most similar to that of the query."""
    (words,) = loaded.tokenizer().tokenize_all([query])
    if not words:
        raise ConfigError(f"--query {query!r} contains no word: expected a sentence.")
    unknown = sorted({word for word in words if word not in loaded.vocabulary})
    if unknown:
        names = ", ".join(map(repr, unknown))
        sys.stderr.write(f"Note: {names} did not occur in the training captions; the model reads <UNK> there.\n")
    reconstructed = reconstruct_features(decoder, [loaded.vocabulary.encode(words)], collection.vectors.device)
    found = similarity(reconstructed, collection.vectors)[0]
    best = [
        (float(found[row]), collection.dataset.images[collection.indices[row]])
        for row in found.argsort(descending=True)[:top].tolist()
    ]
    if as_json:
        images = [{"image_id": image.image_id, "path": str(image.path), "score": score} for score, image in best]
        sys.stdout.write(json.dumps({"query": query, "images": images}, ensure_ascii=False) + "\n")
        return
    for score, image in best:
        sys.stdout.write(f"{score:6.3f}  {image.path}\n")
