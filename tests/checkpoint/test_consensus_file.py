"""A consensus predictor in a checkpoint: stored, verified, used, exported, joined; damage is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captioner import Captioner
from captioner.checkpoint.archive import pack_export
from captioner.checkpoint.average import average_checkpoints
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.consensus_file import CONSENSUS_FILE, save_consensus
from captioner.checkpoint.export import write_export
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.load_ensemble import join_checkpoints
from captioner.checkpoint.manifest import write_manifest
from captioner.decode.consensus import ConsensusPredictor
from captioner.decode.quantized_rows import QuantizedRows
from captioner.errors import CheckpointError, ConfigError
from captioner.files import write_atomically
from tests.decode.consensus import random_predictor


def store(run: Path, predictor: ConsensusPredictor) -> Path:
    folder = find_checkpoint(run)
    save_consensus(predictor, folder)
    write_manifest(folder)
    return folder


def in_half(predictor: ConsensusPredictor) -> ConsensusPredictor:
    steps = predictor.weights.steps.astype(np.float16).astype(np.float32)
    return replace(predictor, weights=replace(predictor.weights, steps=steps))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_is_loaded_says_the_same(home: Path, run: Path, bits: int) -> None:
    predictor = in_half(random_predictor(512, tokens=(4, 5, 6, 7), features=6, bits=bits))
    store(run, predictor)
    loaded = load_checkpoint(run).consensus
    assert loaded is not None
    assert loaded.record == predictor.record
    vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
    captions = [(4, 5, 6), (7, 7, 4, 5), (5,)]
    np.testing.assert_array_equal(loaded.similarities(vector, captions), predictor.similarities(vector, captions))


def test_a_file_of_format_1_has_a_projection_in_8_bits(run: Path) -> None:
    predictor = in_half(random_predictor(512, features=6))
    folder = store(run, predictor)
    path = folder / CONSENSUS_FILE
    content = path.read_bytes()
    old = content.replace(b'\\"format_version\\": 2', b'\\"format_version\\": 1')
    old = old.replace(b', \\"projection_bits\\": 8', b"".ljust(len(b', \\"projection_bits\\": 8')))
    assert b"projection_bits" in content
    assert b"projection_bits" not in old
    write_atomically(path, old)
    write_manifest(folder)
    loaded = load_checkpoint(run).consensus
    assert loaded is not None
    assert (loaded.projection.bits, loaded.projection.columns) == (8, 512)
    np.testing.assert_array_equal(loaded.projection.codes, predictor.projection.codes)


def test_a_captioner_uses_it_where_it_is_asked_to(home: Path, run: Path) -> None:
    image = home / "data" / "003.png"
    with pytest.raises(ConfigError, match="needs a consensus predictor"):
        Captioner.from_checkpoint(run).caption(image, beam_width=4, consensus_weight=1.0)
    predictor = in_half(random_predictor(512, tokens=(4, 5, 6, 7), features=6))
    store(run, predictor)
    captioner = Captioner.from_checkpoint(run)
    plain = captioner.caption(image, beam_width=4, alternatives=3)
    found = captioner.caption(image, beam_width=4, alternatives=3, consensus_weight=1.0)
    vector = captioner.encode([image]).vector.numpy()[0]
    scores = {}
    for one in (plain, *plain.alternatives):
        tokens = captioner.vocabulary.encode(one.tokens)
        scores[one.tokens] = one.score + float(predictor.similarities(vector, [tokens])[0])
    for one in (found, *found.alternatives):
        assert one.score == pytest.approx(scores[one.tokens], abs=1e-5)
    best = [one for one in (found, *found.alternatives) if one.finished == found.finished]
    assert found.score == max(one.score for one in best)
    assert "consensus_weight" not in repr(captioner)


@pytest.mark.parametrize("ending", ["", ".zip"])
def test_it_is_exported_with_the_checkpoint(run: Path, tmp_path: Path, ending: str) -> None:
    store(run, random_predictor(512, tokens=(4, 5)))
    write_export(load_checkpoint(run), tmp_path / "export")
    exported = tmp_path / f"export{ending}"
    if ending:
        (tmp_path / "export" / "MODEL_CARD.md").write_text("# card\n")
        pack_export(tmp_path / "export", exported)
    assert Captioner.pretrained(exported).checkpoint.consensus is not None


def test_an_ensemble_keeps_that_of_its_first_encoder_and_an_average_that_of_one_encoder(run: Path) -> None:
    without = load_checkpoint(run)
    store(run, random_predictor(512, tokens=(4, 5)))
    stored = load_checkpoint(run)
    weighing = replace(stored.settings, decode=replace(stored.settings.decode, consensus_weight=0.5))
    loaded = replace(stored, settings=weighing)
    assert loaded.consensus is not None
    assert join_checkpoints([loaded, without]).consensus is loaded.consensus
    average = average_checkpoints([loaded, without])
    assert (average.consensus, average.settings) == (loaded.consensus, weighing)
    with torch.no_grad():  # as fine-tuning leaves it
        next(iter(without.model.encoder.parameters())).add_(1.0)
    average = average_checkpoints([loaded, without])
    assert average.consensus is None
    assert average.settings == stored.settings  # so that its own search works


def test_damage_and_files_of_other_models_are_one_message(run: Path) -> None:
    folder = store(run, random_predictor(512, tokens=(4, 5)))
    path = folder / CONSENSUS_FILE
    content = path.read_bytes()
    write_atomically(path, content[:-1] + b"\1")
    with pytest.raises(CheckpointError, match=r"consensus\.safetensors was altered or damaged"):
        load_checkpoint(run)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"consensus\.safetensors is missing"):
        load_checkpoint(run)
    for wrong, message in (
        (random_predictor(512, tokens=(4, 60_000)), "token ids that a vocabulary of"),
        (random_predictor(7), "reads 7 values of an image, and the encoder gives 512"),
        (replace(random_predictor(512), offset=np.zeros(2, np.float32)), "offset has the shape"),
        (replace(random_predictor(512), mean=np.full(512, np.nan, np.float32)), "not finite"),
    ):
        store(run, wrong)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(run)
        assert "captioner consensus" in str(caught.value)
    for broken in (b"", content[:100], content.replace(b'"format_version', b'"format_worsion')):
        write_atomically(path, broken)
        write_manifest(folder)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(run)


def test_weights_of_another_shape_are_named(run: Path) -> None:
    predictor = random_predictor(512)
    wrong = replace(predictor, weights=QuantizedRows.from_matrix(np.ones((len(predictor.ngrams), 9)), 8))
    store(run, wrong)
    with pytest.raises(CheckpointError, match="weights has the shape"):
        load_checkpoint(run)
