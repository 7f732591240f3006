"""conf/ and the dataclasses agree, and every choice composes into settings."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from captioner.cli.choices import CONF, REGISTRIES, decoder_of
from captioner.cli.hydra_config import compose_language_model_settings, compose_train_settings, register, run_hydra
from captioner.cli.yaml_comments import commented, explained_settings
from captioner.config import (
    AttentionConfig,
    AugmentConfig,
    CacheConfig,
    ChenZitnickConfig,
    CocoConfig,
    CocotalkConfig,
    DecodeConfig,
    Flickr8kConfig,
    Flickr30kConfig,
    FolderConfig,
    LanguageModelConfig,
    MeteorConfig,
    MetricConfig,
    MRNNConfig,
    ObjectiveConfig,
    OptimConfig,
    RecurrentConfig,
    RewardConfig,
    ScenesConfig,
    ShardsConfig,
    TokenizerConfig,
    TrainConfig,
    TrainerConfig,
    VocabularyConfig,
)
from captioner.schema import to_plain

ONE_RUN = ("seed=0", "injection=init", "cell=lstm")
# The file of each group that explains every setting, and the dataclass it explains.
EXPLAINED = {
    "model/lstm.yaml": RecurrentConfig,
    "model/attention.yaml": AttentionConfig,
    "model/mrnn.yaml": MRNNConfig,
    "model/chen_zitnick.yaml": ChenZitnickConfig,
    "data/scenes.yaml": ScenesConfig,
    "data/coco.yaml": CocoConfig,
    "data/flickr8k.yaml": Flickr8kConfig,
    "data/flickr30k.yaml": Flickr30kConfig,
    "data/folder.yaml": FolderConfig,
    "data/shards.yaml": ShardsConfig,
    "data/cocotalk.yaml": CocotalkConfig,
    "tokenizer/ptb.yaml": TokenizerConfig,
    "vocabulary/default.yaml": VocabularyConfig,
    "cache/default.yaml": CacheConfig,
    "augment/none.yaml": AugmentConfig,
    "optim/adamw.yaml": OptimConfig,
    "trainer/default.yaml": TrainerConfig,
    "objective/cross_entropy.yaml": ObjectiveConfig,
    "reward/none.yaml": RewardConfig,
    "decode/beam.yaml": DecodeConfig,
    "metric/default.yaml": MetricConfig,
    "meteor/default.yaml": MeteorConfig,
}
NEED_MORE = ("encoder=torchvision", "encoder=timm", "encoder=none")  # a name; features made elsewhere
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "experiment" and f"{path.parent.name}={path.stem}" not in NEED_MORE
)


@pytest.mark.parametrize("file", EXPLAINED)
def test_every_setting_is_in_its_file_with_its_default_and_a_comment(file: str) -> None:
    text = (CONF / file).read_text(encoding="utf-8")
    stored = {key: value for key, value in yaml.safe_load(text).items() if key != "defaults"}
    expected = to_plain(EXPLAINED[file]())
    if "name" in expected:
        stored.setdefault("name", expected["name"])  # a model or a data set has it in its schema
    assert stored == {key: value for key, value in expected.items() if key in stored}
    missing = {field.name for field in fields(EXPLAINED[file])} - stored.keys()
    assert not missing, f"conf/{file} does not explain {missing}"
    assert explained_settings(CONF / file).keys() >= stored.keys()
    assert text.startswith("# "), "the first line describes the choice"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_comments_are_those_of_the_dataclasses(path: Path) -> None:
    """Where this fails: `make reference` writes them."""
    assert path.read_text(encoding="utf-8") == commented(path)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    group, name = choice.split("=")
    needs = ["model=attention"] if group == "attention" else []
    config = compose_train_settings([*needs, choice])
    assert isinstance(config, TrainConfig)
    if group == "data":
        assert config.data.name == name
    if group == "attention":
        assert config.model.attention == name
    if group == "model" and name in ("rnn", "lstm", "gru"):
        assert config.model.cell == name


def test_defaults_are_the_dataclasses() -> None:
    config = compose_train_settings([])
    assert to_plain(config) == to_plain(TrainConfig())


def test_the_language_model_s_defaults_are_the_dataclasses_each_with_a_comment() -> None:
    assert to_plain(compose_language_model_settings([])) == to_plain(LanguageModelConfig())
    assert compose_language_model_settings(["optim=sgd"]).optim.learning_rate == 0.5
    text = (CONF / "language_model.yaml").read_text(encoding="utf-8")
    stored = yaml.safe_load(text)
    for group in ("data", "model", "trainer", "sampling"):
        assert stored[group] == to_plain(getattr(LanguageModelConfig(), group))
        for key in stored[group]:
            assert re.search(rf"^  {key}:.* # ", text, flags=re.MULTILINE), f"{group}.{key} is not explained"


def test_conf_is_where_the_package_looks() -> None:
    assert (CONF / "train.yaml").is_file()
    assert Path(CONF).name == "conf"


@pytest.mark.parametrize("group", REGISTRIES)
def test_every_built_in_item_can_be_chosen(group: str) -> None:
    """A decoder is chosen by a file for each of its models, everything else by a file of its own name."""
    registry = REGISTRIES[group]
    paths = (CONF / group).glob("*.yaml")
    files = {decoder_of(path) if group == "model" else path.stem for path in paths}
    assert set(registry) - set(registry.additions()) <= files


@pytest.mark.parametrize(
    ("arguments", "compositions", "mode"),
    [
        (["model=gru"], 1, RunMode.RUN),
        (["-m", "model=gru,rnn"], 1, RunMode.MULTIRUN),
        (["hydra.mode=MULTIRUN", "model=gru,rnn"], 2, RunMode.MULTIRUN),
        (
            ["experiment=where_to_put_the_image", *(f"hydra.sweeper.params.{one}" for one in ONE_RUN)],
            2,
            RunMode.MULTIRUN,
        ),
    ],
)
def test_settings_are_composed_once_unless_they_may_set_the_mode(
    arguments: list[str], compositions: int, mode: RunMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[object] = []
    modes: list[RunMode] = []
    compose = Hydra.compose_config

    def count(self: Hydra, *positional: object, **named: object) -> DictConfig:
        composed.append(named)
        return compose(self, *positional, **named)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.setattr(Hydra, "compose_config", count)
    register()
    run_hydra(lambda settings: modes.append(HydraConfig.get().mode), "train", arguments)
    assert set(modes) == {mode}
    assert len(composed) == compositions
