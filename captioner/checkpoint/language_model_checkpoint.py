"""Load a language model from a checkpoint, whose folder has the files of a captioner's checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from captioner.checkpoint.checkpoint import (
    VOCABULARY_FILE,
    LanguageCheckpointSettings,
    altered,
    fill_model,
    read_verified_config,
)
from captioner.checkpoint.index import find_checkpoint
from captioner.config import LanguageNetworkConfig, TextConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.language_model import LanguageModel
from captioner.nn.skip_init import SkipInit
from captioner.schema import from_plain
from captioner.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class LoadedLanguageModel:
    """A model in eval mode on its device, with its vocabulary and settings."""

    path: Path
    model: LanguageModel
    vocabulary: Vocabulary
    settings: LanguageCheckpointSettings


def load_language_model(path: Path, device: torch.device | str = "cpu", which: str = "best") -> LoadedLanguageModel:
    """Load a language model from a checkpoint folder or a run folder (its `which`: "best" or "latest").

    Every file is verified; CheckpointError names the one that is missing, altered or does not fit.
    """
    folder = find_checkpoint(path, which)
    raw = read_verified_config(folder, LanguageCheckpointSettings.task)
    try:
        settings = LanguageCheckpointSettings(
            model=from_plain(LanguageNetworkConfig, raw.get("model"), "model"),
            data=from_plain(TextConfig, raw.get("data"), "data"),
        )
    except ConfigError as error:
        raise altered(folder, error) from error
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    with torch.device("meta"), SkipInit():
        model = LanguageModel(settings.model, len(vocabulary))
    fill_model(model, folder)
    return LoadedLanguageModel(folder, model.to(device).eval(), vocabulary, settings)
