"""Starts a training from a checkpoint: its weights, vocabulary, model, encoder and tokenizer, with a new optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from captioner.checkpoint.checkpoint import load_checkpoint, load_settings
from captioner.checkpoint.index import find_checkpoint, read_index
from captioner.config import EncoderConfig, TrainConfig
from captioner.errors import ConfigError
from captioner.nn.build_model import build_model
from captioner.nn.encoders import encoder_weights
from captioner.nn.model import CaptioningModel

_TRAINING_SETTINGS = ("fine_tune_from", "fine_tune_after", "gradient_checkpointing", "batch_norm_eval")
"""The settings of the encoder that a training may choose; the others belong to the weights."""


def with_settings_of_checkpoint(config: TrainConfig) -> TrainConfig:
    """`config` with the model, the encoder and the tokenizer of the checkpoint that `config.init_from` names.

    How the encoder is trained stays as in `config`. Raises CheckpointError if there is no such checkpoint.
    """
    stored = load_settings(find_checkpoint(Path(str(config.init_from))))
    training = {name: getattr(config.encoder, name) for name in _TRAINING_SETTINGS}
    # The checkpoint has the encoder's weights. The name of the published ones stays: tags come from their classifier.
    weights = stored.encoder.weights
    is_published = weights is not None and not encoder_weights.looks_like_file(weights)
    encoder: EncoderConfig = replace(stored.encoder, weights=weights if is_published else None, **training)
    return replace(config, model=stored.model, encoder=encoder, tokenizer=stored.tokenizer)


def starting_checkpoint(config: TrainConfig, folder: Path, *, resume: bool) -> Path | None:
    """The checkpoint that gives a run with `init_from` its vocabulary and weights; None for a run from scratch.

    A run that is resumed has them in its own latest checkpoint, once there is one.
    """
    if config.init_from is None:
        return None
    if resume and read_index(folder) is not None:
        return find_checkpoint(folder, "latest")
    return find_checkpoint(Path(config.init_from))


def model_of_checkpoint(config: TrainConfig, checkpoint: Path) -> CaptioningModel:
    """The model with the checkpoint's weights and preprocessing, to be trained as `config` says.

    ConfigError where the settings of the model describe another one.
    """
    stored = load_checkpoint(checkpoint)
    encoder = replace(config.encoder, weights=None, image_size=stored.settings.transform.size)
    model = build_model(config.model, encoder, len(stored.vocabulary), load_weights=False)
    model.encoder.transform = stored.settings.transform
    weights = stored.model.state_dict()
    wanted = model.state_dict()
    for name in (*weights, *wanted):
        if name not in weights or name not in wanted or weights[name].shape != wanted[name].shape:
            raise ConfigError(
                f"init_from={config.init_from}: its weights do not fit the settings of model and encoder ({name} "
                "differs). Leave out the settings that change the network; model.dropout may be changed."
            )
    model.load_state_dict(weights)
    return model


def fixed_settings(overrides: list[str]) -> Iterator[str]:
    """Those of the command line's KEY=VALUE that cannot go with `init_from`, because the checkpoint decides them."""
    trained = tuple(f"encoder.{name}=" for name in _TRAINING_SETTINGS)
    for override in overrides:
        text = override.lstrip("+~")
        if text.startswith(("model=", "cell=", "injection=", "attention=", "encoder=", "tokenizer", "vocabulary")) or (
            text.startswith("encoder.") and not text.startswith(trained)
        ):
            yield override
