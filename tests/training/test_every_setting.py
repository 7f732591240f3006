"""No setting is without effect: another value gives another log, record, file or result, or a message that says why.

Each field of the settings of `train.py` is changed alone, where it matters (`CONTEXTS`), in a training of a second. A
new setting is swept without being named here. What cannot show in such a training has a reason in `EXCEPTIONS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import pytest

from captioner.config import CacheConfig, FolderConfig, TrainConfig
from captioner.errors import CaptionerError
from captioner.training.logs import read_records
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

CLOCKS = ("seconds", "words_per_second")
TUNED = {"encoder.fine_tune_from": "features.12", "optim.encoder_learning_rate": 0.01}
REWARDED = {"reward.after": 1, "trainer.max_epochs": 2, "optim.warmup_steps": 0}

CONTEXTS: dict[str, dict[str, Any]] = {
    "model.hard_": {"model.attention": "hard"},
    "model.residual": {"model.layers": 2, "model.embedding_dim": 12},
    "encoder.fine_tune_after": TUNED | {"trainer.max_epochs": 2},
    "augment.ratio": {"augment.scale": (0.5, 1.0)},
    "augment.after": {"augment.flip": 0.5, "trainer.max_epochs": 2},
    "optim.encoder_learning_rate": TUNED,
    "optim.step_epochs": {"optim.schedule": "step", "optim.step_epochs": 1, "trainer.max_epochs": 3},
    "optim.step_factor": {"optim.schedule": "step", "optim.step_epochs": 1, "trainer.max_epochs": 2},
    "trainer.validate_every": {"trainer.max_epochs": 2},
    "trainer.keep_last": {"trainer.max_epochs": 3},
    "trainer.keep_best": {"trainer.max_epochs": 4},
    "trainer.monitor": {"optim.learning_rate": 0.0, "trainer.max_epochs": 3, "trainer.patience": 1},
    "trainer.patience": {"optim.learning_rate": 0.0, "trainer.max_epochs": 3, "trainer.patience": 2},
    "objective.sampling_": {"objective.scheduled_sampling": "linear", "objective.sampling_k": 0.5},
    "objective.own_words": {"objective.scheduled_sampling": "linear", "objective.sampling_k": 0.5},
    "reward.after": {"trainer.max_epochs": 2},
    "reward.": REWARDED,
    "decode.temperature": {"decode.name": "sample"},
    "decode.top_": {"decode.name": "sample"},
    "decode.min_p": {"decode.name": "sample"},
    "decode.typical_p": {"decode.name": "sample"},
    "decode.seed": {"decode.name": "sample"},
    "decode.groups": {"decode.name": "diverse"},
    "decode.diversity_penalty": {"decode.name": "diverse"},
    "decode.candidates": {"decode.name": "contrastive"},
    "decode.degeneration_penalty": {"decode.name": "contrastive"},
    "metric.rare_at_most": {"metric.names": ["Bleu", "CIDEr", "Diversity"]},
}
"""Beginning of a setting's name → the settings with which it matters; the first that fits."""

