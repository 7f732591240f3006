"""Captions by onnxruntime beside captions by torch, and what a broken folder of ONNX files answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.consensus_file import CONSENSUS_FILE, save_consensus
from captioner.checkpoint.manifest import sha256, write_manifest
from captioner.checkpoint.onnx.description import CLASS_FILES, GRAPH_FILES, find_onnx, read_description
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder
from captioner.checkpoint.weights import unique_weights
from captioner.config import DecodeConfig
from captioner.errors import CaptionerError, CheckpointError, ConfigError, ImageError
from captioner.inference import Captioner
from captioner.runtime import OnnxCaptioner
from captioner.runtime.backends import choose_backend
from tests.decode.consensus import random_predictor

pytest.importorskip("onnxruntime")

PHOTOS = sorted((Path(__file__).parents[2] / "docs" / "pretrained").glob("*.jpg"))
CAT = Path(__file__).parents[2] / "docs" / "pretrained" / "cat.jpg"


@pytest.fixture(scope="module")
def bundled() -> OnnxCaptioner:
    return OnnxCaptioner.pretrained()


@pytest.fixture(scope="module")
def with_torch() -> Captioner:
    return Captioner.pretrained(device="cpu")


def test_the_bundled_graphs_were_made_from_the_bundled_weights() -> None:
    """Make them again after the model was renewed: python -m captioner export --checkpoint flickr8k --add-onnx."""
    folder = find_onnx(pretrained_folder(DEFAULT))
    assert folder is not None
    assert read_description(folder).weights == sha256(folder / "model.safetensors")


def test_the_bundled_decoder_is_in_8_bits_and_restored_as_in_torch(with_torch: Captioner) -> None:
    """By integers and a scale per row of the checkpoint's own file, to which the graphs refer."""
    onnx = pytest.importorskip("onnx")
    folder = find_onnx(pretrained_folder(DEFAULT))
    assert folder is not None
    weights = {tensor.numpy().tobytes(): name for name, tensor in unique_weights(with_torch.model).items()}
    restored = set()
    for file in ("init_state.onnx", "step.onnx"):
        graph = onnx.load(folder / file).graph
        tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        casts = {
            node.output[0]: tensors[node.input[0]]
            for node in graph.node
            if node.op_type == "Cast" and tensors.get(node.input[0], np.zeros(0)).dtype == np.int8
        }
        for node in graph.node:
            if node.op_type == "Mul" and node.input[0] in casts:
                values = casts[node.input[0]].astype(np.float32) * tensors[node.input[1]]
                restored.add(weights[values.tobytes()])
    assert len(restored) >= 10
    assert {"decoder.embedding.weight", "decoder.grid.weight", "decoder.stack.inputs.0.weight"} <= restored


@pytest.mark.parametrize(
    "search",
    [
        DecodeConfig(name="greedy"),
        DecodeConfig(beam_width=5, no_repeat_ngram=3, min_length=8),
        DecodeConfig(beam_width=3, class_weight=6.0),
        DecodeConfig(beam_width=7, length_penalty=2.0, consensus_weight=0.5),
        None,
    ],
    ids=["greedy", "beam 5", "classes", "consensus", "the model's own"],
)
def test_captions_are_those_of_torch(
    bundled: OnnxCaptioner, with_torch: Captioner, search: DecodeConfig | None
) -> None:
    alternatives = 0 if search is not None and search.name == "greedy" else 2
    found = bundled.caption(list(PHOTOS[:3]), decode=search, alternatives=alternatives)
    expected = with_torch.caption(list(PHOTOS[:3]), decode=search, alternatives=alternatives)
    for one, other in zip(found, expected, strict=True):
        for caption, same in zip((one, *one.alternatives), (other, *other.alternatives), strict=True):
            assert caption.text == same.text
            assert caption.log_prob == pytest.approx(same.log_prob, abs=1e-3)
            assert caption.attention is not None
            np.testing.assert_allclose(caption.attention, same.attention, rtol=0, atol=1e-4)
        assert one.confidence == (None if other.confidence is None else pytest.approx(other.confidence, abs=1e-4))
        assert one.familiarity == pytest.approx(other.familiarity, abs=1e-4)
        assert one.tags is not None
        assert other.tags is not None
        assert [(tag.word, tag.region) for tag in one.tags] == [(tag.word, tag.region) for tag in other.tags]
        for tag, same in zip(one.tags, other.tags, strict=True):
            assert tag.probability == pytest.approx(same.probability, abs=5e-3), "the classifier is in half precision"
    assert any(caption.tags for caption in found)


