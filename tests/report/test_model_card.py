"""Model cards of exports: the Hub's header, terms of the training data, scores and limitations."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import yaml

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.export import ExportedWeights
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder
from captioner.config import DATASETS, DecodeConfig, FolderConfig
from captioner.report.model_card import NO_NOTES, TrainingRecord, model_card
from tests.tiny import tiny_config

METRICS = {
    "Bleu_4": 0.25,
    "CIDEr": 0.6,
    "Vocabulary": 812.0,
    "Self_CIDEr": 0.537,
    "loss": 2.3591,
    "Grounding": 0.287,
    "intervals": {"CIDEr": [0.55, 0.65], "Grounding": [0.235, 0.341]},
    "signature": {"data": "coco", "split": "test", "images": 5000, "references": 25000},
    "run": {"epochs": 3, "steps": 1200, "best_step": 800},
}


def card_of(record: TrainingRecord, notes: str | None = None) -> tuple[dict[str, Any], str]:
    """The header and the text of a card."""
    loaded = load_checkpoint(pretrained_folder(DEFAULT))
    card = model_card("dogs: <small>", loaded, ExportedWeights(1_500_000, True, ["a.weight"], None), record, notes)
    _, header, text = card.split("---\n", 2)
    return yaml.safe_load(header), text


def test_many_weights_in_8_bits_are_counted_by_part() -> None:
    loaded = load_checkpoint(pretrained_folder(DEFAULT))
    many = [*(f"decoder.{index}.weight" for index in range(4)), "encoder.weight"]
    for in_8_bits, text in [
        (many, "; in 8 bits with one scale per row: 4 matrices of the decoder and 1 of the encoder"),
        (many[:4], "row: `decoder.0.weight`, `decoder.1.weight`, `decoder.2.weight`, `decoder.3.weight`"),
    ]:
        assert text in model_card("a", loaded, ExportedWeights(9, True, in_8_bits, None), TrainingRecord(), None)


def record_of(data: str, metrics: dict[str, Any] | None = None) -> TrainingRecord:
    config = tiny_config(FolderConfig(root="data"))
    settings = replace(config, data=DATASETS[data]())
    return TrainingRecord(settings, f"python train.py data={data}", metrics)


@pytest.mark.parametrize("data", ["scenes", "coco", "flickr8k", "flickr30k"])
def test_a_known_data_set_has_its_license_and_description(data: str) -> None:
    header, text = card_of(record_of(data))
    known = DATASETS[data].card
    assert known is not None
    assert header["license"] == known.license
    assert ("license_name" in header) == (header["license"] == "other")
    assert header["datasets"] == [data]
    assert known.description in text


def test_every_setting_of_the_scored_search_is_named() -> None:
    decode = DecodeConfig(name="diverse", beam_width=6, max_length=17, min_length=4, no_repeat_ngram=3)
    decode = replace(decode, repetition_penalty=1.5, implausible_penalty=0.25)
    _, text = card_of(record_of("coco", {**METRICS, "signature": {**METRICS["signature"], "decode": asdict(decode)}}))
    search = (
        "`decode.name=diverse` with `beam_width=6`, `length_penalty=0`, `groups=3`, `diversity_penalty=0.5`, "
        "`max_length=17`, `min_length=4`, `no_repeat_ngram=3`, `repetition_penalty=1.5`, `implausible_penalty=0.25`,"
    )
    assert search in text


def test_other_data_has_no_license_and_no_language() -> None:
    header, text = card_of(record_of("folder"))
    assert header["license"] == "unknown"
    assert not {"datasets", "language", "metrics", "model-index"} & set(header)
    assert "ask them about the terms" in text


def test_without_the_run_s_settings_the_card_says_so() -> None:
    header, text = card_of(TrainingRecord())
    assert header["license"] == "unknown"
    assert text.count("Unknown: the run's settings were not beside its checkpoint.") == 2
    assert "No scores were stored" in text
    assert NO_NOTES in text


def test_scores_are_in_the_header_and_in_the_table() -> None:
    header, text = card_of(record_of("coco", METRICS), "- It takes cats for dogs.")
    (model,) = header["model-index"]
    assert model["name"] == "dogs: <small>"
    (result,) = model["results"]
    assert result["dataset"] == {"type": "coco", "name": "MS COCO captions", "split": "test"}
    assert result["metrics"] == [
        {"type": "bleu", "name": "Bleu_4", "value": 25.0},
        {"type": "cider", "name": "CIDEr", "value": 60.0},
    ]
    assert header["metrics"] == ["bleu", "cider"]
    assert "| CIDEr      |  60.0 | 55.0 – 65.0 |" in text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert ["Vocabulary", "812", ""] in rows
    assert ["Self_CIDEr", "0.54", ""] in rows
    assert ["loss", "2.359", ""] in rows
    assert ["Grounding", "28.7", "23.5 – 34.1"] in rows  # a share, as the commands print it
    assert "Scores × 100, except for Vocabulary, Self_CIDEr, with 95 %" in text
    assert "3 epochs, 1,200 steps. The weights are those of step 800" in text
    assert "1.5 M parameters" in text
    assert "`a.weight`" in text
    assert text.endswith("## Limitations\n\n- It takes cats for dogs.\n")
