"""Untrained checkpoints with one vocabulary, for ensembles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from captioner.checkpoint.checkpoint import CheckpointSettings, save_checkpoint
from captioner.config import DECODERS, DecodeConfig, TokenizerConfig
from captioner.nn.build_model import build_model
from captioner.text.vocabulary import Vocabulary
from tests.tiny import ENCODER

WORDS = ("a", "dog", "on", "the", "left", "right", "half", "is", "red", "blue")


def save_member(
    folder: Path,
    seed: int,
    *,
    words: tuple[str, ...] = WORDS,
    model: str = "attention",
    image_size: int = 64,
    resize: str = "squash",
    encoder_seed: int = 0,
    tokenizer: str = "ptb",
) -> Path:
    """Save a random captioner to the run folder `folder`; members with equal `encoder_seed` have equal encoders."""
    encoder = replace(ENCODER, image_size=image_size, resize=resize)
    config = DECODERS[model](name=model, embedding_dim=8, hidden_dim=8)
    torch.manual_seed(encoder_seed)
    built = build_model(config, encoder, len(words) + 4)
    torch.manual_seed(seed)
    for weights in built.decoder.parameters():
        torch.nn.init.normal_(weights, std=0.7)
    decode = DecodeConfig(beam_width=2, min_length=2, max_length=6)
    settings = CheckpointSettings(config, encoder, built.encoder.transform, TokenizerConfig(name=tokenizer), decode)
    folder.mkdir(parents=True)
    save_checkpoint(folder, 1, built, Vocabulary(words), settings, {}, is_best=True)
    return folder
