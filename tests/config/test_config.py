"""An invalid setting raises an error that names it when the dataclass is made, before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from captioner import config as c
from captioner.errors import ConfigError

GROUPS = [kind for kind in vars(c).values() if is_dataclass(kind) and isinstance(kind, type)]


@pytest.mark.parametrize("group", GROUPS)
def test_defaults_work_and_are_not_shared(group: type) -> None:
    first, second = group(), group()
    assert first == second
    for field in fields(group):
        value = getattr(first, field.name)
        if isinstance(value, list) or is_dataclass(value):
            assert value is not getattr(second, field.name), field.name


WRONG: list[tuple[type, str, Any]] = [
    (c.TokenizerConfig, "name", "ptp"),
    (c.TokenizerConfig, "backend", "jawa"),
    (c.VocabularyConfig, "min_count", 0),
    (c.VocabularyConfig, "max_size", 0),
    (c.DataConfig, "name", "flicker8k"),
    (c.DataConfig, "limit", 0),
    (c.DataConfig, "num_workers", -1),
    (c.DataConfig, "on_bad_image", "ignore"),
    (c.ScenesConfig, "train_size", 0),
    (c.ScenesConfig, "val_size", 0),
    (c.ScenesConfig, "test_size", -5),
    (c.CocoConfig, "year", 2016),
    (c.FolderConfig, "val_fraction", 0.5),
    (c.FolderConfig, "val_fraction", -0.1),
    (c.AugmentConfig, "scale", (0.0, 1.0)),
    (c.AugmentConfig, "scale", (0.8, 0.5)),
    (c.AugmentConfig, "scale", (0.5, 1.5)),
    (c.AugmentConfig, "scale", (math.nan, 1.0)),
    (c.AugmentConfig, "ratio", (0.0, 1.0)),
    (c.AugmentConfig, "ratio", (2.0, 0.5)),
    (c.AugmentConfig, "ratio", (1.0, math.inf)),
    (c.AugmentConfig, "flip", 1.1),
    (c.AugmentConfig, "flip", math.nan),
    (c.TransformConfig, "size", 0),
    (c.TransformConfig, "size", 10**9),
    (c.TransformConfig, "resize", "stretch"),
    (c.TransformConfig, "interpolation", "nearest"),
    (c.TransformConfig, "mean", (0.5, math.nan, 0.5)),
    (c.TransformConfig, "std", (0.5, 0.0, 0.5)),
    (c.TransformConfig, "std", (0.5, math.inf, 0.5)),
    (c.TransformConfig, "std", (0.5, math.nan, 0.5)),
    (c.EncoderConfig, "image_size", 31),
    (c.EncoderConfig, "image_size", 10**6),
    (c.EncoderConfig, "resize", "stretch"),
    (c.ModelConfig, "cell", "lstn"),
    (c.ModelConfig, "layers", 0),
    (c.ModelConfig, "layers", 10**9),
    (c.ModelConfig, "embedding_dim", 0),
    (c.ModelConfig, "hidden_dim", -512),
    (c.ModelConfig, "hidden_dim", 10**9),
    (c.ModelConfig, "dropout", 1.0),
    (c.ModelConfig, "dropout", -0.1),
    (c.ModelConfig, "dropout", math.nan),
    (c.AttentionConfig, "hidden_dim", 0),
    (c.AttentionConfig, "attention_dim", 0),
    (c.AttentionConfig, "attention_dim", 10**9),
    (c.AttentionConfig, "gate", "vectors"),
    (c.AttentionConfig, "doubly_stochastic", -1.0),
    (c.DecodeConfig, "name", "bean"),
    (c.DecodeConfig, "max_length", 0),
    (c.DecodeConfig, "min_length", 21),
    (c.DecodeConfig, "min_length", -1),
    (c.DecodeConfig, "no_repeat_ngram", -1),
    (c.DecodeConfig, "beam_width", 0),
    (c.DecodeConfig, "length_penalty", -1.0),
    (c.DecodeConfig, "temperature", 0.0),
    (c.DecodeConfig, "temperature", math.nan),
    (c.DecodeConfig, "top_k", -1),
    (c.DecodeConfig, "top_p", 0.0),
    (c.DecodeConfig, "top_p", 1.1),
    (c.DecodeConfig, "top_p", math.nan),
    (c.OptimConfig, "name", "sdg"),
    (c.OptimConfig, "learning_rate", -1e-3),
    (c.OptimConfig, "learning_rate", math.nan),
    (c.OptimConfig, "learning_rate", math.inf),
    (c.OptimConfig, "encoder_learning_rate", -1.0),
    (c.OptimConfig, "weight_decay", -0.1),
    (c.OptimConfig, "betas", (0.9, 1.0)),
    (c.OptimConfig, "betas", (-0.1, 0.9)),
    (c.OptimConfig, "schedule", "cosinus"),
    (c.OptimConfig, "warmup_steps", -1),
    (c.OptimConfig, "step_epochs", 0),
    (c.OptimConfig, "step_factor", -0.5),
    (c.OptimConfig, "clip_norm", 0.0),
    (c.OptimConfig, "clip_norm", math.nan),
    (c.TrainerConfig, "max_epochs", 0),
    (c.TrainerConfig, "max_steps", 0),
    (c.TrainerConfig, "batch_size", 0),
    (c.TrainerConfig, "captions_per_image", 0),
    (c.TrainerConfig, "max_caption_length", 0),
    (c.TrainerConfig, "label_smoothing", 1.0),
    (c.TrainerConfig, "validate_every", 0),
    (c.TrainerConfig, "monitor", "cider"),
    (c.TrainerConfig, "patience", 0),
    (c.TrainerConfig, "log_every", 0),
    (c.TrainerConfig, "eval_batch_size", 0),
]


@pytest.mark.parametrize(("group", "key", "value"), WRONG)
def test_an_invalid_value_is_named(group: type, key: str, value: Any) -> None:
    prefix = r"(tokenizer|vocabulary|data|augment|transform|encoder|model|decode|optim|trainer)"
    with pytest.raises(ConfigError, match=rf"^{prefix}\.{key}"):
        group(**{key: value})


@pytest.mark.parametrize(
    ("group", "values"),
    [
        (c.VocabularyConfig, {"max_size": None}),
        (c.DataConfig, {"limit": None, "num_workers": 0}),
        (c.FolderConfig, {"val_fraction": 0.0}),
        (c.EncoderConfig, {"image_size": None}),
        (c.EncoderConfig, {"image_size": 32}),
        (c.ModelConfig, {"dropout": 0.0}),
        (c.AttentionConfig, {"doubly_stochastic": 0.0}),
        (c.DecodeConfig, {"min_length": 20, "max_length": 20}),
        (c.DecodeConfig, {"top_p": 1.0, "top_k": 0}),
        (c.OptimConfig, {"clip_norm": None, "warmup_steps": 0, "learning_rate": 0.0}),
        (c.TrainerConfig, {"max_steps": None, "patience": None, "captions_per_image": None, "label_smoothing": 0.0}),
    ],
)
def test_limits_are_valid(group: type, values: dict[str, Any]) -> None:
    made = group(**values)
    assert {key: getattr(made, key) for key in values} == values


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="java tokenizes as ptb only"):
        c.TokenizerConfig(name="char", backend="java")
    with pytest.raises(ConfigError, match="both mirror images: set one of them"):
        c.TrainConfig(cache=c.CacheConfig(flips=True), augment=c.AugmentConfig(flip=0.5))
    c.TrainConfig(
        cache=c.CacheConfig(flips=True), augment=c.AugmentConfig(flip=0.5, after=1)
    )  # cached flips first, then augmentation
    with pytest.raises(ConfigError, match=r"augment\.after=2 sets when augmentation starts, but there is none"):
        c.AugmentConfig(after=2)


def test_messages_name_what_is_expected() -> None:
    with pytest.raises(
        ConfigError, match=r"^model\.dropout=1\.5 is out of range: expected a number from 0\.0 to 0\.95\.$"
    ):
        c.ModelConfig(dropout=1.5)
    with pytest.raises(ConfigError, match=r"^trainer\.batch_size=0 is too small: expected 1 or more\.$"):
        c.TrainerConfig(batch_size=0)
    with pytest.raises(ConfigError, match="Did you mean cosine"):
        c.OptimConfig(schedule="cosin")


def test_each_data_set_and_model_has_a_name_of_its_own() -> None:
    sources = [kind for kind in GROUPS if issubclass(kind, c.DataConfig) and kind is not c.DataConfig]
    assert sorted(kind().name for kind in sources) == sorted(c.DATASETS)
    models = [kind().name for kind in GROUPS if issubclass(kind, c.ModelConfig) and kind is not c.ModelConfig]
    assert len(models) == len(set(models))
