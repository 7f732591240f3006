"""Training with a tokenizer that is learned: its model is part of the checkpoint, of a resumed run and of an export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from captioner.checkpoint.archive import pack_export, unpacked
from captioner.checkpoint.checkpoint import TOKENIZER_FILE, load_checkpoint
from captioner.checkpoint.export import write_export
from captioner.checkpoint.index import find_checkpoint
from captioner.config import CacheConfig, MetricConfig, TokenizerConfig, TrainConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.files import write_json
from captioner.inference import Captioner
from captioner.text.tokenizers import Tokenizer, learn_tokenizer
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

pytest.importorskip("sentencepiece")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("learned")
    config = tiny_config(write_tiny_data(folder / "data"))
    cache = CacheConfig(directory=str(folder / "cache"))
    return replace(config, tokenizer=TokenizerConfig("bpe", subwords=40), cache=cache)


@pytest.fixture(scope="module")
def finished(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(prepare(config, folder))
    return folder


def test_the_checkpoint_holds_the_model(config: TrainConfig, finished: Path) -> None:
    run = prepare(config, finished)
    loaded = load_checkpoint(finished)
    assert loaded.tokenizer_model == run.tokenizer.model is not None
    assert loaded.tokenizer().tokenize_all(run.train_set.all_captions) == run.tokenizer.tokenize_all(
        run.train_set.all_captions
    )
    captions = [Captioner(loaded, run.device).caption(image.path) for image in run.val_set]
    for caption in captions:
        assert caption.text == loaded.tokenizer().join(caption.tokens)
        assert "▁" not in caption.text


def test_captions_are_scored_as_words(finished: Path) -> None:
    assert '"tokenizer": "ptb"' in (finished / "metrics.json").read_text()


def test_a_resumed_run_is_the_same_and_learns_nothing_again(
    config: TrainConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(prepare(with_trainer(config, max_epochs=1), tmp_path))

    def refuse(*_: object) -> Tokenizer:
        raise AssertionError("learned again")

    monkeypatch.setattr("captioner.training.setup.learn_tokenizer", refuse)
    resumed = prepare(config, tmp_path, resume=True)
    monkeypatch.undo()
    assert resumed.tokenizer.model == learn_tokenizer(config.tokenizer, resumed.train_set.all_captions).model
    assert resumed.vocabulary == prepare(config, finished).vocabulary
    assert resumed.progress.step == 4


def test_a_damaged_or_missing_model_is_noticed(finished: Path, tmp_path: Path) -> None:
    write_export(load_checkpoint(finished), tmp_path / "copy")
    folder = find_checkpoint(tmp_path / "copy")
    model = (folder / TOKENIZER_FILE).read_bytes()
    (folder / TOKENIZER_FILE).write_bytes(model[:-1])
    with pytest.raises(CheckpointError, match=r"tokenizer\.model was altered or damaged"):
        load_checkpoint(tmp_path / "copy")
    (folder / TOKENIZER_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is missing"):
        load_checkpoint(tmp_path / "copy")


def test_an_exported_archive_holds_the_model(finished: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(finished)
    write_export(loaded, tmp_path / "export")
    write_json(tmp_path / "export" / "metrics.json", {})
    pack_export(tmp_path / "export", tmp_path / "export.zip")
    with unpacked(tmp_path / "export.zip") as folder:
        assert load_checkpoint(folder).tokenizer_model == loaded.tokenizer_model


def test_scores_in_learned_units_are_refused_at_the_start(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"metric\.tokenizer=bpe is learned from training captions"):
        prepare(replace(config, metric=MetricConfig(tokenizer="bpe")), tmp_path)
