"""The report shows scores and captions, as text, and loads nothing from the network."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.config import MetricConfig, TokenizerConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.evaluation.evaluation import Evaluation, score_captions
from captioner.generated_caption import Caption
from captioner.metrics.bootstrap import bootstrap_intervals
from captioner.report import ReportedSystem, choose_examples, example_groups, write_report
from captioner.text.class_words import Tag
from tests.tiny import write_tiny_data

MARKUP = '<img src="http://example.org/x.png" onerror="alert(1)">'


@pytest.fixture
def dataset(tmp_path: Path) -> CaptionDataset:
    return load_dataset(write_tiny_data(tmp_path / "data"), "train")


def system(dataset: CaptionDataset, name: str, caption: str) -> ReportedSystem:
    captions = {image.image_id: caption if index % 2 else image.captions[0] for index, image in enumerate(dataset)}
    scores = score_captions(captions, dataset, MetricConfig(names=["Bleu", "CIDEr"]), TokenizerConfig())
    evaluation = Evaluation(dataset.split, captions, scores, {}, {})
    weights = np.full((2, 3, 3), 1 / 9, np.float32)
    attended = Caption("a half", ("a", "half"), -1.0, -1.0, True, weights)
    return ReportedSystem(
        name, evaluation, bootstrap_intervals(scores, samples=20), {dataset.images[0].image_id: attended}
    )


class Page(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_one_system_and_two(dataset: CaptionDataset, tmp_path: Path) -> None:
    first, second = system(dataset, "first", "a red half"), system(dataset, "second", "nothing to see")
    write_report(tmp_path / "one.html", [first], dataset, TokenizerConfig(), examples=3)
    write_report(tmp_path / "two.html", [first, second], dataset, TokenizerConfig(), examples=3)
    one, two = Page(tmp_path / "one.html"), Page(tmp_path / "two.html")
    assert len(one.all("article")) == len(two.all("article")) == 9
    assert len(one.all("img")) == 9 + 3  # an image and the attention maps of two words
    assert len(two.all("img")) == 9 + 6
    assert f"{100 * first.evaluation.scores.corpus['CIDEr']:.1f}" in one.text
    assert "second" in two.text
    assert "nothing to see" in two.text
    assert "second" not in one.text
    assert all("reference" not in attributes.get("alt", "") and attributes["alt"] for attributes in two.all("img"))


def test_scores_that_are_no_percentages_are_printed_as_they_are(dataset: CaptionDataset, tmp_path: Path) -> None:
    one = system(dataset, "one", "a red half")
    corpus = one.evaluation.scores.corpus | {"Distinct_1": 0.143, "Vocabulary": 1234.0, "Mean_length": 12.3456}
    scores = replace(one.evaluation.scores, corpus=corpus)
    write_report(
        tmp_path / "p.html",
        [replace(one, evaluation=replace(one.evaluation, scores=scores))],
        dataset,
        TokenizerConfig(),
    )
    page = (tmp_path / "p.html").read_text()
    for cell in ("0.14", "1234", "12.35", "–"):
        assert (f"<td>{cell}</td>" in page) == (cell != "–")
    assert "Scores × 100, except for Distinct_1, Vocabulary, Mean_length; loss" in page


def test_no_image_is_the_best_by_a_score_that_was_not_computed(dataset: CaptionDataset) -> None:
    evaluation = system(dataset, "a", "a red half").evaluation
    assert list(example_groups(evaluation, 2)) == ["Random examples", "Best by CIDEr", "Worst by CIDEr"]
    scores = score_captions(evaluation.captions, dataset, MetricConfig(names=["Bleu"]), TokenizerConfig())
    without = example_groups(replace(evaluation, scores=scores), 2)
    assert without == {"Random examples": example_groups(evaluation, 2)["Random examples"]}


def test_nothing_comes_from_outside_and_captions_are_text(dataset: CaptionDataset, tmp_path: Path) -> None:
    images = tuple(replace(image, captions=(MARKUP, *image.captions)) for image in dataset)
    escaped = replace(dataset, images=images, name=MARKUP)
    write_report(tmp_path / "page.html", [system(escaped, MARKUP, MARKUP)], escaped, TokenizerConfig(), examples=2)
    page = Page(tmp_path / "page.html")
    assert MARKUP in page.text
    assert all(attributes["src"].startswith("data:image/jpeg;base64,") for attributes in page.all("img"))
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    assert not any(name.startswith("on") or name == "href" for _, attributes in page.tags for name in attributes)


def test_examples_are_the_same_every_time() -> None:
    assert choose_examples([3, 1, 2], 2) == choose_examples([1, 2, 3], 2)
    assert sorted(choose_examples([1, 2], 9)) == [1, 2]


def test_confidence_and_tags_are_shown(dataset: CaptionDataset, tmp_path: Path) -> None:
    plain = system(dataset, "first", "a red half")
    sure = Caption(
        "a", ("a",), -1.0, -1.0, True, confidence=0.876, unlike_training=False, tags=(Tag("cat", 0.93, (0, 1), (2, 2)),)
    )
    unlike = Caption("a", ("a",), -1.0, -1.0, True, unlike_training=True, tags=())
    details = {image.image_id: sure if index else unlike for index, image in enumerate(dataset)}
    told = replace(plain, details=details, confidence="Confidence: what it means.")
    write_report(tmp_path / "told.html", [told], dataset, TokenizerConfig(), examples=len(dataset))
    write_report(tmp_path / "plain.html", [plain], dataset, TokenizerConfig(), examples=len(dataset))
    text, without = Page(tmp_path / "told.html").text, Page(tmp_path / "plain.html").text
    assert text.count("confidence 88 % · sees cat 93 %") == 3 * (len(dataset) - 1)
    assert text.count("unlike the photos that the model was trained on") == 3
    assert text.count("Confidence: what it means.") == 1
    assert "onfidence" not in without
    shown = {image_id for group in example_groups(plain.evaluation, len(dataset)).values() for image_id in group}
    assert shown == {image.image_id for image in dataset}