def test_the_cat_is_a_cat(bundled: OnnxCaptioner) -> None:
    caption = bundled.caption(CAT)
    assert "cat" in caption.tokens
    assert caption.tags is not None
    assert caption.tags[0].word == "cat"
    assert bundled.caption(CAT, tags=False).tags is None
    assert "cat" not in bundled.caption(CAT, class_weight=0).tokens, "the classes make the difference"


def test_captions_with_given_words_are_those_of_torch(bundled: OnnxCaptioner, with_torch: Captioner) -> None:
    wanted = {"must_have": ["red|blue"], "must_not": ["dog", "a man"]}
    found, expected = (model.caption(CAT, beam_width=2, max_length=10, **wanted) for model in (bundled, with_torch))
    assert found.text == expected.text
    assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-3)
    assert found.confidence is None, "it was calibrated for another search"


def test_a_stream_of_photos_has_the_captions_of_single_ones_and_errors_in_their_places(
    bundled: OnnxCaptioner, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(PHOTOS[0].read_bytes()[:100])
    found = list(bundled.caption_each([PHOTOS[0], broken, PHOTOS[1], PHOTOS[2]], batch_size=2))
    assert isinstance(found[1], ImageError)
    captions = [caption for caption in found if not isinstance(caption, ImageError)]
    assert [caption.text for caption in captions] == [bundled.caption(path).text for path in PHOTOS[:3]]
    with pytest.raises(ImageError, match=r"^images\[1\]: .*broken\.jpg"):
        bundled.caption([PHOTOS[0], broken])


def test_a_caption_does_not_depend_on_its_batch(bundled: OnnxCaptioner) -> None:
    together = bundled.caption(list(PHOTOS[:3]))
    for path, caption in zip(PHOTOS, together, strict=False):
        alone = bundled.caption(path)
        assert alone.text == caption.text
        assert alone.log_prob == pytest.approx(caption.log_prob, abs=1e-4)


def test_nothing_imports_torch() -> None:
    code = (
        "import sys; from captioner.runtime import OnnxCaptioner; "
        f"print(OnnxCaptioner.pretrained().caption({str(PHOTOS[0])!r}).text); "
        "print([name for name in ('torch', 'torchvision', 'hydra', 'omegaconf', 'safetensors', 'jaxtyping', 'yaml', "
        "'matplotlib', 'nltk', 'pycocotools', 'tqdm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, imported = done.stdout.splitlines()
    assert text
    assert imported == "[]"


def test_what_needs_torch_says_so(bundled: OnnxCaptioner) -> None:
    with pytest.raises(ConfigError, match="decode=sample needs torch"):
        bundled.caption(PHOTOS[0], decode="sample")
    with pytest.raises(ConfigError, match="needs torch"):
        bundled.score(PHOTOS[0], "a dog")
    with pytest.raises(ConfigError, match="beam_width"):
        bundled.caption(PHOTOS[0], beam_widht=3)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    source = find_onnx(pretrained_folder(DEFAULT))
    assert source is not None
    return Path(shutil.copytree(source, tmp_path / "copy"))


def cut(folder: Path) -> None:
    (folder / "step.onnx").write_bytes((folder / "step.onnx").read_bytes()[:-100])


def cut_with_checksum(folder: Path) -> None:
    cut(folder)
    write_manifest(folder)


def another_opset(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "step.onnx", load_external_data=False)
    model.opset_import[0].version = 99
    (folder / "step.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder)


def another_layout(folder: Path) -> None:
    text = (folder / "onnx.json").read_text(encoding="utf-8")
    (folder / "onnx.json").write_text(text.replace('"layout": 1', '"layout": 9'), encoding="utf-8")
    write_manifest(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "step.onnx was altered or damaged"),
        (cut_with_checksum, "step.onnx cannot be used by onnxruntime"),
        (another_opset, "install a newer onnxruntime"),
        (another_layout, "has the layout 9"),
        (lambda folder: (folder / "encoder.onnx").unlink(), "encoder.onnx is missing"),
        (lambda folder: (folder / "classes.onnx").write_bytes(b"1"), "classes.onnx was altered"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"1"), "model.safetensors was altered"),
    ],
    ids=["cut", "cut with its checksum", "opset", "layout", "missing", "classifier", "no checksums", "other weights"],
)
def test_a_broken_folder_is_one_message(copied: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(copied)
    with pytest.raises(CheckpointError, match=message):
        OnnxCaptioner.from_checkpoint(copied)


def test_files_without_the_classifier_leave_the_classes_out_and_say_so(copied: Path) -> None:
    """As captioner wrote them before it exported the classifier."""
    text = (copied / "onnx.json").read_text(encoding="utf-8")
    (copied / "onnx.json").write_text(text.replace('"classes": true', '"classes": false'), encoding="utf-8")
    for name in CLASS_FILES:
        (copied / name).unlink()
    write_manifest(copied)
    model = OnnxCaptioner.from_checkpoint(copied)
    assert model.without_classes
    assert "writes them again" in str(model.lacking(model.decode))
    caption = model.caption(CAT)
    assert caption.tags is None
    with pytest.raises(ConfigError, match="class_weight needs the encoder's classifier, which these ONNX files"):
        model.caption(CAT, class_weight=2.0)


def test_a_predicted_consensus_ranks_as_with_torch(copied: Path) -> None:
    predictor = random_predictor(read_description(copied).feature_dim, tokens=(4, 5, 6, 8, 9), features=7)
    save_consensus(predictor, copied)
    write_manifest(copied)
    weights = (0.0, 0.5)
    found, expected = (
        [model.caption(PHOTOS[0], beam_width=5, alternatives=4, consensus_weight=weight) for weight in weights]
        for model in (OnnxCaptioner.from_checkpoint(copied), Captioner.from_checkpoint(copied, "cpu"))
    )
    for one, other in zip(found, expected, strict=True):
        for caption, same in zip((one, *one.alternatives), (other, *other.alternatives), strict=True):
            assert caption.text == same.text
            assert caption.score == pytest.approx(same.score, abs=1e-3)
    assert found[0].score != found[1].score


def test_a_consensus_weight_without_a_predictor_is_one_message(copied: Path) -> None:
    (copied / CONSENSUS_FILE).unlink(missing_ok=True)
    write_manifest(copied)
    model = OnnxCaptioner.from_checkpoint(copied)
    with pytest.raises(ConfigError, match=r"consensus_weight=0\.5 needs a consensus predictor"):
        model.caption(CAT, consensus_weight=0.5)
    assert model.caption(CAT, decode="greedy").text


def test_a_checkpoint_without_onnx_files_is_told_how_to_get_some(copied: Path) -> None:
    for name in (*GRAPH_FILES, "onnx.json"):
        (copied / name).unlink()
    with pytest.raises(CheckpointError, match="has no ONNX files: write some with"):
        OnnxCaptioner.from_checkpoint(copied)
    assert choose_backend("auto", copied) == "torch"


def test_the_backend_is_onnx_unless_something_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("auto", DEFAULT) == "onnx"
    assert choose_backend("torch", DEFAULT) == "torch"
    assert choose_backend("auto", DEFAULT, "--score") == "torch"
    with pytest.raises(CaptionerError, match="--score needs torch"):
        choose_backend("onnx", DEFAULT, "--score")
    monkeypatch.setattr("captioner.runtime.backends.torch_is_installed", lambda: False)
    with pytest.raises(CaptionerError, match="--score needs torch, which is not installed"):
        choose_backend("auto", DEFAULT, "--score")
    monkeypatch.setattr("captioner.runtime.backends.onnxruntime_is_installed", lambda: False)
    with pytest.raises(CaptionerError, match="Neither torch nor onnxruntime"):
        choose_backend("auto", DEFAULT)


def test_the_checkpoint_loads_with_torch_as_before(copied: Path) -> None:
    loaded = load_checkpoint(copied)
    assert replace(loaded.settings.decode) == Captioner.pretrained(device="cpu").decode
