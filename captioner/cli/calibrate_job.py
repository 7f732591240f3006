"""The work of `captioner calibrate`; the only part of the command that imports torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from captioner.analysis.calibrate import GeneratedCaptions, ReliabilityBin, fit_calibration
from captioner.checkpoint.calibration import Calibration, gain_of_words, save_calibration
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.manifest import write_manifest
from captioner.cli.tables import markdown_table
from captioner.config import CacheConfig, DataConfig, MetricConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.class_source import with_classes
from captioner.data.features.sources import open_features
from captioner.decode import search
from captioner.decode.consensus import weighs_consensus
from captioner.distributed.device import choose_device
from captioner.errors import DataError
from captioner.evaluation.scoring_tokenizer import scoring_tokenizer
from captioner.text.tokenizers import build_tokenizer

BATCH = 64


def calibrate_checkpoint(
    folder: Path, data: DataConfig, split: str, device: str
) -> tuple[Calibration, list[ReliabilityBin]]:
    """Caption the split as the checkpoint's own search does, fit the calibration, and store it in the checkpoint."""
    checkpoint = load_checkpoint(folder, choose_device(device))
    dataset = load_dataset(data, split)
    generated = generate_for_calibration(checkpoint, dataset, data)
    calibration, bins = fit_calibration(generated, checkpoint.settings.decode, dataset.name, dataset.split)
    save_calibration(calibration, folder)
    write_manifest(folder)
    return calibration, bins


def generate_for_calibration(
    checkpoint: LoadedCheckpoint, dataset: CaptionDataset, data: DataConfig
) -> GeneratedCaptions:
    """The model's captions of all images with references, with log-probabilities and image vectors."""
    model, vocabulary, settings = checkpoint.model, checkpoint.vocabulary, checkpoint.settings
    model.requires_grad_(False)
    device = next(model.parameters()).device
    features = open_features(
        dataset, model.encoder, with_grid=model.needs_grid, data=data, cache=CacheConfig(), device=device
    )
    features = with_classes(
        features,
        dataset,
        model.encoder,
        settings.encoder,
        settings.decode,
        data=data,
        cache=CacheConfig(),
        device=device,
    )
    wanted = [index for index, image in enumerate(dataset.images) if image.captions]
    if not wanted:
        raise DataError(f"The {dataset.split} split of {dataset.name} has no reference captions to calibrate with.")
    batches = [[wanted[i] for i in batch] for batch in sequential_batches(len(wanted), BATCH)]
    tokenizer, words = (
        checkpoint.tokenizer(),
        build_tokenizer(
            scoring_tokenizer(
                MetricConfig(), settings.tokenizer, (c for image in dataset.images for c in image.captions)
            )
        ),
    )
    vectors, log_probs, lengths, texts, references = [], [], [], [], []
    gains: list[float] = []
    with torch.inference_mode(), tqdm(total=len(wanted), unit="image", leave=False, disable=None) as bar:
        for indices, batch in features.batches(batches):
            if not indices:
                continue
            ids = [dataset.images[index].image_id for index in indices]
            found = search(
                model.decoder,
                batch,
                settings.decode,
                vocabulary.special,
                image_ids=ids,
                phrases=vocabulary.phrases,
                classes=vocabulary.class_preferences,
                consensus=checkpoint.consensus,
            )
            vectors.append(batch.vector.float().cpu().numpy())
            for index, (best, *_) in zip(indices, found, strict=True):
                log_probs.append(best.log_prob)
                lengths.append(len(best.tokens) + best.finished)
                gains.append(gain_of_words(best.score, best.log_prob, lengths[-1], settings.decode.length_penalty))
                texts.append(tokenizer.join(vocabulary.decode_caption(best.tokens)))
                references.append(words.tokenize_all(list(dataset.images[index].captions)))
            bar.update(len(indices))
    if features.bad:
        sys.stderr.write(f"{len(features.bad)} images could not be read and are left out.\n")
    return GeneratedCaptions(
        np.concatenate(vectors),
        np.array(log_probs),
        np.array(lengths, float),
        words.tokenize_all(texts),
        references,
        np.array(gains) if settings.decode.class_weight or weighs_consensus(settings.decode) else None,
    )


def format_calibration(calibration: Calibration, bins: Sequence[ReliabilityBin]) -> str:
    """The reliability table and the figures, as text."""
    record = calibration.record
    rows = [
        {
            "confidence": f"{one.low:.1f} to {one.high:.1f}",
            "captions": str(one.captions),
            "mean confidence": f"{one.confidence:.2f}",
            "good": f"{one.good:.2f}",
        }
        for one in bins
    ]
    return (
        f"{record.data} {record.split}: {record.images:,} captions, {record.good:.0%} of them good (CIDEr-D of "
        f"{record.good_at:.2f} or more, which three of four reference captions reach)\n\n{markdown_table(rows)}\n\n"
        f"Expected calibration error {record.calibration_error:.3f}; a good caption has a higher confidence than "
        f"another in {record.auc:.0%} of pairs. Each confidence was fitted on other images.\n"
        f"Unlike the known images: a familiarity below {record.unlike_below:.3f} ({record.unlike:.0%} of these).\n"
    )
