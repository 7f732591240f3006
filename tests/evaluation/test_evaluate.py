"""Evaluation scores generated captions of every image, and records all that makes scores comparable."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner import __version__
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.config import CacheConfig, DecodeConfig, FolderConfig, MetricConfig, TokenizerConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_features
from captioner.errors import ConfigError, DataError, ImageError
from captioner.evaluation.evaluate import evaluate_model, generate_captions
from captioner.evaluation.evaluation import (
    Evaluation,
    evaluate_results,
    format_scores,
    metrics_record,
    score_captions,
    write_evaluation,
)
from captioner.text.tokenizers import build_tokenizer
from tests.tiny import write_tiny_data

GREEDY = DecodeConfig(name="greedy", max_length=8)
TOKENIZER = TokenizerConfig()


@pytest.fixture(scope="module")
def trained(tiny_run: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_run)


@pytest.fixture
def data(tmp_path: Path) -> FolderConfig:
    return write_tiny_data(tmp_path / "data")


@pytest.fixture
def dataset(data: FolderConfig) -> CaptionDataset:
    return load_dataset(data, "test")


def features(trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig, *, cached: bool = True) -> Any:
    return open_features(
        dataset,
        trained.model.encoder,
        with_grid=trained.model.needs_grid,
        data=data,
        cache=CacheConfig(enabled=cached),
        device=torch.device("cpu"),
    )


def evaluate(
    trained: LoadedCheckpoint,
    dataset: CaptionDataset,
    data: FolderConfig,
    *,
    decode: DecodeConfig = GREEDY,
    names: tuple[str, ...] = ("Bleu", "CIDEr"),
    batch_size: int = 3,
    cached: bool = True,
) -> Evaluation:
    return evaluate_model(
        trained.model,
        trained.vocabulary,
        build_tokenizer(TOKENIZER),
        TOKENIZER,
        dataset,
        features(trained, dataset, data, cached=cached),
        decode,
        MetricConfig(names=list(names)),
        batch_size,
    )


# --------------------------------------------------------------------------------------------- captions


def test_every_image_has_a_caption_in_the_order_of_the_data(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    found = evaluate(trained, dataset, data)
    assert list(found.captions) == [image.image_id for image in dataset]
    assert len(set(found.captions.values())) >= 3  # captions depend on the images
    right = sum(found.captions[image.image_id] in image.captions for image in dataset)
    assert right >= len(dataset) - 1  # and are correct


def test_references_do_not_influence_captions(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    """The captions do not depend on the references or on their length."""
    nonsense = tuple(
        replace(image, captions=("zebra " * (1 + number), "?")) for number, image in enumerate(dataset.images)
    )
    for decode in (GREEDY, DecodeConfig(name="beam", max_length=8), DecodeConfig(name="sample", max_length=8)):
        ours = evaluate(trained, dataset, data, decode=decode)
        theirs = evaluate(trained, replace(dataset, images=nonsense), data, decode=decode)
        assert ours.captions == theirs.captions
        assert ours.scores.corpus["Bleu_1"] > theirs.scores.corpus["Bleu_1"] == pytest.approx(0, abs=1e-6)


def test_batch_size_and_cache_do_not_change_captions(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    expected = evaluate(trained, dataset, data, batch_size=8)
    for batch_size, cached in ((1, True), (5, True), (99, False)):
        found = evaluate(trained, dataset, data, batch_size=batch_size, cached=cached)
        assert found.captions == expected.captions
        assert found.scores.corpus == expected.scores.corpus


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_captioning_and_back_after(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig, training: bool
) -> None:
    tokenizer, source = build_tokenizer(TOKENIZER), features(trained, dataset, data)
    trained.model.train(training)
    modes = set()

    def note_mode(module: torch.nn.Module, arguments: object) -> None:
        modes.add(module.training)

    with torch.nn.modules.module.register_module_forward_pre_hook(note_mode):
        generate_captions(trained.model, trained.vocabulary, tokenizer, dataset, source, GREEDY, 3)
    assert modes == {False}
    assert trained.model.training == training
    assert all(parameter.grad is None for parameter in trained.model.parameters())
    trained.model.eval()


def test_mode_is_restored_after_a_failure(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    live = features(trained, dataset, data, cached=False)
    dataset.images[5].path.write_bytes(b"no image")
    trained.model.train()
    with pytest.raises(ImageError, match=dataset.images[5].path.name):
        generate_captions(trained.model, trained.vocabulary, build_tokenizer(TOKENIZER), dataset, live, GREEDY, 3)
    assert trained.model.training
    trained.model.eval()


# ----------------------------------------------------------------------------- images that are not scored


@pytest.mark.parametrize("cached", [True, False])
def test_images_that_cannot_be_read_are_listed(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig, tmp_path: Path, cached: bool
) -> None:
    bad = [dataset.images[index] for index in (0, 6)]
    for image in bad:
        image.path.write_bytes(image.path.read_bytes()[:99])
    found = evaluate(trained, dataset, replace(data, on_bad_image="skip"), cached=cached)
    assert set(found.skipped) == {image.image_id for image in bad}
    assert set(found.captions) == {image.image_id for image in dataset} - set(found.skipped)
    assert found.signature["skipped_images"] == 2
    assert found.signature["images"] == len(dataset) - 2
    write_evaluation(tmp_path, found, per_image=False)
    skipped = json.loads((tmp_path / "metrics.json").read_text())["skipped"]
    assert bad[0].path.name in skipped[bad[0].image_id]


def test_images_without_captions_are_captioned_but_not_scored(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    silent = (replace(dataset.images[0], captions=()), *dataset.images[1:])
    evaluation = evaluate(trained, replace(dataset, images=silent), data)
    assert set(evaluation.captions) == {image.image_id for image in dataset}
    without = evaluate(trained, replace(dataset, images=dataset.images[1:]), data)
    assert evaluation.scores.corpus == without.scores.corpus
    assert evaluation.signature["images"] == len(dataset) - 1
    assert evaluation.signature["skipped_images"] == 0


def test_nothing_to_score_against(dataset: CaptionDataset) -> None:
    captions = {image.image_id: "a red half" for image in dataset}
    silent = replace(dataset, images=tuple(replace(image, captions=()) for image in dataset))
    with pytest.raises(DataError, match=r"No image of .*test split has a reference caption"):
        score_captions(captions, silent, ["Bleu"], TOKENIZER)
    with pytest.raises(DataError, match="has a reference caption to score against"):
        score_captions({}, dataset, ["Bleu"], TOKENIZER)


# ---------------------------------------------------------------------------------------- files


def test_files(trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig, tmp_path: Path) -> None:
    found = evaluate(trained, dataset, data)
    write_evaluation(tmp_path, found, per_image=True, extra={"run": {"seed": 3}})
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "captions_test.json",
        "metrics.json",
        "per_image_test.csv",
    }
    results = json.loads((tmp_path / "captions_test.json").read_text(encoding="utf-8"))
    assert results == [{"image_id": image_id, "caption": caption} for image_id, caption in found.captions.items()]
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert {name: metrics[name] for name in found.scores.corpus} == found.scores.corpus  # unrounded
    assert metrics["run"] == {"seed": 3}
    assert metrics["unavailable"] == {}
    assert "skipped" not in metrics
    with (tmp_path / "per_image_test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == list(found.captions)
    mean = sum(float(row["CIDEr"]) for row in rows) / len(rows)
    assert mean == pytest.approx(found.scores.corpus["CIDEr"])


def test_signature_contains_all_that_must_be_equal(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    signature = evaluate(trained, dataset, data).signature
    assert signature["captioner"] == __version__
    assert (signature["data"], signature["split"]) == (dataset.name, "test")
    assert (signature["images"], signature["references"]) == (8, 16)
    assert signature["tokenizer"] == "ptb"
    assert signature["decode"]["name"] == "greedy"
    assert signature["decode"]["max_length"] == 8
    assert signature["cider"]["variant"] == "CIDEr-D"
    assert json.loads(json.dumps(signature)) == signature


def test_other_references_or_another_search_change_the_signature(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    signature = evaluate(trained, dataset, data).signature
    assert evaluate(trained, dataset, data).signature == signature
    assert evaluate(trained, dataset, data, decode=replace(GREEDY, max_length=9)).signature != signature
    changed = (replace(dataset.images[0], captions=("a red half", "red")), *dataset.images[1:])
    assert evaluate(trained, replace(dataset, images=changed), data).signature != signature


def test_notices_stay_with_the_scores(trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig) -> None:
    assert evaluate(trained, replace(dataset, notices=("Beware.",)), data).notices == ("Beware.",)


# --------------------------------------------------------------------------------------- others' captions


def test_captions_from_a_file_get_equal_scores(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig, tmp_path: Path
) -> None:
    ours = evaluate(trained, dataset, data)
    write_evaluation(tmp_path, ours, per_image=False)
    path = tmp_path / "captions_test.json"
    again = evaluate_results(path, dataset, TOKENIZER, MetricConfig(names=["Bleu", "CIDEr"]))
    assert again.captions == ours.captions
    assert again.scores.corpus == ours.scores.corpus
    assert again.signature["decode"] is None
    assert again.signature["results"] == "captions_test.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(rows[1:]))
    with pytest.raises(DataError, match=f"1 of 8 image ids have no caption .*{rows[0]['image_id']}"):
        evaluate_results(path, dataset, TOKENIZER, MetricConfig(names=["Bleu"]))


def test_a_metric_that_does_not_exist(trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig) -> None:
    with pytest.raises(ConfigError, match=r"metric\.names='Cider' does not exist\. Did you mean CIDEr"):
        evaluate(trained, dataset, data, names=("Cider",))


def test_unavailable_scores_are_listed_and_omitted(
    trained: LoadedCheckpoint, dataset: CaptionDataset, data: FolderConfig
) -> None:
    found = evaluate(trained, dataset, data)
    scores = replace(found.scores, unavailable={"METEOR": "Java is not installed"})
    record = metrics_record(replace(found, scores=scores))
    assert record["unavailable"] == {"METEOR": "Java is not installed"}
    assert "METEOR" not in record


# ------------------------------------------------------------------------------------------------- tables


def test_text_table() -> None:
    rows = [("val", {"Bleu_4": 0.2137, "CIDEr": 1.0}), ("a longer name", {"Bleu_4": 0.0, "METEOR_long": 0.12345})]
    table = format_scores(rows, "split").splitlines()
    assert [line.split() for line in table] == [
        ["split", "Bleu_4", "CIDEr", "METEOR_long"],
        ["val", "21.37", "100.00", "-"],
        ["a", "longer", "name", "0.00", "-", "12.35"],
    ]
    assert len({len(line) for line in table}) == 1  # columns are aligned
