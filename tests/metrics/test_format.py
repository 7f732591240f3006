"""Tables of scores, and CSV files per image."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from captioner.metrics import format_table, score, signature_line, write_per_image_csv

CAPTIONS = {7: 'a "dog",\nrunning', "b": "two cats"}
REFERENCES = {7: ["a dog runs"], "b": ["two cats sleep", "cats"]}


def test_table() -> None:
    scores = score(CAPTIONS, REFERENCES, names=["Bleu", "CIDEr", "Diversity"])
    lines = format_table(scores).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(scores.corpus)
    assert len({len(row) for row in rows}) == 1
    assert [cell.strip() for cell in rows[2].split("|")[1:4]] == [
        "Bleu_1",
        f"{scores.corpus['Bleu_1']:.4f}",
        f"{100 * scores.corpus['Bleu_1']:.1f}",
    ]
    assert any(line.startswith("| Vocabulary") and " 5 " in line for line in rows)
    assert lines[-2].startswith("Novel: unavailable: it needs the training captions")
    assert lines[-1] == signature_line(scores)


def test_one_image_says_why_cider_is_0() -> None:
    one = score({7: "a dog runs"}, {7: ["a dog runs"]})
    assert one.corpus["CIDEr"] == 0
    assert "CIDEr is 0 because one image was scored" in format_table(one)
    assert "because one image" not in format_table(score(CAPTIONS, REFERENCES))
    assert "because one image" not in format_table(score({7: "a dog"}, {7: ["a dog"]}, names=["Bleu"]))


def test_captions_without_words_are_counted() -> None:
    """A score of 0 then says nothing about words: the captions have none."""
    captions = {1: "", 2: " . ", 3: "a dog"}
    scores = score(captions, {key: ["a dog runs"] for key in captions})
    assert "2 of 3 captions have no word (they are empty, or punctuation alone)" in format_table(scores)
    assert "have no word" not in format_table(score(CAPTIONS, REFERENCES))


def test_signature_line() -> None:
    line = signature_line(score(CAPTIONS, REFERENCES))
    for part in ("tokenizer ptb ", "2 images × 1–2 references", "CIDEr is CIDEr-D, sigma 6, × 10"):
        assert part in line


def test_csv_is_exact(tmp_path: Path) -> None:
    scores = score(CAPTIONS, REFERENCES)
    write_per_image_csv(tmp_path / "scores.csv", scores, CAPTIONS)
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["caption"] for row in rows] == list(CAPTIONS.values())
    assert [row["image_id"] for row in rows] == ["7", "b"]
    for row, values in zip(rows, scores.per_image.values(), strict=True):
        assert {name: float(row[name]) for name in values} == values


@pytest.mark.parametrize("names", [["Diversity"]])
def test_csv_without_scores_per_image(tmp_path: Path, names: list[str]) -> None:
    write_per_image_csv(tmp_path / "scores.csv", score(CAPTIONS, REFERENCES, names=names), CAPTIONS)
    assert (tmp_path / "scores.csv").read_text("utf-8").startswith("image_id,caption\n7,")
