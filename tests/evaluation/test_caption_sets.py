"""Several captions per image: the first is the one that an ordinary evaluation scores, and all are scored together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.cli.evaluate import main
from captioner.config import CacheConfig, DecodeConfig, EvaluateConfig, FolderConfig, MetricConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import FeatureSource, open_model_features
from captioner.errors import ConfigError
from captioner.evaluation.evaluate import evaluate_model, generate_hypothesis_sets, settings_for_sets
from captioner.evaluation.evaluation import Evaluation, metrics_record, write_evaluation
from captioner.metrics import score
from tests.checkpoint.members import save_member
from tests.cli.conftest import Command, command  # noqa: F401  (a fixture)
from tests.tiny import write_tiny_data

BEAM = DecodeConfig(beam_width=2, max_length=6, min_length=2)
SAMPLE = replace(BEAM, name="sample", temperature=20.0)  # the weights of the tests are far from flat
DIVERSE = replace(BEAM, name="diverse", beam_width=2, groups=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FolderConfig:
    return write_tiny_data(tmp_path_factory.mktemp("sets") / "data", images=32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    return load_checkpoint(save_member(tmp_path_factory.mktemp("member") / "run", 1))


@pytest.fixture(scope="module")
def dataset(data: FolderConfig) -> CaptionDataset:
    return load_dataset(data, "test")


@pytest.fixture
def features(trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig) -> FeatureSource:
    return open_model_features(
        dataset, trained.model, data=data, cache=CacheConfig(enabled=False), device=torch.device("cpu")
    )


def evaluate(
    trained: LoadedCheckpoint,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    count: int,
    batch_size: int = 3,
) -> Evaluation:
    return evaluate_model(
        trained.model,
        trained.vocabulary,
        trained.tokenizer(),
        trained.settings.tokenizer,
        dataset,
        features,
        decode,
        MetricConfig(names=["CIDEr"]),
        batch_size,
        captions_per_image=count,
    )


@pytest.mark.parametrize("decode", [BEAM, SAMPLE, DIVERSE], ids=lambda decode: decode.name)
def test_the_first_caption_and_its_scores_are_those_of_an_ordinary_evaluation(
    trained: LoadedCheckpoint, dataset: CaptionDataset, features: FeatureSource, decode: DecodeConfig
) -> None:
    alone = evaluate(trained, dataset, features, decode, 1)
    both = evaluate(trained, dataset, features, decode, 2)
    assert both.captions == alone.captions
    assert both.scores.corpus["CIDEr"] == alone.scores.corpus["CIDEr"]
    assert alone.caption_sets is None
    assert "Self_CIDEr" not in alone.scores.corpus
    sets = both.caption_sets
    assert sets is not None
    assert {key: captions[0] for key, captions in sets.items()} == alone.captions
    assert {len(captions) for captions in sets.values()} == {2}
    expected = score(alone.captions, dataset.references, names=["Caption_sets"], sets=sets).corpus
    assert {name: both.scores.corpus[name] for name in expected} == expected
    other_batches = evaluate(trained, dataset, features, decode, 2, batch_size=8)
    assert other_batches.caption_sets == sets


def test_samples_of_an_image_are_different(
    trained: LoadedCheckpoint, dataset: CaptionDataset, features: FeatureSource
) -> None:
    found = generate_hypothesis_sets(trained.model, trained.vocabulary, dataset, features, SAMPLE, 4, 5)
    assert all(len({one.tokens for one in of_image}) > 2 for of_image in found.values())
    fewer = generate_hypothesis_sets(trained.model, trained.vocabulary, dataset, features, SAMPLE, 4, 3)
    assert all(of_image == found[index][:3] for index, of_image in fewer.items())


def test_a_search_that_finds_fewer_repeats_them(
    trained: LoadedCheckpoint, dataset: CaptionDataset, features: FeatureSource
) -> None:
    decode = replace(DIVERSE, beam_width=2, diversity_penalty=0.0)  # both groups find the same caption
    found = generate_hypothesis_sets(trained.model, trained.vocabulary, dataset, features, decode, 4, 3)
    assert all(len(of_image) == 3 and len({one.tokens for one in of_image}) == 1 for of_image in found.values())


def test_a_beam_is_as_wide_as_needed() -> None:
    assert settings_for_sets(BEAM, 5).beam_width == 5
    assert settings_for_sets(replace(BEAM, beam_width=9), 5).beam_width == 9
    assert settings_for_sets(replace(DIVERSE, groups=2), 5).beam_width == 6
    assert settings_for_sets(BEAM, 1) == BEAM
    assert settings_for_sets(SAMPLE, 5) == SAMPLE


def test_a_widened_beam_is_said_to_be_one(
    trained: LoadedCheckpoint, dataset: CaptionDataset, features: FeatureSource
) -> None:
    """Its first captions are those of the wider beam, and so are all scores."""
    found = evaluate(trained, dataset, features, BEAM, 4)
    assert found.captions == evaluate(trained, dataset, features, replace(BEAM, beam_width=4), 1).captions
    assert any("decode.beam_width=4, not of 2" in notice for notice in found.notices)
    assert not any("beam_width" in notice for notice in evaluate(trained, dataset, features, BEAM, 2).notices)


def test_what_is_written(
    trained: LoadedCheckpoint, dataset: CaptionDataset, features: FeatureSource, tmp_path: Path
) -> None:
    evaluation = evaluate(trained, dataset, features, SAMPLE, 3)
    write_evaluation(tmp_path, evaluation, per_image=True)
    written = json.loads((tmp_path / "caption_sets_test.json").read_text())
    assert {entry["image_id"]: entry["captions"] for entry in written} == evaluation.caption_sets
    record = metrics_record(evaluation)
    assert record == json.loads((tmp_path / "metrics.json").read_text())
    for name in ("Self_CIDEr", "mBLEU_4", "Div_1", "Div_2", "Oracle_CIDEr", "Mean_CIDEr"):
        low, high = record["intervals"][name]
        assert low - 1e-9 <= record[name] <= high + 1e-9
    assert record["signature"]["caption_sets"] == {"captions_per_image": 3}
    assert "Self_CIDEr" in (tmp_path / "per_image_test.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("name", ["greedy", "contrastive"])
def test_a_search_with_one_caption_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"needs decode=beam, diverse or sample: decode={name} finds one caption"):
        settings_for_sets(DecodeConfig(name=name), 2)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"captions_per_image"):
        EvaluateConfig(captions_per_image=0)
    with pytest.raises(ConfigError, match=r"Caption_sets, which needs several: give captions_per_image=5"):
        EvaluateConfig(metric=MetricConfig(names=["Caption_sets"]))
    EvaluateConfig(metric=MetricConfig(names=["Caption_sets"]), captions_per_image=2)


def test_a_file_of_captions_has_one_per_image(command: Command) -> None:  # noqa: F811
    result = command(main, "results=x.json", "captions_per_image=3")
    assert result.code == 2
    assert "captions_per_image=3 needs checkpoint=" in result.err
