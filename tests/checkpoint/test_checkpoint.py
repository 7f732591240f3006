"""Checkpoints: saving and loading, kills at any moment, damaged and malicious files."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from captioner.checkpoint import checkpoint
from captioner.checkpoint.checkpoint import (
    CheckpointSettings,
    load_checkpoint,
    load_trainer_state,
    load_weights,
    save_checkpoint,
)
from captioner.checkpoint.index import Index, find_checkpoint, read_index
from captioner.config import AttentionConfig, DecodeConfig, ModelConfig, RecurrentConfig, TokenizerConfig
from captioner.errors import CheckpointError
from captioner.nn.build_model import build_model
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import Vocabulary
from tests.checkpoint.forging import forge, forge_config
from tests.tiny import ENCODER

VOCABULARY = Vocabulary(["a", "dog", "犬", "runs", "fast"])
TIED = AttentionConfig(embedding_dim=6, hidden_dim=8, attention_dim=5, tie_embeddings=True, dropout=0.1)
MODELS = [
    TIED,
    replace(TIED, tie_embeddings=False, cell="gru", layers=2, gate="vector"),
    RecurrentConfig(embedding_dim=6, hidden_dim=8, tie_embeddings=True),  # with a projection from 8 to 6
    RecurrentConfig(embedding_dim=6, hidden_dim=6, cell="rnn", layers=3),
]
STATE = {"progress": {"step": 7}, "random_state": torch.arange(5, dtype=torch.uint8)}
FILES = ("model.safetensors", "vocab.json", "config.json", "SHA256SUMS")


def make(config: ModelConfig = TIED) -> tuple[CaptioningModel, CheckpointSettings]:
    model = build_model(config, ENCODER, len(VOCABULARY))
    decode = DecodeConfig(max_length=9, beam_width=2)
    return model, CheckpointSettings(config, ENCODER, model.encoder.transform, TokenizerConfig("char"), decode)


def save(
    run_folder: Path,
    step: int,
    made: tuple[CaptioningModel, CheckpointSettings] | None = None,
    *,
    is_best: bool = False,
) -> Path:
    model, settings = made or make()
    return save_checkpoint(run_folder, step, model, VOCABULARY, settings, STATE, is_best=is_best)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 7 and 14; the first is the best."""
    folder = tmp_path_factory.mktemp("finished")
    save(folder, 7, is_best=True)
    save(folder, 14)
    return folder


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the run folder that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def folder(run_folder: Path) -> Path:
    """The checkpoint of step 7."""
    return run_folder / "checkpoints" / "step-00000007"


def names(run_folder: Path) -> set[str]:
    return {path.name for path in (run_folder / "checkpoints").iterdir()}


def logits(model: CaptioningModel) -> torch.Tensor:
    """The logits of the decoder for fixed features and captions."""
    grid = torch.randn(2, 9, model.encoder.feature_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(ImageFeatures(grid.mean(1), grid), pack_captions([[[4, 5]], [[6], [7, 8, 4]]])).logits


# -------------------------------------------------------------------------------------- save and load


@pytest.mark.parametrize("config", MODELS, ids=["tied", "untied", "tied with a map", "rnn"])
def test_loading_gives_what_was_saved(tmp_path: Path, config: ModelConfig) -> None:
    model, settings = make(config)
    target = save_checkpoint(tmp_path, 3, model, VOCABULARY, settings, STATE, is_best=True)
    loaded = load_checkpoint(tmp_path)
    assert loaded.path == target
    assert loaded.vocabulary == VOCABULARY
    assert loaded.settings == settings
    assert type(loaded.settings.model) is type(config)
    assert loaded.model.encoder.transform == model.encoder.transform
    assert not any(module.training for module in loaded.model.modules())
    ours, theirs = model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert torch.equal(logits(model.eval()), logits(loaded.model))
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in loaded.model.parameters()]


