"""The work of `captioner consensus`; the only part of the command that imports torch."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from captioner.analysis.fit_consensus import fit_consensus
from captioner.checkpoint.calibration import CALIBRATION_FILE, load_calibration
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.checkpoint_settings import (
    CONFIG_FILE,
    VOCABULARY_FILE,
    CheckpointSettings,
    parse_settings,
    read_verified_config,
)
from captioner.checkpoint.consensus_file import CONSENSUS_FILE, save_consensus
from captioner.checkpoint.manifest import write_manifest
from captioner.config import RANKED_SEARCHES, CacheConfig, DataConfig, DecodeConfig
from captioner.data.batches import sequential_batches
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_features
from captioner.data.token_ids import EncodedCaptions
from captioner.decode.consensus import ConsensusPredictor, ConsensusRecord
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError, DataError
from captioner.evaluation.reference_loss import encode_references
from captioner.files import write_json
from captioner.schema import to_plain

BATCH = 64


def changed_search(folder: Path, weight: float | None, beam_width: int | None) -> DecodeConfig | None:
    """The checkpoint's own search with this weight and width; None where it stays. ConfigError for a wrong value."""
    decode = _settings(folder).decode
    if weight is None:
        return None
    if decode.name not in RANKED_SEARCHES:
        raise ConfigError(
            f"--weight {weight:g} has no effect on this model's search, decode.name={decode.name}: only "
            f"{' and '.join(RANKED_SEARCHES)} search rank captions. Leave --weight out, and give decode=beam "
            "decode.consensus_weight=W where you caption."
        )
    return replace(decode, consensus_weight=weight, beam_width=decode.beam_width if beam_width is None else beam_width)


def fit_to_checkpoint(
    folder: Path, data: DataConfig, split: str, device: str, *, dimensions: int, least_images: int, bits: int
) -> ConsensusPredictor:
    """The predictor of a checkpoint, fitted to all images of the split that have captions and can be read."""
    checkpoint = load_checkpoint(folder, choose_device(device))
    dataset = load_dataset(data, split)
    model = checkpoint.model.requires_grad_(False)
    features = open_features(
        dataset,
        model.encoder,
        with_grid=model.needs_grid,  # the same as for training, so that cached ones are read again
        data=data,
        cache=CacheConfig(),
        device=next(model.parameters()).device,
    )
    wanted = [index for index, image in enumerate(dataset.images) if image.captions]
    batches = [[wanted[i] for i in batch] for batch in sequential_batches(len(wanted), BATCH)]
    vectors, kept = [np.zeros((0, model.encoder.feature_dim), np.float32)], []
    with torch.inference_mode(), tqdm(total=len(wanted), unit="image", leave=False, disable=None) as bar:
        for indices, batch in features.batches(batches):
            vectors.append(batch.vector.float().cpu().numpy())
            kept += indices
            bar.update(len(indices))
    if features.bad:
        sys.stderr.write(f"{len(features.bad)} images could not be read and are left out.\n")
    if not kept:
        raise DataError(f"The {dataset.split} split of {dataset.name} has no captions to learn from.")
    references = encode_references(dataset, checkpoint.tokenizer(), checkpoint.vocabulary)
    return fit_consensus(
        np.concatenate(vectors),
        EncodedCaptions.from_lists(references[index] for index in kept),
        checkpoint.vocabulary.special.unknown,
        data=dataset.name,
        split=dataset.split,
        dimensions=dimensions,
        least_images=least_images,
        bits=bits,
    )


def store(predictor: ConsensusPredictor, folder: Path, decode: DecodeConfig | None) -> tuple[int, bool]:
    """Write the predictor, and a changed search, into the checkpoint; the file's bytes, and whether a calibration is
    of another search now.
    """
    save_consensus(predictor, folder)
    if decode is not None:
        raw = read_verified_config(folder, CheckpointSettings.task, [VOCABULARY_FILE])
        write_json(folder / CONFIG_FILE, raw | {"decode": to_plain(decode)})
    write_manifest(folder)
    size = (folder / CONSENSUS_FILE).stat().st_size
    if decode is None or not (folder / CALIBRATION_FILE).is_file():
        return size, False
    return size, not load_calibration(folder).applies_to(decode)


def format_record(record: ConsensusRecord) -> str:
    """What was fitted, and how well it predicts, as text."""
    return (
        f"{record.data} {record.split}: {record.images:,} images; {record.ngrams:,} n-grams predicted from "
        f"{record.dimensions} features, in {record.bits} bits (ridge {record.ridge:g})\n"
        f"Of images that were left out of the fit, an image's own captions resemble its prediction more than another "
        f"image's in {record.recognized:.1%} of pairs, and {record.explained:.1%} of the variance is explained.\n"
    )


def _settings(folder: Path) -> CheckpointSettings:
    return parse_settings(folder, read_verified_config(folder, CheckpointSettings.task, [VOCABULARY_FILE]))