VALUES: dict[str, Any] = {
    "trainer.keep_best": 3,
    "model.cell": "gru",
    "model.attention": "adaptive",
    "model.dropout": 0.5,
    "model.grid_dim": 4,
    "encoder.name": "mobilenet_v2",
    "encoder.image_size": 96,
    "encoder.grid_size": 1,
    "encoder.feature_dim": 5,
    "encoder.fine_tune_from": "features.12",
    "data.limit": 5,
    "data.features": "missing",
    "data.captions": "missing.csv",
    "data.train": "missing.csv",
    "data.val": "missing.csv",
    "data.test": "missing.csv",
    "data.root": "missing",
    "data.image_column": "missing",
    "data.caption_column": "split",
    "data.split_column": "missing",
    "tokenizer.name": "whitespace",
    "vocabulary.min_count": 9,
    "vocabulary.max_size": 6,
    "cache.directory": "other",
    "augment.scale": (0.5, 1.0),
    "augment.ratio": (0.8, 1.25),
    "augment.flip": 0.5,
    "optim.name": "sgd",
    "optim.betas": (0.5, 0.9),
    "optim.clip_norm": 0.01,
    "trainer.max_steps": 2,
    "trainer.gradient_accumulation_steps": 2,
    "trainer.captions_per_image": 1,
    "trainer.max_caption_length": 2,
    "trainer.monitor": "Bleu_4",
    "trainer.patience": 1,
    "trainer.evaluate_splits": ["test"],
    "trainer.precision": "bfloat16",
    "trainer.ema": 0.9,
    "objective.sampling_k": 0.2,
    "objective.sampling_floor": 0.9,
    "reward.after": 1,
    "decode.max_length": 2,
    "decode.min_length": 8,
    "decode.no_repeat_ngram": 1,
    "decode.repetition_penalty": 3.0,
    "decode.beam_width": 1,
    "decode.groups": 1,
    "decode.diversity_penalty": 9.0,
    "decode.min_p": 1.0,
    "decode.typical_p": 0.1,
    "decode.length_penalty": 2.0,
    "decode.implausible_penalty": 20.0,
    "decode.temperature": 5.0,
    "decode.top_k": 1,
    "decode.top_p": 0.1,
    "metric.names": ["Bleu"],
    "metric.tokenizer": "whitespace",
    "metric.rare_at_most": 40,
    "metric.grounding": "generated",
}
"""Setting → another valid value, where it does not follow from the type."""

PAIRS = {"augment.scale", "augment.ratio", "optim.betas"}

_SAME = "the result is meant to be the same; "
EXCEPTIONS = {
    "task": "another task has another class of settings",
    "device": "there may be no other device",
    "resume": "needs a run: tests/training/test_resume.py",
    "resume_despite": "needs a run: tests/training/test_run_identity.py",
    "init_from": "needs a run: tests/training/test_init_from.py",
    "model.name": "another decoder has another class of settings; all of them: tests/cli/test_every_config.py",
    "model.tie_embeddings": "here embedding_dim and hidden_dim differ: tests/nn/decoders",
    "encoder.library": "names of the other library: tests/nn/encoders",
    "encoder.weights": "it would be downloaded: tests/nn/encoders/test_encoder_weights.py",
    "encoder.resize": "the tiny images are square: tests/data/images/test_transforms.py",
    "encoder.batch_norm_eval": "the tiny encoder has no BatchNorm: tests/nn/encoders",
    "encoder.gradient_checkpointing": _SAME + "less memory: tests/nn/encoders",
    "data.name": "another data set has another class of settings",
    "data.num_workers": _SAME + "faster: tests/training/test_cached_training.py",
    "data.on_bad_image": "needs an image that cannot be read: tests/data/images/test_loader.py",
    "data.stretch": "8-bit images without outliers look alike: tests/training/test_stretched_images.py",
    "data.keep_rejected": "for VizWiz and TextCaps: tests/data/datasets/layouts",
    "data.keep_precanned": "for VizWiz: tests/data/datasets/layouts",
    "data.val_fraction": "for tables without splits: tests/data/datasets/test_folder.py",
    "tokenizer.backend": "needs Java: tests/text/test_java_ptb.py",
    "tokenizer.subwords": "for tokenizer=bpe: tests/training/test_learned_tokenizer.py",
    "trainer.devices": "starts processes: tests/cli/test_launch.py",
    "trainer.timeout_minutes": "how long a rank waits for another: tests/distributed",
    "trainer.eval_batch_size": _SAME + "faster, more memory",
    "trainer.float32_matmul_precision": "of some processors only: tests/training/test_precision.py",
    "trainer.compile": "takes a minute: tests/training/test_compile.py",
    "trainer.detect_anomaly": "shows where a NaN arose: tests/training/test_nan_detection.py",
    "reward.meteor": "makes METEOR's index, which takes a minute: tests/metrics/test_meteor_reward.py",
    "decode.allow_unknown": "the tiny captions have no rare words: tests/decode/test_constraints.py",
    "meteor.backend": "METEOR is not computed here: tests/metrics/meteor",
}
"""Setting → why a tiny training cannot show its effect, and what does."""