def test_tied_weights_are_stored_once_and_stay_tied(finished_run: Path) -> None:
    with safe_open(finished_run / "checkpoints/step-00000007/model.safetensors", "pt") as file:
        stored = set(file.keys())
    assert len(stored & {"decoder.embedding.weight", "decoder.output.words.weight"}) == 1
    decoder: Any = load_checkpoint(finished_run).model.decoder
    assert decoder.output.words.weight is decoder.embedding.weight


def test_the_trainer_state_is_loaded_as_saved(finished_run: Path) -> None:
    state = load_trainer_state(find_checkpoint(finished_run))
    assert state["progress"] == {"step": 7}
    assert torch.equal(state["random_state"], STATE["random_state"])


def test_weights_are_loaded_in_place(finished_run: Path) -> None:
    """The optimizer of a resumed run refers to the model's tensors."""
    model, _ = make()
    before = [(id(parameter), parameter.data_ptr()) for parameter in model.parameters()]
    load_weights(model, find_checkpoint(finished_run, "latest"))
    assert [(id(parameter), parameter.data_ptr()) for parameter in model.parameters()] == before
    expected = load_checkpoint(finished_run, which="latest").model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_stored_transform_is_the_one_used(folder: Path) -> None:
    """Its image size too: the grid is the one of training, whatever the transform in torchvision is."""
    forge_config(folder, lambda config: config["encoder"].update(image_size=None))
    forge_config(folder, lambda config: config["transform"].update(mean=[0.1, 0.2, 0.3]))
    model = load_checkpoint(folder).model
    assert model.encoder.transform.size == 64
    assert model.encoder.transform.mean == (0.1, 0.2, 0.3)
    assert model.encoder.grid_size == (3, 3)


# ------------------------------------------------------------------------------------- latest and best


def test_latest_and_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 1)
    assert read_index(tmp_path) == Index("step-00000001", "step-00000001", ["step-00000001"])
    save(tmp_path, 2, is_best=True)
    save(tmp_path, 3)
    save(tmp_path, 4)
    assert read_index(tmp_path) == Index("step-00000004", "step-00000002", ["step-00000004"])
    assert names(tmp_path) == {"index.json", "step-00000002", "step-00000004"}
    assert find_checkpoint(tmp_path).name == "step-00000002"
    assert find_checkpoint(tmp_path, "latest").name == "step-00000004"
    save(tmp_path, 5, is_best=True)
    assert names(tmp_path) == {"index.json", "step-00000005"}


def test_a_step_can_be_saved_twice(run_folder: Path) -> None:
    """A run stopped at the end of an epoch saves its last step again, with its score, when it is resumed."""
    target = save(run_folder, 14, is_best=True)
    assert target.name == "step-00000014.2"
    assert read_index(run_folder) == Index(target.name, target.name, [target.name])
    assert names(run_folder) == {"index.json", target.name}
    assert load_checkpoint(run_folder).path == target


def test_a_checkpoint_folder_is_found_as_it_is(run_folder: Path, folder: Path) -> None:
    assert find_checkpoint(folder, "latest") == folder
    assert load_checkpoint(folder).path == folder
    assert load_checkpoint(run_folder, which="latest").path == run_folder / "checkpoints" / "step-00000014"


def test_a_run_folder_can_be_moved(run_folder: Path, tmp_path: Path) -> None:
    """A run folder refers to no other file."""
    moved = tmp_path / "else where é"
    (run_folder / "checkpoints/step-00000007").rename(moved)
    shutil.rmtree(run_folder)
    assert load_checkpoint(moved).vocabulary == VOCABULARY


# ------------------------------------------------------------------------------------------- a kill


