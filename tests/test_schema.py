"""Settings to plain values and back: every value is kept, and unknown keys and types are rejected."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner import config as c
from captioner.config import DATASETS, DECODERS
from captioner.errors import ConfigError
from captioner.metrics.registry import METRICS, monitored_scores
from captioner.schema import data_settings, from_plain, model_settings, to_plain

FRACTIONS, RATES = st.floats(0, 0.4), st.floats(0, 1e3)
SIZES = st.integers(1, 4096)
TEXTS = st.text(max_size=8)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


DATA: dict[str, st.SearchStrategy[Any]] = {
    "root": maybe(TEXTS),
    "limit": maybe(SIZES),
    "num_workers": st.integers(0, 99),
    "on_bad_image": st.sampled_from(["error", "skip"]),
}
MODEL: dict[str, st.SearchStrategy[Any]] = {
    "cell": st.sampled_from(list(c.CELLS)),
    "layers": st.integers(1, 4),
    "embedding_dim": SIZES,
    "hidden_dim": SIZES,
    "dropout": FRACTIONS,
    "tie_embeddings": st.booleans(),
}
TRIPLES = st.tuples(*[st.floats(0.01, 9)] * 3)
GROUPS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    c.TokenizerConfig: {"name": st.sampled_from(list(c.TOKENIZERS))},
    c.VocabularyConfig: {"min_count": SIZES, "max_size": maybe(SIZES)},
    c.DataConfig: {"name": st.sampled_from(sorted(c.DATASETS)), **DATA},
    c.ScenesConfig: {"seed": st.integers(), "train_size": SIZES, "val_size": SIZES, "test_size": SIZES, **DATA},
    c.CocoConfig: {"year": st.sampled_from([None, 2014, 2015, 2017]), "karpathy": maybe(TEXTS), **DATA},
    c.Flickr8kConfig: DATA,
    c.Flickr30kConfig: {"karpathy": maybe(TEXTS), **DATA},
    c.FolderConfig: {"captions": maybe(TEXTS), "val_fraction": FRACTIONS, **DATA},
    c.ShardsConfig: {"train": maybe(TEXTS), "val": maybe(TEXTS), "test": maybe(TEXTS), **DATA},
    c.CacheConfig: {"enabled": st.booleans(), "directory": maybe(TEXTS), "flips": st.booleans()},
    c.AugmentConfig: {
        "scale": st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)),
        "ratio": st.tuples(st.floats(0.1, 1), st.floats(1, 9)),
        "flip": st.floats(0, 1),
    },
    c.ObjectiveConfig: {
        "scheduled_sampling": st.sampled_from(["none", "linear"]),
        "unlikelihood": st.floats(0, 9),
        "r_drop": st.floats(0, 9),
    },
    c.RewardConfig: {
        "after": st.none(),  # other values depend on other groups
        "samples": st.integers(2, 1000),
        "learning_rate": st.floats(0, 1),
        "fluency": st.floats(0, 9),
        "cross_entropy_weight": st.floats(0, 9),
        "meteor": st.floats(0, 9),
    },
    c.TransformConfig: {
        "size": SIZES,
        "resize": st.sampled_from(["squash", "crop"]),
        "interpolation": st.sampled_from(["bilinear", "bicubic"]),
        "mean": TRIPLES,
        "std": TRIPLES,
    },
    c.EncoderConfig: {
        "name": TEXTS,
        "weights": maybe(TEXTS),
        "image_size": maybe(st.integers(32, 999)),
        "fine_tune_from": TEXTS,
        "fine_tune_after": st.integers(0, 9),
        "gradient_checkpointing": st.booleans(),
        "batch_norm_eval": st.booleans(),
    },
    c.ModelConfig: MODEL,
    c.RecurrentConfig: {"injection": st.sampled_from(c.INJECTIONS), **MODEL},
    c.AttentionConfig: {
        "attention_dim": SIZES,
        "grid_dim": maybe(SIZES),
        "gate": st.sampled_from(["scalar", "vector", "none"]),
        "attention": st.sampled_from(["none", "soft", "hard"]),
        "score": st.sampled_from(["additive", "dot"]),
        "hard_at_test": st.sampled_from(["expected", "sample"]),
        "hard_expected_share": FRACTIONS,
        "hard_reinforce": RATES,
        "hard_entropy": RATES,
        "doubly_stochastic": RATES,
        **MODEL,
    },
    c.MRNNConfig: {"multimodal_dim": SIZES, **MODEL},
    c.ChenZitnickConfig: {"visual_dim": SIZES, "reconstruction": RATES, **MODEL},
    c.Att2inConfig: {
        **MODEL,
        "cell": st.just("lstm_maxout"),
        "attention_dim": SIZES,
        "grid_dim": maybe(SIZES),
        "word_activation": st.sampled_from(["none", "relu"]),
    },
    c.UpDownConfig: {"attention_dim": SIZES, "grid_dim": maybe(SIZES), "vector_dim": maybe(SIZES), **MODEL},
    c.TransformerConfig: {
        "encoder_layers": st.integers(0, 4),
        "hidden_dim": st.sampled_from([8, 64]),
        "heads": st.sampled_from([1, 2, 8]),
        "feed_forward_dim": SIZES,
        "norm": st.sampled_from(["pre", "post"]),
        "layer_norm": st.sampled_from(["standard", "unbiased"]),
        "positions": st.sampled_from(["sinusoidal", "learned"]),
        "longest": st.integers(2, 999),
    },
    c.DecodeConfig: {
        "name": st.sampled_from(["greedy", "sample", "beam", "contrastive"]),
        "max_length": SIZES,
        "allow_unknown": st.booleans(),
        "repetition_penalty": st.floats(1, 50),
        "beam_width": SIZES,
        "length_penalty": st.floats(0, 50),
        "groups": SIZES,
        "diversity_penalty": RATES,
        "candidates": SIZES,
        "degeneration_penalty": FRACTIONS,
        "min_p": FRACTIONS,
        "typical_p": st.floats(0.01, 1),
        "temperature": st.floats(0.01, 9),
        "top_p": st.floats(0.01, 1),
        "seed": st.integers(),
    },
    c.OptimConfig: {
        "learning_rate": RATES,
        "betas": st.tuples(FRACTIONS, FRACTIONS),
        "schedule": st.sampled_from(["constant", "cosine", "step"]),
        "clip_norm": maybe(st.floats(0.01, 9)),
    },
    c.TrainerConfig: {
        "devices": maybe(SIZES),
        "timeout_minutes": st.floats(0.01, 99),
        "max_steps": maybe(SIZES),
        "label_smoothing": FRACTIONS,
        "gradient_accumulation_steps": maybe(SIZES),
        "compile": st.booleans(),
        "precision": st.sampled_from(["float32", "bfloat16", "float16"]),
        "float32_matmul_precision": st.sampled_from(["highest", "high", "medium"]),
        "ema": maybe(st.sampled_from([0.5, 0.999])),
        "detect_anomaly": st.booleans(),
        "keep_last": SIZES,
        "keep_best": SIZES,
        "monitor": st.sampled_from(monitored_scores()),
        "evaluate_splits": st.lists(TEXTS, max_size=3),
        "patience": maybe(SIZES),
    },
    c.TextConfig: {
        "text": maybe(TEXTS),
        "level": st.sampled_from(c.LEVELS),
        "min_count": SIZES,
        "val_fraction": st.floats(0.01, 0.4),
        "size": SIZES,
        "seed": st.integers(),
    },
    c.LanguageNetworkConfig: MODEL,
    c.LanguageTrainerConfig: {
        "max_steps": maybe(SIZES),
        "streams": SIZES,
        "window": SIZES,
        "patience": maybe(SIZES),
        "keep_last": SIZES,
        "sample_stages": st.integers(0, 9),
        "baseline_order": st.integers(0, 9),
        "tensorboard": st.booleans(),
    },
    c.SamplingConfig: {
        "prompt": TEXTS,
        "length": SIZES,
        "temperature": st.floats(0.01, 9),
        "top_k": SIZES,
        "top_p": st.floats(0.01, 1),
        "seed": st.integers(),
    },
    c.CocotalkConfig: {"words": maybe(TEXTS), "labels": maybe(TEXTS), **DATA},
    c.MeteorConfig: {"backend": st.sampled_from(["auto", "python", "java"])},
    c.MetricConfig: {
        "names": st.lists(st.sampled_from(list(METRICS)), max_size=3),
        "per_image": st.booleans(),
        "grounding": st.sampled_from([None, "generated", "references"]),
    },
}
"""Every group of settings, with values for its fields. The settings of a whole command are composed by Hydra."""


def test_every_group_is_here() -> None:
    """A new dataclass in captioner.config must be added above."""
    every = {kind for kind in vars(c).values() if isinstance(kind, type) and kind.__module__.startswith(c.__name__)}
    assert every - set(GROUPS) == {c.TrainConfig, c.EvaluateConfig, c.LanguageModelConfig}


@given(st.one_of(st.builds(kind, **values) for kind, values in GROUPS.items()))
@settings(deadline=None, max_examples=200)
def test_json_keeps_every_value(config: Any) -> None:
    plain = json.loads(json.dumps(to_plain(config)))
    again = from_plain(type(config), plain, "group")
    assert again == config
    assert to_plain(again) == plain
    for field in fields(config):  # 1 == 1.0 == True
        assert type(getattr(again, field.name)) is type(getattr(config, field.name)), field.name


@pytest.mark.parametrize("kind", [DECODERS[name] for name in DECODERS])
def test_a_model_is_found_by_its_name(kind: type[c.ModelConfig]) -> None:
    assert type(model_settings(to_plain(kind()))) is kind


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_is_found_by_its_name(name: str) -> None:
    assert type(data_settings(to_plain(DATASETS[name]()))) is DATASETS[name]


def test_missing_settings_take_their_defaults() -> None:
    assert from_plain(c.VocabularyConfig, {"max_size": 9}, "vocabulary") == c.VocabularyConfig(max_size=9)
    assert from_plain(c.VocabularyConfig, {}, "vocabulary") == c.VocabularyConfig()


def test_an_integer_is_a_float_but_no_float_is_an_integer() -> None:
    learning_rate = from_plain(c.OptimConfig, {"learning_rate": 1}, "optim").learning_rate
    assert type(learning_rate) is float
    with pytest.raises(ConfigError, match=r"model\.layers=1\.0 has the wrong type: expected int"):
        from_plain(c.ModelConfig, {"layers": 1.0}, "model")


@pytest.mark.parametrize(
    ("kind", "key", "value", "expected"),
    [
        (c.ModelConfig, "layers", True, "int"),
        (c.ModelConfig, "layers", "1", "int"),
        (c.ModelConfig, "layers", None, "int"),
        (c.ModelConfig, "dropout", True, "float"),
        (c.ModelConfig, "dropout", "0.5", "float"),
        (c.ModelConfig, "dropout", 10**400, "float"),
        (c.ModelConfig, "tie_embeddings", 1, "bool"),
        (c.ModelConfig, "tie_embeddings", "false", "bool"),
        (c.ModelConfig, "cell", 3, "str"),
        (c.ModelConfig, "cell", ["lstm"], "str"),
        (c.ModelConfig, "cell", {"_target_": "os.system"}, "str"),
        (c.DataConfig, "limit", 2.5, "int"),
        (c.DataConfig, "limit", False, "int"),
        (c.TransformConfig, "mean", [0.5, 0.5], r"tuple\[float, float, float\]"),
        (c.TransformConfig, "mean", 0.5, r"tuple\[float, float, float\]"),
        (c.TransformConfig, "mean", [0.5, 0.5, None], "float"),
        (c.MetricConfig, "names", "Bleu", r"list\[str\]"),
        (c.MetricConfig, "names", ["Bleu", 4], "str"),
    ],
)
def test_wrong_types_are_named(kind: type, key: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"^group\.{key}=.* has the wrong type: expected {expected}\.$"):
        from_plain(kind, {key: value}, "group")


def test_invalid_values_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.cell='lstn' does not exist\. Did you mean lstm\?"):
        from_plain(c.ModelConfig, {"cell": "lstn"}, "model")


def test_keys_that_do_not_exist_are_named_with_near_misses() -> None:
    with pytest.raises(ConfigError, match=r"^model\.hidden_dims does not exist\. Did you mean hidden_dim"):
        from_plain(c.ModelConfig, {"hidden_dims": 3}, "model")
    with pytest.raises(ConfigError, match=r"^model\._target_ does not exist\."):
        from_plain(c.ModelConfig, {"_target_": "os.system"}, "model")
    with pytest.raises(ConfigError, match=r"^model\.7 does not exist\."):
        from_plain(c.ModelConfig, {7: 3}, "model")


@pytest.mark.parametrize("value", [None, 7, "lstm", [], True])
def test_values_that_are_no_group_are_rejected(value: Any) -> None:
    with pytest.raises(ConfigError, match="model must be a group of settings, but is"):
        from_plain(c.ModelConfig, value, "model")
    with pytest.raises(ConfigError):
        model_settings(value)


def test_interpolations_are_not_resolved() -> None:
    """An interpolation of OmegaConf stays text; environment variables are not read."""
    assert from_plain(c.EncoderConfig, {"weights": "${oc.env:HOME}"}, "encoder").weights == "${oc.env:HOME}"
