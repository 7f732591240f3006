"""METEOR without Java equals the jar: the statistics exactly, the scores to 1e-12."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.config import MeteorConfig, TokenizerConfig
from captioner.errors import ConfigError
from captioner.metrics import score
from captioner.metrics.format import signature_line
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor import meteor_metric, resources
from captioner.metrics.meteor.jar import MeteorJar
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor.meteor_metric import evaluate, shared_meteor
from captioner.metrics.meteor.statistics import scores
from captioner.text import build_tokenizer
from tests.metrics.meteor.small import small_meteor
from tests.metrics.meteor.test_jar import needs_meteor

# Hypothesis, references, and the jar's statistics and score.
CASES = [
    ("a dog runs", ["a dog runs"], "3 3 1 1 2 2 1 1 0 0 0 0 0 0 0 0 0 0 0 0 1 3 3", 1.0),
    ("", ["a dog runs"], "0 3 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", 0.0),
    ("dog", ["", "dog"], "1 1 0 0 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1", 1.0),
    ("2 dogs run", ["two dogs run"], "3 3 0 1 2 2 0 0 0 0 0 0 1 0 0 1 0 0 0 0 1 3 3", 0.9655172413793103),
    ("zebras", ["zebra"], "1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", 0.0),
    ("blorps", ["blorp"], "1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0 0 0 0 0 1 1 1", 0.6),
    ("x in front of y", ["x before y"], "5 3 2 0 2 2 0 0 0 0 0 0 0 0 0 0 1 1 2 0 1 5 3", 0.8590308370044054),
]

# The table of docs/metrics.md.
DOCUMENTED = [
    ("two dogs", "two dog", 0.7),
    ("dogs", "dog", 0),
    ("zebras standing", "zebra stands", 0),
    ("blorps", "blorp", 0.6),
    ("a man riding a horses", "a man riding a horse", 0.891),
    ("a man riding horses", "a man riding a horse", 0.334),
    ("2 dogs", "two dogs", 0.942),
    ("two dogs", "2 dogs", 0.907),
    ("a dog runs on grass", "a dog runs on the grass", 0.465),
]

WORDS = (
    "a a the two dog dogs doggy puppy man men man's people person is are standing stands stand in on front of before "
    "big large huge couch sofa couches ran run running u.s. us t-shirt don't , . ' \" ... 1,000 3:00 café – zzq zzqs"
)


@pytest.fixture(scope="module")
def meteor() -> Meteor:
    pytest.importorskip("pycocoevalcap")
    return shared_meteor()


@pytest.fixture(scope="module")
def jar() -> Iterator[MeteorJar]:
    with MeteorJar() as process:
        yield process


@pytest.mark.slow  # makes the index of paraphrases where there is none
@pytest.mark.parametrize(("hypothesis", "references", "statistics", "expected"), CASES)
def test_cases(meteor: Meteor, hypothesis: str, references: list[str], statistics: str, expected: float) -> None:
    found = meteor.statistics([hypothesis], [references])
    assert found[0].tolist() == [float(number) for number in statistics.split()]
    assert evaluate(found)[0][0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_documented_scores(meteor: Meteor) -> None:
    found = evaluate(meteor.statistics([case[0] for case in DOCUMENTED], [[case[1]] for case in DOCUMENTED]))[0]
    assert found.round(3).tolist() == [case[2] for case in DOCUMENTED]


@pytest.mark.slow
def test_probes(meteor: Meteor, real_data: Path) -> None:
    probes, random_pairs = (
        json.loads((real_data.parent / f"{name}.json").read_text("utf-8"))
        for name in ("meteor_probes", "meteor_random_exact")
    )
    cases = [(probe["hypothesis"], probe["references"], probe["stats"]) for probe in probes]
    cases += [(hypothesis, [reference], statistics) for hypothesis, reference, statistics in random_pairs]
    found = meteor.statistics([case[0] for case in cases], [case[1] for case in cases])
    np.testing.assert_array_equal(found, [list(map(float, case[2].split())) for case in cases])
    np.testing.assert_allclose(evaluate(found)[0][: len(probes)], [probe["score"] for probe in probes], atol=1e-12)


def check_equal(meteor: Meteor, jar: MeteorJar, hypotheses: list[str], references: list[list[str]]) -> None:
    ours, theirs = meteor.statistics(hypotheses, references), jar.statistics(hypotheses, references)
    np.testing.assert_array_equal(ours, theirs)
    (our_scores, our_corpus), (their_scores, their_corpus) = evaluate(ours), jar.evaluate(theirs)
    np.testing.assert_allclose(our_scores, their_scores, rtol=0, atol=1e-12)
    assert our_corpus == pytest.approx(their_corpus, abs=1e-12)


@pytest.mark.slow
@needs_meteor
def test_real_captions(meteor: Meteor, jar: MeteorJar, real_data: Path) -> None:
    """Each caption of 600 COCO images against the image's others."""
    annotations = json.loads((real_data / "coco_text/captions_val2017.json").read_text("utf-8"))["annotations"]
    by_image: dict[int, list[str]] = defaultdict(list)
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation["caption"])
    tokenize = build_tokenizer(TokenizerConfig()).tokenize_all
    groups = [[" ".join(tokens) for tokens in tokenize(captions)] for captions in list(by_image.values())[:600]]
    pairs = [(group[i], group[:i] + group[i + 1 :]) for group in groups for i in range(len(group))]
    check_equal(meteor, jar, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


@pytest.mark.slow
@needs_meteor
def test_made_captions(meteor: Meteor, jar: MeteorJar) -> None:
    """Many ties, inflections, synonyms, paraphrases and punctuation, in any order."""
    words = WORDS.split()
    source = random.Random(0)
    captions = [" ".join(source.choices(words, k=source.randint(0, 14))) for _ in range(4000)]
    check_equal(meteor, jar, captions[:2000], [[one, captions[2 * i % 999]] for i, one in enumerate(captions[2000:])])


def test_scores_of_nothing() -> None:
    assert scores(np.zeros((2, 23))).tolist() == [0.0, 0.0]


def test_without_pycocoevalcap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is listed as unavailable, with what to install."""
    shared_meteor.cache_clear()

    def missing(metric: str, name: str) -> Any:
        raise MetricUnavailable(f"{metric} needs pycocoevalcap, which is not installed.")

    monkeypatch.setattr(resources, "find_in_pycocoevalcap", missing)
    found = score({1: "a dog"}, {1: ["the dog"]}, names=["METEOR"])
    assert "pycocoevalcap" in found.unavailable["METEOR"]
    assert "METEOR" not in found.corpus


def test_the_backend_is_named_with_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is captioner's own code, also where there is no Java."""
    monkeypatch.setattr(meteor_metric, "shared_meteor", lambda: small)
    monkeypatch.setenv("PATH", "")
    small = small_meteor(tmp_path)
    captions = {1: "the cats", 2: "a dog"}, {1: ["the cat of the dog"], 2: ["wolf", "the dog"]}
    found = [score(*captions, names=["METEOR"], meteor=MeteorConfig(backend)) for backend in ("auto", "python")]
    found.append(score(*captions, names=["METEOR"]))
    assert found[0].per_image == found[1].per_image == found[2].per_image
    assert found[0].signature == found[1].signature == found[2].signature
    assert found[0].signature["meteor"] == {"version": "1.5", "backend": "python"}
    assert "; METEOR 1.5, backend python" in signature_line(found[0])
    assert 0 < found[0].corpus["METEOR"] < 1
    assert "meteor" not in score(*captions, names=["Bleu"]).signature


def test_the_jar_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has both ways out; the score is not computed by another program instead."""
    monkeypatch.setenv("PATH", "")
    found = score({1: "a dog"}, {1: ["the dog"]}, names=["METEOR"], meteor=MeteorConfig("java"))
    assert "METEOR" not in found.corpus
    assert "needs a Java runtime" in found.unavailable["METEOR"]
    assert "meteor.backend=python gives the same scores without Java" in found.unavailable["METEOR"]
    assert "meteor" not in found.signature


def test_a_backend_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"meteor\.backend='jav'.*java"):
        MeteorConfig("jav")


@pytest.mark.slow
@needs_meteor
def test_both_backends_give_the_same(meteor: Meteor) -> None:
    captions = (
        {1: "two zebras are standing", 2: "a man's dog"},
        {1: ["2 zebra stand", "zebras"], 2: ["the dog of a man"]},
    )
    ours, theirs = (score(*captions, names=["METEOR"], meteor=MeteorConfig(backend)) for backend in ("auto", "java"))
    assert theirs.signature["meteor"]["backend"] == "java"
    assert ours.corpus == pytest.approx(theirs.corpus, abs=1e-12)
    assert [ours.per_image[i] for i in (1, 2)] == [
        {"METEOR": pytest.approx(theirs.per_image[i]["METEOR"], abs=1e-12)} for i in (1, 2)
    ]