def test_killed_at_any_moment(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before any file operation of `save_checkpoint`: latest and best load, and the next save works."""
    made, (scratch, _) = make(), make()
    for moment in itertools.count():
        folder = Path(shutil.copytree(finished_run, tmp_path / f"run-{moment}"))
        events = 0

        def killing(function: Callable[..., Any], last: int = moment) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal events
                events += 1
                if events > last:
                    raise SystemExit
                return function(*arguments, **more)

            return call

        finished = False
        with monkeypatch.context() as patch:
            for owner, name in (
                (safetensors.torch, "save_model"),
                (torch, "save"),
                (os, "fsync"),
                (Path, "mkdir"),
                (Path, "write_text"),
                (Path, "replace"),
                (shutil, "rmtree"),
            ):
                patch.setattr(owner, name, killing(getattr(owner, name)))
            try:
                save(folder, 21, made, is_best=True)
                finished = True
            except SystemExit:
                pass
        for which in ("latest", "best"):
            found = find_checkpoint(folder, which)
            load_weights(scratch, found)
            load_trainer_state(found)
            assert Vocabulary.load(found / "vocab.json") == VOCABULARY
        if finished:
            break
        save(folder, 28, made, is_best=True)
        assert names(folder) == {"index.json", "step-00000028"}
    assert moment > 12  # number of kills


def test_files_are_flushed_before_the_folder_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the renaming must not leave an incomplete file under its final name."""
    flushed: set[int] = set()
    at_renaming: set[int] = set()
    replace_ = Path.replace

    def watch(path: Path, target: Path) -> Path:
        if path.name.startswith(".step-"):
            at_renaming.update(flushed)
        return replace_(path, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.add(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(Path, "replace", watch)
    target = save(tmp_path, 1)
    assert {path.stat().st_ino for path in (target, *target.iterdir())} <= at_renaming


def test_temporary_folders_of_killed_runs_are_removed(run_folder: Path) -> None:
    checkpoints = run_folder / "checkpoints"
    (checkpoints / ".step-00000021.tmp").mkdir()
    (checkpoints / ".step-00000021.tmp" / "model.safetensors").write_bytes(b"half")
    (checkpoints / ".index.json.0123abcd.tmp").write_text("{")
    assert load_checkpoint(run_folder).path.name == "step-00000007"
    save(run_folder, 28)
    assert names(run_folder) == {"index.json", "step-00000007", "step-00000028"}


# ------------------------------------------------------------------------ missing, altered, of another kind


def check_load_fails(folder: Path, match: str, name: str = "config.json") -> None:
    with pytest.raises(CheckpointError, match=match) as error:
        load_checkpoint(folder)
    assert str(folder) in str(error.value)
    assert name in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    check_load_fails(folder, f"is incomplete: {name} is missing", name)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-9] ^= 1
    (folder / name).write_bytes(content)
    check_load_fails(folder, "was altered or damaged", name)
    (folder / name).write_bytes(content[:100])
    check_load_fails(folder, "was altered or damaged", name)


def test_altered_weights_are_not_resumed_from(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-9] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was altered or damaged"):
        load_weights(make()[0], folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"[" * 100_000, b"7", b"{}", b'{"format_version": 4}']
)
def test_a_config_file_with_other_content(folder: Path, content: bytes) -> None:
    forge(folder, "config.json", content)
    with pytest.raises(CheckpointError, match=r"cannot be read|has format version") as error:
        load_checkpoint(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.0, 1.5, True, [1]])
def test_an_invalid_version(folder: Path, version: Any) -> None:
    forge_config(folder, lambda config: config.update(format_version=version))
    with pytest.raises(CheckpointError, match=r"has format version .*, which no captioner wrote"):
        load_checkpoint(folder)


