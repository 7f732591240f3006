"""The bundled model: it is small, captions a photo on a fresh machine, offline, and has a model card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from captioner import Captioner
from captioner.checkpoint import pretrained
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.pretrained import DEFAULT, pretrained_names
from captioner.errors import CheckpointError

ROOT = Path(__file__).parent.parent
BUNDLED = pretrained.FOLDER / DEFAULT
PHOTOS = sorted((ROOT / "docs" / "pretrained").glob("*.jpg"))
MOST_BYTES = 12_000_000  # without the ONNX graphs
MOST_BYTES_OF_GRAPHS = 11_500_000  # which refer to the same weights; 7.9 MB are the published classifier


def test_the_bundled_model_is_complete_and_small() -> None:
    assert DEFAULT in pretrained_names()
    sizes = {path: path.stat().st_size for path in pretrained.FOLDER.rglob("*") if path.is_file()}
    graphs = sum(size for path, size in sizes.items() if path.suffix == ".onnx")
    assert 0 < graphs <= MOST_BYTES_OF_GRAPHS
    assert sum(sizes.values()) - graphs <= MOST_BYTES
    names = {path.name for path in BUNDLED.rglob("*") if path.is_file()}
    assert {"MODEL_CARD.md", "config.yaml", "metrics.json", "index.json"} <= names
    assert "trainer.pt" not in names


def test_it_captions_a_photo() -> None:
    model = Captioner.pretrained(DEFAULT, "cpu")
    assert all(parameter.dtype == torch.float32 for parameter in model.model.parameters())
    caption = model.caption(PHOTOS[0])
    assert caption.finished
    assert 3 <= len(caption.tokens) <= 20
    assert set(caption.tokens) <= set(model.vocabulary.tokens)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CheckpointError, match=rf"flickr9k is not a bundled captioner.*Did you mean {DEFAULT}\? Bundled: "
    ):
        Captioner.pretrained("flickr9k")
    with pytest.raises(CheckpointError, match=rf"Did you mean {DEFAULT}"):
        Captioner.from_checkpoint("flickr8")
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="This installation has no bundled captioner"):
        Captioner.pretrained(DEFAULT)


def test_its_name_means_it_also_beside_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the folder of the data set Flickr8k."""
    (tmp_path / DEFAULT).mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(Path(DEFAULT)).is_relative_to(BUNDLED)
    assert load_checkpoint(Path(DEFAULT)).path.is_relative_to(BUNDLED)


def test_the_card_has_its_sections_and_facts() -> None:
    card = (BUNDLED / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in ("Model", "Training data", "Training", "Evaluation", "Limitations"):
        assert f"\n## {heading}\n" in card
    for fact in ("research", "python train.py", "CIDEr", "Flickr8k"):
        assert fact in card
    limitations = (ROOT / "docs" / "pretrained" / "what_it_gets_wrong.md").read_text(encoding="utf-8")
    assert card.endswith(f"\n## Limitations\n\n{limitations}")


def test_the_card_s_header_is_the_hub_s_and_has_the_scores() -> None:
    _, header, _ = (BUNDLED / "MODEL_CARD.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert metadata["license"] == "other"  # Flickr8k is for research only
    assert (metadata["pipeline_tag"], metadata["library_name"]) == ("image-to-text", "captioner")
    assert metadata["datasets"] == [DEFAULT]
    assert metadata["metrics"] == ["bleu", "rouge", "cider", "meteor"]
    (model,) = metadata["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "image-to-text"
    assert result["dataset"]["split"] == "val"
    scores = json.loads((BUNDLED / "metrics.json").read_text(encoding="utf-8"))
    for metric in result["metrics"]:
        assert metric["value"] == pytest.approx(100 * scores[metric["name"]], abs=0.005)


def test_photos_of_the_card_are_small_and_listed_with_their_terms() -> None:
    text = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
    assert 4 <= len(PHOTOS) <= 8
    for path in PHOTOS:
        assert path.stat().st_size <= 60_000
        with Image.open(path) as photo:
            assert max(photo.size) <= 320
        assert f"`{path.name}`" in text


@pytest.mark.slow
def test_caption_py_on_a_fresh_machine_without_a_network(tmp_path: Path) -> None:
    """Without a run and without a network: opening a connection raises an error."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n\ndef fail(*arguments, **options):\n    raise OSError('no network')\n\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = fail\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-W", "error::ResourceWarning", str(ROOT / "caption.py"), str(PHOTOS[0])]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert len(done.stdout.split()) >= 3
    assert f"Using {DEFAULT}, which comes with captioner" in done.stderr
