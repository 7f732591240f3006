"""What training needs of its data, in one place: `train` raises the first fault, `data check` lists them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from captioner.config import DataConfig, VocabularyConfig
from captioner.data.batches import TokenizedCaptions, captioned_images, encode_captions
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.annotation_files import join_names
from captioner.data.datasets.registry import split_advice
from captioner.data.datasets.splits import split_name
from captioner.data.token_ids import EncodedCaptions
from captioner.errors import ConfigError, DataError, choose
from captioner.text.vocabulary import Vocabulary

REQUIRED = {
    "train": "there is nothing to train on",
    "val": "training needs one to choose its best checkpoint",
}
"""The splits that every training needs → why."""


class TrainingCaptions(NamedTuple):
    """The training captions as token ids, cut to the training length, and the indices of the images that have one."""

    vocabulary: Vocabulary
    captions: EncodedCaptions
    usable: Sequence[int]


def encode_training_captions(
    dataset: CaptionDataset,
    tokenized: TokenizedCaptions,
    vocabulary: VocabularyConfig,
    max_length: int,
    given: Vocabulary | None = None,
) -> TrainingCaptions:
    """The vocabulary of the training captions, and their token ids; DataError where either would be empty.

    given: a vocabulary to use instead.
    """
    words = given
    if words is None:
        words = Vocabulary.from_counts(tokenized.counts, vocabulary)
    captions = encode_captions(tokenized, words, max_length)
    return TrainingCaptions(words, captions, captioned_images(captions, dataset))


def check_splits(config: DataConfig, available: Sequence[str], evaluated: Iterable[str]) -> None:
    """DataError or ConfigError for the first of `split_faults`."""
    for fault in split_faults(config, available, evaluated):
        raise fault


def split_faults(
    config: DataConfig, available: Sequence[str], evaluated: Iterable[str]
) -> list[DataError | ConfigError]:
    """Why training cannot start with the splits `available`; empty if it can.

    evaluated: `trainer.evaluate_splits`, which are read when training has ended.
    """
    where = f"{config.name} at {config.root}" if config.root else config.name
    if not available:
        return [
            DataError(
                f"{where} has no image in any split. For train: {split_advice(config, 'train')}.{_content(config)}"
            )
        ]
    faults: list[DataError | ConfigError] = []
    for split, why in REQUIRED.items():
        if split not in available:
            advice = split_advice(config, split)
            others = ", ".join(available)
            faults.append(DataError(f"{where} has no {split} split (only {others}), and {why}: {advice}."))
    for split in evaluated:
        name = split_name(split) or split
        if name not in REQUIRED:
            try:
                choose("trainer.evaluate_splits", name, available)
            except ConfigError as error:
                faults.append(error)
    return faults


def splits_of_training(evaluated: Iterable[str]) -> list[str]:
    """The splits that a training reads: train, val and those that are evaluated at its end."""
    return list(dict.fromkeys([*REQUIRED, *(split_name(split) or split for split in evaluated)]))


def _content(config: DataConfig) -> str:
    """What is in the data set's folder, for a message."""
    if not config.root:
        return ""
    root = Path(config.root).expanduser()
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    return f" {root} contains {join_names(names, 8)}." if names else f" {root} is empty."