def group_settings(config: TrainConfig) -> dict[str, Any]:
    """All settings with their values, by dotted name."""
    found: dict[str, Any] = {}
    for part in fields(config):
        value = getattr(config, part.name)
        if is_dataclass(value):
            found |= {f"{part.name}.{inner.name}": getattr(value, inner.name) for inner in fields(value)}
        else:
            found[part.name] = value
    return found


def changed(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """`config` with other values; all groups are checked again, once."""
    groups: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for name, value in settings.items():
        group, _, key = name.rpartition(".")
        (groups.setdefault(group, {}) if group else own)[key] = value
    built = {group: replace(getattr(config, group), **values) for group, values in groups.items()}
    return replace(config, **built, **own)


def other_value(name: str, config: TrainConfig) -> Any:
    if name in VALUES:
        return VALUES[name]
    group, _, key = name.rpartition(".")
    settings = getattr(config, group) if group else config
    value = getattr(settings, key)
    if key in getattr(settings, "choices", {}):
        return next(choice for choice in settings.choices[key] if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.1
    raise AssertionError(f"{name}={value!r}: give another valid value in VALUES, or a reason in EXCEPTIONS")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """outcome(settings) → what a training with these settings shows, as one value; equal settings are trained once."""
    root = tmp_path_factory.mktemp("settings")
    base = replace(
        with_trainer(tiny_config(write_tiny_data(root / "data")), max_epochs=1),
        cache=CacheConfig(directory=str(root / "cache")),
    )

    @cache
    def of(settings: str) -> str:
        folder = root / f"run{of.cache_info().currsize}"
        folder.mkdir()
        values = json.loads(settings)
        if "cache.directory" in values:
            values["cache.directory"] = str(root / values["cache.directory"])
        for name in PAIRS & values.keys():  # JSON has no tuples
            values[name] = tuple(values[name])
        before = {path.name for path in root.iterdir()}
        try:
            train(prepare(changed(base, values), folder))
        except CaptionerError as error:
            return str(error).replace(str(folder), "RUN")
        metrics = json.loads((folder / "metrics.json").read_text())
        del metrics["run"]["words_per_second"]
        lines = [line.split("  ", 1)[1] for line in (folder / "log.txt").read_text().splitlines()]
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        shown = {
            "metrics": metrics,
            "records": [{k: v for k, v in record.items() if k not in CLOCKS} for record in read_records(folder)],
            "log": [line.replace(str(folder), "RUN") for line in lines],
            "files": sorted({"tensorboard" if "tfevents" in file else file for file in files}),
            "captions": {path.name: path.read_text() for path in folder.glob("captions_*.json")},
            "beside": sorted({path.name for path in root.iterdir()} - before),
        }
        return json.dumps(shown, sort_keys=True)

    return base, lambda settings: of(json.dumps(settings, sort_keys=True))


NAMES = sorted(group_settings(tiny_config(FolderConfig(root="data", captions="captions.csv"))))


def context_of(name: str) -> dict[str, Any]:
    return next((settings for start, settings in CONTEXTS.items() if name.startswith(start)), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in EXCEPTIONS])
def test_another_value_makes_a_difference_or_a_message(name: str, outcome: Any) -> None:
    base, of = outcome
    context = context_of(name)
    other = other_value(name, changed(base, context))
    assert of(context | {name: other}) != of(context), f"{name}={other} changes nothing that a person could see"


def test_every_exception_is_a_setting() -> None:
    assert set(EXCEPTIONS) <= set(NAMES)
    assert all(any(name.startswith(start) for name in NAMES) for start in CONTEXTS)
    assert set(VALUES) <= set(NAMES)
