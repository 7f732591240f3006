"""Tags and constraints of captions, with the bundled model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli.caption import _print
from captioner.config import DecodeConfig
from captioner.errors import ConfigError
from captioner.inference import Captioner

CAT, OFFICER = Path("docs/pretrained/cat.jpg"), Path("docs/pretrained/officer.jpg")


@pytest.fixture(scope="module")
def model() -> Captioner:
    return Captioner.pretrained("flickr8k", device="cpu")


def test_a_cat_is_a_cat_and_where(model: Captioner, capsys: pytest.CaptureFixture[str]) -> None:
    caption = model.caption(CAT)
    assert caption.tags is not None
    first = caption.tags[0]
    assert first.word == "cat"
    assert 0.5 < first.probability <= 1
    assert first.grid == model.model.encoder.grid_size
    rows, columns = first.grid
    assert 0 <= first.region[0] < rows
    assert 0 <= first.region[1] < columns
    assert "tags cat" in repr(caption)
    _print(CAT, caption, as_json=True, with_path=False)
    assert json.loads(capsys.readouterr().out)["tags"][0]["word"] == "cat"


def test_tags_can_be_turned_off_and_change_no_caption(model: Captioner) -> None:
    both = model.caption([CAT, OFFICER])
    off = model.caption([CAT, OFFICER], tags=False)
    assert [caption.tags for caption in off] == [None, None]
    assert [caption.text for caption in off] == [caption.text for caption in both]


def test_constraints_are_met(model: Captioner) -> None:
    caption = model.caption(CAT, must_have=["red|blue", "in front of"], must_not=["dog", "a man"], beam_width=2)
    assert {"red", "blue"} & set(caption.tokens)
    assert "in front of" in caption.text
    assert "dog" not in caption.tokens
    assert "a man" not in caption.text
    assert caption.confidence is None, "it was calibrated for another search"
    assert caption.unlike_training is True


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"must_have": ["frisbe"]}, "frisbe.*not in the model's vocabulary.*frisbee"),
        ({"must_have": "dog"}, "lists of words"),
        ({"must_have": ["red|"]}, r"must_have has 'red\|', which names no word"),
        ({"must_not": ["dog", "..."]}, r"must_not has '\.\.\.', which names no word"),
        ({"must_not": [5]}, "must_not has 5, which names no word"),
        (
            {"must_have": ["cat", "a dog|red dog"], "must_not": ["dog"]},
            r"No caption can have 'a dog\|red dog' of must_have",
        ),
        ({"must_not": ["dog"], "decode": DecodeConfig(name="greedy")}, "need decode='beam'"),
    ],
)
def test_mistakes_in_constraints_are_named(model: Captioner, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.caption(CAT, **keywords)  # type: ignore[call-overload]