def test_a_newer_version_says_what_to_do(folder: Path) -> None:
    forge_config(folder, lambda config: config.update(format_version=4))
    with pytest.raises(CheckpointError, match=r"version 4, and captioner .* reads versions 1 to 3: install the capti"):
        load_checkpoint(folder)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "extra group": (lambda config: config.update(modle={}), r"modle does not exist\. Did you mean model"),
    "extra key": (lambda config: config["model"].update(hiden_dim=8), r"model\.hiden_dim does not exist"),
    "no group": (lambda config: config.pop("transform"), "transform must be a group of settings"),
    "no model": (lambda config: config.pop("model"), "model.name='None' does not exist"),
    "unknown model": (
        lambda config: config["model"].update(name="perceiver"),
        "which is not installed",
    ),
    "model is a list": (lambda config: config.update(model=[]), "model.name='None'"),
    "wrong type": (lambda config: config["decode"].update(beam_width="3"), "decode.beam_width='3' has the wrong type"),
    "bool for int": (lambda config: config["model"].update(layers=True), "model.layers=True has the wrong type"),
    "wrong value": (lambda config: config["transform"].update(std=[1, 0, 1]), r"transform\.std"),
    "no encoder": (lambda config: config["encoder"].update(name="resnet51"), "encoder.name='resnet51' does not exist"),
    "no block": (lambda config: config["encoder"].update(fine_tune_from="x"), "encoder.fine_tune_from='x'"),
    "tiny image": (lambda config: config["transform"].update(size=8), "encoder.image_size=8"),
    "_target_": (lambda config: config["model"].update(_target_="os.system"), r"model\._target_ does not exist"),
    "no task": (lambda config: config.pop("task"), "task=None does not exist"),
    "task is a list": (lambda config: config.update(task=[]), r"task=\[\] does not exist"),
    "sums of version 1": (lambda config: config.update(sha256={}), "sha256 does not exist"),
    "absurd width": (lambda config: config["model"].update(hidden_dim=10**9), "model.hidden_dim=1000000000 is out"),
    "absurd depth": (lambda config: config["model"].update(layers=10**9), "model.layers=1000000000 is out of range"),
    "absurd image": (lambda config: config["transform"].update(size=10**9), "transform.size=1000000000 is out"),
    "NaN": (lambda config: config["model"].update(dropout=float("nan")), "model.dropout=nan is out of range"),
}


@pytest.mark.parametrize(("change", "match"), CHANGES.values(), ids=CHANGES.keys())
def test_an_altered_config_is_named(folder: Path, change: Callable[[dict[str, Any]], object], match: str) -> None:
    forge_config(folder, change)
    check_load_fails(folder, match)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_dim": 9},
        {"cell": "gru"},
        {"layers": 2},
        {"tie_embeddings": False},
        {"gate": "none"},
        {"gate": "vector"},
        {"attention_dim": 4},
    ],
)
def test_a_config_that_does_not_fit_the_weights(folder: Path, change: dict[str, Any]) -> None:
    forge_config(folder, lambda config: config["model"].update(change))
    check_load_fails(folder, r"model\.safetensors does not fit the model that config\.json and vocab\.json describe")


def test_a_vocabulary_that_does_not_fit(folder: Path) -> None:
    for words in (["a"], [str(number) for number in range(99)]):
        forge(folder, "vocab.json", Vocabulary(words).to_json().encode())
        check_load_fails(folder, "does not fit the model", "vocab.json")
    forge(folder, "vocab.json", b'["a"]')
    check_load_fails(folder, "should begin with <PAD>", "vocab.json")


