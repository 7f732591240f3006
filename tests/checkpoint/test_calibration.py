"""A calibration in a checkpoint: stored, verified, loaded, used in captions, exported; damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from captioner import Captioner
from captioner.checkpoint.calibration import (
    CALIBRATION_FILE,
    Calibration,
    CalibrationRecord,
    load_calibration,
    save_calibration,
)
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.export import write_export
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.manifest import write_manifest
from captioner.errors import CheckpointError


def calibrate(run: Path, unlike_below: float) -> Calibration:
    """Store a made-up calibration in the best checkpoint of a run."""
    folder = find_checkpoint(run)
    loaded = load_checkpoint(folder)
    dimensions = loaded.model.encoder.feature_dim
    subspace = np.linalg.qr(np.random.default_rng(0).normal(size=(dimensions, 8)))[0].T
    calibration = Calibration(
        subspace=subspace.astype(np.float16).astype(np.float32),
        intercept=0.25,
        weights=np.float32([1.0, 0.5, 2.0]),
        means=np.float32([-1.0, -8.0, 0.5]),
        scales=np.float32([0.5, 4.0, 0.25]),
        decode=loaded.settings.decode,
        record=CalibrationRecord("made", "val", 200, 0.33, 0.6, 0.02, 0.7, unlike_below, 0.05),
    )
    save_calibration(calibration, folder)
    write_manifest(folder)
    return calibration


def test_a_caption_has_the_confidence_of_the_formula(home: Path, run: Path) -> None:
    calibration = calibrate(run, unlike_below=0.0)
    captioner = Captioner.from_checkpoint(run)
    image = home / "data" / "003.png"
    caption = captioner.caption(image)
    vector = captioner.encode([image]).vector.numpy()[0].astype(np.float64)
    familiarity = np.square(calibration.subspace @ vector).sum() / np.square(vector).sum()
    length = len(caption.tokens) + caption.finished
    logit = (
        0.25
        + 1.0 * (caption.log_prob / length + 1.0) / 0.5
        + 0.5 * (caption.log_prob + 8.0) / 4.0
        + 2.0 * (familiarity - 0.5) / 0.25
    )
    assert caption.familiarity == pytest.approx(familiarity, rel=1e-5)
    assert caption.confidence == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)
    assert caption.unlike_training is False
    assert captioner.caption([image, image])[1].confidence == pytest.approx(caption.confidence, rel=1e-5)
    other = "beam" if captioner.decode.name != "beam" else "greedy"
    assert captioner.caption(image, decode=other).confidence is None  # another search


def test_an_image_unlike_the_known_ones_has_no_confidence(home: Path, run: Path) -> None:
    calibrate(run, unlike_below=1.0)
    caption = Captioner.from_checkpoint(run).caption(home / "data" / "003.png")
    assert caption.unlike_training is True
    assert caption.confidence is None
    assert "unlike the training images" in repr(caption)


def test_without_a_calibration_nothing_is_claimed(home: Path) -> None:
    caption = Captioner.from_checkpoint(home / "run").caption(home / "data" / "003.png")
    assert (caption.confidence, caption.familiarity, caption.unlike_training) == (None, None, None)


def test_it_is_exported_with_the_checkpoint(run: Path, tmp_path: Path) -> None:
    calibration = calibrate(run, unlike_below=0.2)
    write_export(load_checkpoint(run), tmp_path / "export")
    exported = load_checkpoint(tmp_path / "export").calibration
    assert exported is not None
    assert exported.record == calibration.record
    assert exported.decode == calibration.decode
    np.testing.assert_array_equal(exported.subspace, calibration.subspace)
    np.testing.assert_array_equal(exported.weights, calibration.weights)
    folder = find_checkpoint(tmp_path / "export")
    modes = {(folder / name).stat().st_mode for name in (CALIBRATION_FILE, "vocab.json")}
    assert len(modes) == 1, "whoever may read the checkpoint may read its calibration"


def test_damage_is_named(run: Path, tmp_path: Path) -> None:
    calibrate(run, unlike_below=0.2)
    path = find_checkpoint(run) / CALIBRATION_FILE
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=rf"{CALIBRATION_FILE} was altered or damaged"):
        load_checkpoint(run)
    for damaged in (b"", content[:100], content.replace(b'"images', b'"imagez').replace(b'\\"images', b'\\"imagez')):
        (tmp_path / CALIBRATION_FILE).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="captioner calibrate"):
            load_calibration(tmp_path)


def test_json_of_the_command_line_has_it(home: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from captioner.cli import caption as command

    calibrate(run, unlike_below=1.0)
    arguments = command._parser().read([str(home / "data" / "003.png"), "--checkpoint", str(run), "--json"])
    command._caption(arguments)
    record = json.loads(capsys.readouterr().out)
    assert record["unlike_training"] is True
    assert record["confidence"] is None
