"""`python -m captioner retrieve checkpoint=runs/…`: the images that a sentence speaks of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.main import run_command
from captioner.cli.options import read_options
from captioner.config.checks import at_least
from captioner.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from captioner.checkpoint.checkpoint import LoadedCheckpoint
    from captioner.data.dataset import CaptionDataset
    from captioner.nn.decoders.decoder import Decoder

HELP = """\
Find images by sentences, with a model that turns a sentence into an image vector (model=chen_zitnick). Without a
query, every caption of the split looks for its own image; the table says how often that is among the first.

  python -m captioner retrieve checkpoint=runs/... split=test
  python -m captioner retrieve checkpoint=runs/... query="a dog runs on grass" top=5

  checkpoint  a run folder (its best checkpoint) or a checkpoint folder
  query       a sentence: list the images that fit it best
  top         images that are listed for a query (default: 5)
  split       of the run's data set, whose images are searched (default: val)
  images      search so many images only, the first ones (default: null, all)
  device      auto, cpu, cuda, cuda:1 or mps (default: auto)
"""


@dataclass
class RetrieveOptions:
    """What the command is given."""

    checkpoint: str = field(kw_only=True)
    query: str | None = None
    top: int = 5
    split: str = "val"
    images: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        at_least("top", self.top, 1)
        at_least("images", self.images, 1)


@dataclass(frozen=True)
class Collection:
    """Images that can be searched: those of `indices` in the data set, with the vectors (B, D) of their contents."""

    dataset: CaptionDataset
    indices: list[int]
    vectors: Tensor


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _retrieve(sys.argv[1:])))


def _retrieve(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return
    options = read_options(RetrieveOptions, arguments)

    from captioner.analysis.retrieval import feature_reconstructor
    from captioner.checkpoint.checkpoint import load_checkpoint
    from captioner.distributed.device import choose_device

    loaded = load_checkpoint(Path(options.checkpoint), choose_device(options.device))
    decoder = feature_reconstructor(loaded.model.decoder)
    collection = _collect(loaded, options)
    if options.query is None:
        _measure(loaded, decoder, collection)
    else:
        _find(loaded, decoder, collection, options.query, options.top)


def _collect(loaded: LoadedCheckpoint, options: RetrieveOptions) -> Collection:
    """The images of a split of the data set that the checkpoint's run was trained on."""
    from captioner.analysis.retrieval import image_vectors
    from captioner.cli.data_source import data_of_run
    from captioner.config import CacheConfig
    from captioner.data.datasets.registry import load_dataset
    from captioner.data.features.sources import open_features
    from captioner.distributed.device import choose_device

    data = data_of_run(loaded.path)
    if data is None:
        raise CheckpointError(f"{loaded.path} does not stand in its run folder, whose config.yaml names the images.")
    dataset = load_dataset(replace(data, limit=options.images), options.split)
    encoder, device = loaded.model.encoder, choose_device(options.device)
    features = open_features(dataset, encoder, with_grid=False, data=data, cache=CacheConfig(), device=device)
    return Collection(dataset, *image_vectors(features, len(dataset)))


def _measure(loaded: LoadedCheckpoint, decoder: Decoder[Any], collection: Collection) -> None:
    """Every caption looks for its own image."""
    from captioner.analysis.retrieval import reconstruct_features, similarity
    from captioner.cli.tables import markdown_table
    from captioner.data.batches import encode_captions, tokenize_captions
    from captioner.metrics.retrieval_scores import RECALLS, retrieval_scores
    from captioner.text.tokenizers import build_tokenizer

    tokenized = tokenize_captions(collection.dataset, build_tokenizer(loaded.settings.tokenizer))
    longest = max(len(words) for own in tokenized for words in own)
    numbered = encode_captions(tokenized, loaded.vocabulary, longest)
    pairs = [(place, words) for place, index in enumerate(collection.indices) for words in numbered[index]]
    imagined = reconstruct_features(decoder, [words for _, words in pairs], collection.vectors.device)
    table = similarity(imagined, collection.vectors).cpu()
    scores = retrieval_scores(table, [place for place, _ in pairs])
    images = len(collection.indices)
    chance = {f"R@{k}": min(k / images, 1.0) for k in RECALLS} | {"median_rank": (images + 1) / 2}
    rows = []
    for name, figures in (("the model", scores), ("chance", chance)):
        recalls = {f"R@{k}": f"{100 * figures[f'R@{k}']:.1f}" for k in RECALLS}
        rows.append({"": name} | recalls | {"median rank": f"{figures['median_rank']:g}"})
    sys.stdout.write(
        f"{len(pairs)} captions look for their own among {images} images of {collection.dataset.name} "
        f"{collection.dataset.split}:\n\n{markdown_table(rows)}\n"
    )


def _find(loaded: LoadedCheckpoint, decoder: Decoder[Any], collection: Collection, query: str, top: int) -> None:
    """List the images that fit a sentence best."""
    from captioner.analysis.retrieval import reconstruct_features, similarity
    from captioner.text.tokenizers import build_tokenizer

    (words,) = build_tokenizer(loaded.settings.tokenizer).tokenize_all([query])
    if not words:
        raise ConfigError(f"query={query!r} has no word in it: expected a sentence.")
    unknown = sorted({word for word in words if word not in loaded.vocabulary})
    if unknown:
        names = ", ".join(map(repr, unknown))
        sys.stderr.write(f"Note: {names} did not occur in the training captions; the model reads <UNK> there.\n")
    imagined = reconstruct_features(decoder, [loaded.vocabulary.encode(words)], collection.vectors.device)
    found = similarity(imagined, collection.vectors)[0]
    for place in found.argsort(descending=True)[:top].tolist():
        image = collection.dataset.images[collection.indices[place]]
        sys.stdout.write(f"{float(found[place]):6.3f}  {image.path}\n")
