"""Given captions of an image under a model, through `Captioner.score`; the model is the one of the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captioner import Captioner
from captioner.errors import ConfigError, ImageError
from captioner.nn.packing import pack_captions


@pytest.fixture(scope="module")
def model() -> Captioner:
    return Captioner.pretrained("flickr8k", device="cpu")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Green below, blue above, with something in the middle."""
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[:48], pixels[48:] = (90, 140, 230), (60, 150, 50)
    pixels[30:70, 50:80] = (120, 80, 40)
    return Image.fromarray(pixels)


def test_a_generated_caption_scored_again_has_its_log_probability(model: Captioner, photo: Image.Image) -> None:
    """From its tokens and from its text; every alternative too."""
    caption = model.caption(photo, decode="beam", beam_width=4, alternatives=3)
    found = model.score(photo, [caption, *caption.alternatives])
    texts = model.score(photo, [one.text for one in found])
    for one, again, original in zip(found, texts, [caption, *caption.alternatives], strict=True):
        assert original.finished
        if "an" not in original.tokens:  # its probability is that of the article that the model chose, often "a"
            assert one.log_prob == pytest.approx(original.log_prob, abs=1e-4)
        else:
            as_chosen = model.score(photo, " ".join("a" if word == "an" else word for word in original.tokens))
            nearest = min((one.log_prob, as_chosen.log_prob), key=lambda found: abs(found - original.log_prob))
            assert nearest == pytest.approx(original.log_prob, abs=1e-4)
        assert (again.text, again.words) == (one.text, one.words)
        assert tuple(word.word for word in one.words) == (*original.tokens, "<END>")


def test_a_score_is_the_sum_of_teacher_forced_log_probabilities(model: Captioner, photo: Image.Image) -> None:
    """By hand: softmax over the whole vocabulary at each step; a word that it lacks is <UNK>."""
    text = "The DOG is, blorp quokka blorp"
    scored = model.score(photo, text)
    ids = model.vocabulary.encode(["the", "dog", "is", "blorp", "quokka", "blorp"])
    assert ids[3:] == [model.vocabulary.special.unknown] * 3
    with torch.inference_mode():
        logits = model.model(model.encode([photo]), pack_captions([[ids]])).logits.double().numpy()
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = [*ids, model.vocabulary.special.end]
    expected = [row[target] for row, target in zip(log_probs, targets, strict=True)]
    assert [word.log_prob for word in scored.words] == pytest.approx(expected, abs=1e-5)
    assert [word.surprise for word in scored.words] == [-word.log_prob for word in scored.words]
    assert [word.rank for word in scored.words] == [
        1 + sum(row > row[target]) for row, target in zip(log_probs, targets, strict=True)
    ]
    assert [word.known for word in scored.words] == [True] * 3 + [False] * 3 + [True]
    assert scored.unknown_words == ("blorp", "quokka")
    assert scored.log_prob == pytest.approx(sum(expected), abs=1e-4)
    assert scored.nats_per_word == pytest.approx(-sum(expected) / 7, abs=1e-4)
    assert scored.perplexity == pytest.approx(np.exp(-sum(expected) / 7), rel=1e-4)
    assert repr(scored).startswith(f"<ScoredCaption {text!r}: log_prob=")
    assert "unknown: blorp, quokka" in repr(scored)


def test_what_cannot_be_scored(model: Captioner, photo: Image.Image) -> None:
    assert model.score(photo, []) == []
    with pytest.raises(ConfigError, match=r"'\.\.\.' contains no word"):
        model.score(photo, ["a red dog", "..."])
    with pytest.raises(ConfigError, match="5 is no caption: expected a sentence"):
        model.score(photo, 5)  # type: ignore[call-overload]
    with pytest.raises(ImageError, match="does not exist"):
        model.score("nowhere.png", "a red dog")
