"""Save and load checkpoints: self-contained folders, written atomically, and never executed.

    model.safetensors   every weight and buffer, encoder included
    config.json         format_version; the task; model, encoder, transform, tokenizer and decode settings
    vocab.json          the vocabulary
    phrases.npz         the phrase statistics of the training captions, if they are known
    tokenizer.model     what the tokenizer has learned (only tokenizers that learn, such as bpe)
    calibration.safetensors, consensus.safetensors   what `captioner calibrate` and `captioner consensus` have stored
    trainer.pt          optimizer, random states, position (only to resume; read with weights_only=True)
    SHA256SUMS          the checksum of each of these files

`captioner.checkpoint.index` decides which checkpoints a run keeps; `captioner.checkpoint.migrations` reads old ones.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from captioner.checkpoint.calibration import CALIBRATION_FILE, Calibration, load_calibration
from captioner.checkpoint.checkpoint_settings import (
    CONFIG_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    TRAINER_FILE,
    VOCABULARY_FILE,
    CheckpointSettings,
    LanguageCheckpointSettings,
    altered,
    checkpoint_config,
    load_phrase_vocabulary,
    load_settings,
    load_tokenizer_model,
    load_vocabulary,
    parse_settings,
    read_config,
    read_task,
    read_verified_config,
)
from captioner.checkpoint.consensus_file import load_consensus
from captioner.checkpoint.index import Score, add_to_index, find_checkpoint, new_folder
from captioner.checkpoint.manifest import verify, write_manifest
from captioner.checkpoint.migrations import migrate_trainer_state
from captioner.checkpoint.omitted_weights import OmittedWeights, restore_omitted_weights
from captioner.checkpoint.phrase_file import PHRASES_FILE, save_phrases
from captioner.checkpoint.weights import load_into, read_weights
from captioner.decode.consensus import ConsensusPredictor
from captioner.errors import CheckpointError, ConfigError, MisfitError
from captioner.files import flush_folder, write_json
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.model import CaptioningModel
from captioner.nn.skip_init import SkipInit
from captioner.schema import from_plain
from captioner.text.tokenizers import Tokenizer, build_tokenizer, is_learned
from captioner.text.vocabulary import Vocabulary

__all__ = [
    "CONFIG_FILE",
    "MODEL_FILE",
    "TOKENIZER_FILE",
    "TRAINER_FILE",
    "VOCABULARY_FILE",
    "CheckpointSettings",
    "LanguageCheckpointSettings",
    "LoadedCheckpoint",
    "altered",
    "checkpoint_config",
    "fill_model",
    "load_checkpoint",
    "load_settings",
    "load_tokenizer_model",
    "load_trainer_state",
    "load_vocabulary",
    "load_weights",
    "read_task",
    "read_verified_config",
    "save_checkpoint",
]


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in eval mode on its device, with its vocabulary and settings."""

    path: Path
    model: CaptioningModel
    vocabulary: Vocabulary
    settings: CheckpointSettings
    tokenizer_model: bytes | None = None  # what the tokenizer has learned, if it learns
    calibration: Calibration | None = None  # of its confidence, if it was calibrated
    consensus: ConsensusPredictor | None = None  # for decode.consensus_weight, if it was fitted
    members: tuple[LoadedCheckpoint, ...] = ()  # of an ensemble (captioner.checkpoint.load_ensemble)
    averaged: tuple[Path, ...] = ()  # the checkpoints whose mean weights it has (captioner.checkpoint.average)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer with which the model was trained."""
        return build_tokenizer(self.settings.tokenizer, self.tokenizer_model)


