"""Words for ImageNet's classes in a captioner that has never read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.checkpoint.checkpoint import CheckpointSettings, LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.class_vocabulary import add_class_words, choose_words
from captioner.checkpoint.export import write_export
from captioner.config import DECODERS, DecodeConfig, EncoderConfig, TokenizerConfig
from captioner.errors import CheckpointError
from captioner.nn.build_model import build_model
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import Vocabulary

KNOWN = ["a", "dog", "dogs", "horse", "horses", "cow", "deer", "food", "pizza", "table"]


def make(model: str, weights: str | None = "DEFAULT", **settings: object) -> LoadedCheckpoint:
    """A small untrained captioner."""
    torch.manual_seed(0)
    encoder, vocabulary = EncoderConfig(image_size=64, weights=weights), Vocabulary(KNOWN)
    config = replace(DECODERS[model](), embedding_dim=8, hidden_dim=16, **settings)
    network = build_model(config, encoder, len(vocabulary)).eval()
    stored = CheckpointSettings(config, encoder, network.encoder.transform, TokenizerConfig(), DecodeConfig())
    return LoadedCheckpoint(Path("step-00000001"), network, vocabulary, stored)


@pytest.mark.parametrize(
    ("model", "settings"),
    [("attention", {"tie_embeddings": True}), ("attention", {}), ("recurrent", {"cell": "gru"}), ("att2in", {})],
)
def test_known_words_keep_their_logits_and_new_ones_get_the_mean(model: str, settings: dict[str, object]) -> None:
    before = make(model, **settings)
    after, added = add_class_words(before, weight=2.0)
    words = len(before.vocabulary)
    assert after.vocabulary.tokens[:words] == before.vocabulary.tokens
    assert after.vocabulary.tokens[words:] == tuple(one.word for one in added)
    assert after.settings.decode.class_weight == 2.0
    assert before.settings.decode.class_weight == 0.0
    dim = before.model.encoder.feature_dim
    grid = torch.randn(2, 4, dim, generator=torch.Generator().manual_seed(1))
    features = ImageFeatures(grid.mean(1), grid)
    captions = pack_captions([[before.vocabulary.encode(["a", "dog"])], [before.vocabulary.encode(["a", "table"])]])
    with torch.no_grad():
        old = before.model(features, captions).logits
        new = after.model(features, captions).logits
    torch.testing.assert_close(new[:, :words], old)
    for column, one in enumerate(added, start=words):
        of_neighbors = old[:, before.vocabulary.encode(one.neighbors)].mean(1)
        torch.testing.assert_close(new[:, column], of_neighbors, rtol=1e-4, atol=1e-4)


def test_words_come_from_their_kind() -> None:
    rows = torch.zeros(1000, 3)
    rows[340], rows[[339, 603]] = torch.tensor([1.0, 0.1, 0.0]), torch.tensor([1.0, 0.0, 0.0])  # zebra; horse and cart
    rows[151:269], rows[345:348] = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    rows[963], rows[937] = torch.tensor([1.0, 0.1, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    rows[rows.abs().sum(1) == 0] = torch.tensor([0.0, 0.0, 1.0])
    added = {one.word: one.neighbors for one in choose_words(Vocabulary(KNOWN), rows)}
    assert added["zebra"] == ("horse", "cow", "dog")
    assert added["zebras"] == ("horses", "dogs")
    assert set(added["broccoli"]) == {"food", "pizza"}, "food alone"
    assert not {"dog", "horse", "pizza"} & set(added)


def test_a_second_time_adds_nothing() -> None:
    once, added = add_class_words(make("recurrent"), weight=1.0)
    twice, again = add_class_words(once, weight=3.0)
    assert added
    assert not again
    assert twice.vocabulary == once.vocabulary
    assert twice.settings.decode.class_weight == 3.0


def test_an_encoder_without_a_classifier_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="no published classifier"):
        add_class_words(make("recurrent", weights=None), weight=1.0)


def test_an_export_keeps_the_new_words(tmp_path: Path) -> None:
    after, _ = add_class_words(make("recurrent"), weight=2.0)
    write_export(after, tmp_path / "export", half=False)
    loaded = load_checkpoint(tmp_path / "export")
    assert loaded.vocabulary == after.vocabulary
    assert loaded.settings.decode.class_weight == 2.0
    for name, tensor in after.model.decoder.state_dict().items():
        torch.testing.assert_close(loaded.model.decoder.state_dict()[name], tensor)


@pytest.mark.parametrize("words", [["un", "chien"], ["▁a", "▁dog", "dog", "s"]], ids=["French", "units"])
def test_a_captioner_that_knows_no_word_of_the_table_gets_none(words: list[str]) -> None:
    loaded = replace(make("attention"), vocabulary=Vocabulary(words))
    with pytest.raises(CheckpointError, match=r"has no word of .*class_words.txt"):
        add_class_words(loaded, weight=3.0)
