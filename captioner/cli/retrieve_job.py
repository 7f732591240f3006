"""The work of `captioner retrieve` once its flags are checked; the only part of the command that imports torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioner.analysis.likelihood_retrieval import likelihood_table, log_probs_of_captions, mean_image
from captioner.analysis.retrieval import (
    feature_reconstructor,
    image_vectors,
    reconstruct_features,
    similarity,
)
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.cli.tables import markdown_table
from captioner.config import CacheConfig, DataConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import FeatureSource, open_features
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError
from captioner.evaluation.reference_loss import encode_references
from captioner.metrics.ngrams import Floats
from captioner.metrics.retrieval_scores import (
    RECALLS,
    caption_retrieval_scores,
    chance_of_caption_retrieval,
    retrieval_scores,
)

DESCRIPTIONS = {
    "features": "the similarity of image features",
    "likelihood": "log p(caption | image)",
}


@dataclass(frozen=True)
class Retriever:
    """A model and the images that it searches; `by`: "features" or "likelihood"; `normalize`: see the command."""

    loaded: LoadedCheckpoint
    dataset: CaptionDataset
    features: FeatureSource
    by: str
    normalize: str

    def table(self, captions: Sequence[Sequence[int]]) -> tuple[list[int], Floats]:
        """The indices of the B images that can be read, and the similarity of N captions and each of them, (N, B)."""
        decoder, size = self.loaded.model.decoder, len(self.loaded.vocabulary)
        if self.by == "likelihood":
            seed = self.loaded.settings.decode.seed
            return likelihood_table(decoder, self.features, self.dataset, captions, size, seed=seed)
        indices, vectors = image_vectors(self.features, len(self.dataset))
        reconstructed = reconstruct_features(decoder, captions, vectors.device)
        return indices, similarity(reconstructed, vectors).cpu().double().numpy()

    def without_prior(self, table: Floats, captions: Sequence[Sequence[int]]) -> Floats:
        """The table by which captions are ranked for an image."""
        if self.by != "likelihood" or self.normalize == "none":
            return table
        image = mean_image(self.features, len(self.dataset))
        prior = log_probs_of_captions(self.loaded.model.decoder, image, captions, len(self.loaded.vocabulary))
        return table - prior[:, None]


def retrieve(
    checkpoint: Path,
    data: DataConfig,
    split: str,
    query: str | None,
    top: int,
    device_name: str,
    *,
    by: str | None = None,
    normalize: str = "mean-image",
    as_json: bool = False,
) -> None:
    """Print the `top` images for `query`; without a query, recall of images and captions over the split."""
    device = choose_device(device_name)
    loaded = load_checkpoint(checkpoint, device)
    by = by or ("features" if loaded.model.decoder.reconstructs_features else "likelihood")
    if by == "features":
        feature_reconstructor(loaded.model.decoder)
    loaded.model.eval()
    dataset = load_dataset(data, split)
    with_grid = by == "likelihood" and loaded.model.needs_grid
    features = open_features(
        dataset, loaded.model.encoder, with_grid=with_grid, data=data, cache=CacheConfig(), device=device
    )
    retriever = Retriever(loaded, dataset, features, by, normalize)
    if query is None:
        _measure(retriever, as_json=as_json)
    else:
        _find(retriever, query, top, as_json=as_json)


def _measure(retriever: Retriever, *, as_json: bool) -> None:
    """Print recall and median rank in both directions, and those of chance."""
    dataset, loaded = retriever.dataset, retriever.loaded
    encoded = encode_references(dataset, loaded.tokenizer(), loaded.vocabulary)
    pairs = [(index, words) for index, captions in enumerate(encoded) for words in captions]
    captions = [words for _, words in pairs]
    indices, table = retriever.table(captions)
    column = {index: place for place, index in enumerate(indices)}
    kept = [row for row, (index, _) in enumerate(pairs) if index in column]  # an image may be unreadable
    owners = [column[pairs[row][0]] for row in kept]
    kept_captions = [captions[row] for row in kept]
    table = table[kept]
    images = len(indices)
    chance = {f"R@{k}": min(k / images, 1.0) for k in RECALLS} | {"median_rank": (images + 1) / 2}
    ranked = retriever.without_prior(table, kept_captions)
    of_captions = caption_retrieval_scores(ranked, owners)
    of_images = retrieval_scores(table, owners)
    chance_of_captions = chance_of_caption_retrieval(owners)
    if as_json:
        record = {
            "data": dataset.name,
            "split": dataset.split,
            "by": retriever.by,
            "normalize": retriever.normalize if retriever.by == "likelihood" else None,
            "images": images,
            "captions": len(owners),
            "model": of_images,
            "chance": chance,
            "image_to_caption": {"model": of_captions, "chance": chance_of_captions},
        }
        sys.stdout.write(json.dumps(record) + "\n")
        return
    where, how = f"{dataset.name} {dataset.split}", DESCRIPTIONS[retriever.by]
    normalized = " − log p(caption | mean image)" if ranked is not table else ""
    sys.stdout.write(
        f"{images} images search for one of their own captions among {len(owners)} captions of {where}, by "
        f"{how}{normalized}:\n\n{_table_of(of_captions, chance_of_captions)}\n\n"
        f"{len(owners)} captions search for their own image among {images} images of {where}, by {how}:\n\n"
        f"{_table_of(of_images, chance)}\n"
    )


def _table_of(scores: dict[str, float], chance: dict[str, float]) -> str:
    rows = []
    for name, values in (("the model", scores), ("chance", chance)):
        recalls = {f"R@{k}": f"{100 * values[f'R@{k}']:.1f}" for k in RECALLS}
        rows.append({"": name} | recalls | {"median rank": f"{values['median_rank']:g}"})
    return markdown_table(rows)


def _find(retriever: Retriever, query: str, top: int, *, as_json: bool) -> None:
    """Print the `top` images that fit the query best."""
    loaded, dataset = retriever.loaded, retriever.dataset
    (words,) = loaded.tokenizer().tokenize_all([query])
    if not words:
        raise ConfigError(f"--query {query!r} contains no word: expected a sentence.")
    unknown = sorted({word for word in words if word not in loaded.vocabulary})
    if unknown:
        names = ", ".join(map(repr, unknown))
        sys.stderr.write(f"Note: {names} did not occur in the training captions; the model reads <UNK> there.\n")
    indices, table = retriever.table([loaded.vocabulary.encode(words)])
    best = [
        (float(table[0, place]), dataset.images[indices[place]])
        for place in np.argsort(-table[0], kind="stable")[:top].tolist()
    ]
    if as_json:
        images = [{"image_id": image.image_id, "path": str(image.path), "score": score} for score, image in best]
        record = {"query": query, "by": retriever.by, "images": images}
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        return
    for score, image in best:
        sys.stdout.write(f"{score:6.3f}  {image.path}\n")