def save_checkpoint(
    run_folder: Path,
    step: int,
    model: nn.Module,
    vocabulary: Vocabulary,
    settings: CheckpointSettings | LanguageCheckpointSettings,
    trainer_state: dict[str, Any],
    *,
    is_best: bool,
    keep_last: int = 1,
    keep_best: int = 1,
    score: Score | None = None,
    tokenizer_model: bytes | None = None,
) -> Path:
    """Write `checkpoints/step-…` and make it the run's latest checkpoint, and its best one if `is_best`.

    trainer_state: tensors and plain values, stored in `trainer.pt`. keep_last: how many of the latest checkpoints are
    kept besides the `keep_best` best ones. score: what a validation said of this one. tokenizer_model:
    `Tokenizer.model`. Returns the new folder. Raises OSError if it cannot be written.
    """
    target, temporary = new_folder(run_folder, step)
    try:
        with _library_errors_as_os_errors(target):
            safetensors.torch.save_model(model, str(temporary / MODEL_FILE))
            torch.save(trainer_state, temporary / TRAINER_FILE)
        vocabulary.save(temporary / VOCABULARY_FILE)
        if vocabulary.phrases is not None:
            save_phrases(vocabulary.phrases, temporary / PHRASES_FILE)
        if tokenizer_model is not None:
            (temporary / TOKENIZER_FILE).write_bytes(tokenizer_model)
        write_json(temporary / CONFIG_FILE, checkpoint_config(settings))
        write_manifest(temporary)
        flush_folder(temporary)
        temporary.replace(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the space
        raise
    flush_folder(target.parent)
    add_to_index(run_folder, target.name, is_best=is_best, keep_last=keep_last, keep_best=keep_best, score=score)
    return target


@contextmanager
def _library_errors_as_os_errors(target: Path) -> Iterator[None]:
    """Raise OSError where safetensors or torch report a full or missing disk by an exception of their own."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        if not any(sign in text for sign in ("I/O error", "IoError", "PytorchStreamWriter", "Parent directory")):
            raise
        code = int(match[1]) if (match := re.search(r"(?:os error|Os { code:) (\d+)", text)) else errno.EIO
        full = shutil.disk_usage(target.parent).free < 1 << 20 if target.parent.is_dir() else False
        code = errno.ENOSPC if full else code
        raise OSError(code, os.strerror(code), str(target)) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu", which: str = "best") -> LoadedCheckpoint:
    """Load a captioning model from a checkpoint folder, a run folder or the name of a bundled model.

    which: "best" or "latest", for a run folder. Every file is verified; CheckpointError names the one that is missing,
    altered or does not fit.
    """
    folder = find_checkpoint(path, which)
    raw = read_verified_config(folder, CheckpointSettings.task)
    settings = parse_settings(folder, raw)
    manifest = read_config(folder).manifest
    vocabulary = load_phrase_vocabulary(folder, manifest)
    model = _build_bare_model(folder, settings, len(vocabulary))
    fill_model(model, folder, _omitted_weights(folder, raw, model, settings))
    tokenizer_model = load_tokenizer_model(folder) if is_learned(settings.tokenizer) else None
    calibration = None
    if CALIBRATION_FILE in manifest.sums:
        verify(folder, CALIBRATION_FILE, manifest)
        calibration = load_calibration(folder)
    consensus = load_consensus(folder, manifest, len(vocabulary), model.encoder.feature_dim)
    return LoadedCheckpoint(
        folder, model.to(device).eval(), vocabulary, settings, tokenizer_model, calibration, consensus
    )


def load_weights(model: nn.Module, folder: Path) -> None:
    """Copy the checkpoint's weights into `model`; CheckpointError if they were altered or do not fit."""
    verify(folder, MODEL_FILE, read_config(folder).manifest)
    fill_model(model, folder)


def load_trainer_state(folder: Path) -> dict[str, Any]:
    """The `trainer_state` that `save_checkpoint` stored, migrated; CheckpointError if it is damaged or unsafe."""
    stored = read_config(folder)
    verify(folder, TRAINER_FILE, stored.manifest)
    path = folder / TRAINER_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may raise anything; torch's own text advises to trust them
        raise CheckpointError(
            f"{path} is damaged, or contains more than tensors and plain values, which is not loaded: "
            "the run cannot be resumed."
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} contains a {type(state).__name__}, not a training state: the run cannot be resumed."
        )
    return migrate_trainer_state(state, stored.version)


def _build_bare_model(folder: Path, settings: CheckpointSettings, vocabulary_size: int) -> CaptioningModel:
    """The model that the settings describe, on the meta device: without memory, and without initialization."""
    try:
        # Use the stored transform: that of the network's weights may differ in another torchvision.
        described = replace(settings.encoder, image_size=settings.transform.size)
        try:
            with torch.device("meta"), SkipInit():
                encoder = build_encoder(described, load_weights=False)
        except NotImplementedError:  # RegNet computes its widths with tensors, which must exist
            encoder = build_encoder(described, load_weights=False)
        with torch.device("meta"), SkipInit():
            decoder = build_decoder(settings.model, vocabulary_size, encoder.feature_dim)
    except ConfigError as error:
        raise altered(folder, error) from error
    encoder.transform = settings.transform
    return CaptioningModel(encoder, decoder)


def _omitted_weights(
    folder: Path, raw: dict[str, Any], model: CaptioningModel, settings: CheckpointSettings
) -> dict[str, Tensor]:
    """The encoder weights that an export omits; empty for a checkpoint of a run."""
    if "omitted_weights" not in raw:
        return {}
    try:
        return restore_omitted_weights(
            from_plain(OmittedWeights, raw["omitted_weights"], "omitted_weights"),
            model.encoder,
            settings.encoder,
            folder,
        )
    except ConfigError as error:
        raise altered(folder, error) from error


def fill_model(model: nn.Module, folder: Path, others: Mapping[str, Tensor] | None = None) -> None:
    """Copy the checkpoint's weights, and `others` that it omits, into `model`; MisfitError if they do not fit.

    A model on the meta device takes no more memory than its weights take in the file, whatever its settings are.
    """
    try:
        load_into(model, read_weights(folder / MODEL_FILE) | dict(others or {}))
    except (RuntimeError, SafetensorError, OSError) as error:
        # torch lists every weight that does not fit, below a title: report the first
        lines = str(error).splitlines()
        first = lines[1].strip() if len(lines) > 1 else str(error)
        raise MisfitError(
            f"{folder / MODEL_FILE} does not fit the model that {CONFIG_FILE} and {VOCABULARY_FILE} describe: "
            f"{first:.300}"
        ) from error