def test_huge_sizes_allocate_no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest model that the settings allow has 10¹³ parameters; none of them is allocated on the CPU."""
    allocated = []
    build = checkpoint.build_decoder

    def watch(*arguments: Any) -> Any:
        decoder = build(*arguments)
        allocated.append({parameter.device.type for parameter in decoder.parameters()})
        return decoder

    monkeypatch.setattr(checkpoint, "build_decoder", watch)
    widest = {"hidden_dim": 65_536, "embedding_dim": 65_536, "attention_dim": 65_536, "layers": 64, "gate": "vector"}
    forge_config(folder, lambda config: config["model"].update(widest))
    check_load_fails(folder, r"model\.safetensors does not fit the model")
    assert allocated == [{"meta"}]


def test_a_weights_file_with_other_content(folder: Path) -> None:
    size = (folder / "model.safetensors").stat().st_size
    for content in (b"\0" * size, b"\xff" * size, pickle.dumps({}) * size):
        forge(folder, "model.safetensors", content)
        check_load_fails(folder, r"model\.safetensors does not fit")


# ------------------------------------------------------------------------------------ nothing is executed


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_code_in_the_trainer_state_is_not_executed(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save(Payload(mark), tmp_path / "evil.pt")
    for content in ((tmp_path / "evil.pt").read_bytes(), pickle.dumps(Payload(mark))):
        forge(folder, "trainer.pt", content)
        with pytest.raises(CheckpointError, match=r"trainer\.pt is damaged, or contains more than .*cannot be resumed"):
            load_trainer_state(folder)
        load_checkpoint(folder)  # captioning does not read it
    assert not mark.exists()
    with pickle.loads(pickle.dumps(Payload(mark))):  # unpickling would have created it
        assert mark.exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"no archive"])
def test_a_trainer_state_file_with_other_content(folder: Path, content: bytes) -> None:
    forge(folder, "trainer.pt", content)
    with pytest.raises(CheckpointError, match=r"trainer\.pt is damaged"):
        load_trainer_state(folder)


def test_a_trainer_state_of_another_kind(folder: Path, tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    forge(folder, "trainer.pt", (tmp_path / "list.pt").read_bytes())
    with pytest.raises(CheckpointError, match=r"trainer\.pt contains a list, not a training state"):
        load_trainer_state(folder)


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_trainer_state_is_named(folder: Path, damage: str) -> None:
    path = folder / "trainer.pt"
    content = path.read_bytes()
    path.unlink()
    if damage == "altered":
        path.write_bytes(content[:-1] + b"\1")
    with pytest.raises(CheckpointError, match=r"trainer\.pt (is missing|was altered)"):
        load_trainer_state(folder)
    assert load_checkpoint(folder).vocabulary == VOCABULARY  # only needed to resume


def test_settings_are_not_interpolated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "resnet18")
    forge_config(folder, lambda config: config["encoder"].update(name="${oc.env:SECRET}"))
    check_load_fails(folder, r"encoder\.name='\$\{oc\.env:SECRET\}' does not exist")


def test_weights_named_in_the_settings_are_not_read(folder: Path) -> None:
    """`encoder.weights` is where the run's weights came from; the checkpoint contains its weights."""
    forge_config(folder, lambda config: config["encoder"].update(weights="/nowhere/weights.pth"))
    assert load_checkpoint(folder).settings.encoder.weights == "/nowhere/weights.pth"


# ------------------------------------------------------------------------------------------- the index


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"latest": "step-00000007"}',
        '{"latest": 7, "best": 7}',
        '{"latest": "step-00000007", "best": "../../step-00000007"}',
        '{"latest": "step-00000007", "best": "/etc"}',
        '{"latest": "step-00000007", "best": "step-00000007/.."}',
        '{"latest": "step-00000007", "best": "step-00000007\\n"}',
        '{"latest": "step-00000007", "best": ""}',
        "[" * 100_000,
    ],
)
def test_an_invalid_index(run_folder: Path, content: str) -> None:
    (run_folder / "checkpoints/index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json (was altered|cannot be read)"):
        load_checkpoint(run_folder)
    assert load_checkpoint(run_folder / "checkpoints/step-00000007").vocabulary == VOCABULARY
    with pytest.raises(CheckpointError):  # and nothing is removed because of it
        save(run_folder, 21)
    assert {"step-00000007", "step-00000014", "step-00000021"} <= names(run_folder)


def test_an_index_that_names_a_missing_folder(run_folder: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=r"step-00000007 is incomplete: config\.json is missing"):
        load_checkpoint(run_folder)


def test_a_missing_folder_is_named_with_near_misses(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"runn is not a folder: .* Did you mean .*/run\?"):
        load_checkpoint(tmp_path / "runn")
    with pytest.raises(CheckpointError, match=r"is not a folder"):
        load_checkpoint(tmp_path / "nowhere" / "at all")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file is not a folder"):
        load_checkpoint(tmp_path / "file")


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"contains no checkpoint: it has neither config\.json nor"):
        load_checkpoint(tmp_path)
    assert read_index(tmp_path) is None
