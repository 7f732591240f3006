"""caption.py: photos in, captions out; which model; broken photos named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from captioner import Caption, Captioner
from captioner.checkpoint import pretrained
from captioner.cli.caption import describe_skipped, main
from captioner.cli.runs_folder import newest_run, note_newest, unnamed_checkpoint
from captioner.config import FolderConfig
from captioner.errors import CheckpointError
from captioner.plots.canvas import figure_to_png
from tests.checkpoint.members import save_member
from tests.cli.conftest import Command, SmallRun


@pytest.fixture
def run(small_run: SmallRun) -> Path:
    return small_run("runs/first", "model=attention", "model.attention_dim=8")


def test_the_newest_finished_run_captions_where_it_is_asked_for(command: Command, run: Path) -> None:
    result = command(main, "data/003.png", "--newest")
    assert result.code == 0, result.err
    assert result.out.count("\n") == 1
    assert "Using runs/first" in result.err


def test_a_run_does_not_silently_replace_the_bundled_model(command: Command, run: Path) -> None:
    assert unnamed_checkpoint(newest=False) == (
        "flickr8k",
        "Using flickr8k, which comes with captioner (--newest for the newest of your own runs)",
    )
    both = command(main, "data/003.png", "--newest", "--checkpoint", "runs/first")
    assert both.code == 2
    assert "not allowed with" in both.err


def test_an_unusable_caption_is_marked(command: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tokens, line in (
        (("a", "a", "a"), "[no usable caption: it repeats 'a'] a a a"),
        ((), "[no usable caption: it is empty]"),
    ):
        made = Caption(" ".join(tokens), tokens, -1.0, -1.0, True)
        monkeypatch.setattr(Captioner, "caption", lambda *arguments, made=made, **settings: made)
        result = command(main, "data/003.png", "--newest")
        assert (result.code, result.out) == (0, line + "\n")
        as_json = command(main, "data/003.png", "--newest", "--json")
        assert json.loads(as_json.out)["unusable"] == made.unusable


def test_a_folder_names_what_is_not_captioned(command: Command, run: Path) -> None:
    Path("mixed").mkdir()
    shutil.copy("data/003.png", "mixed")
    for name in ("a.pdf", "b.txt"):
        Path("mixed", name).write_text("x")
    result = command(main, "mixed", "--newest")
    assert result.code == 0, result.err
    assert "Skipped, because 2 files are not in an image format that can be read here: a.pdf, b.txt." in result.err
    assert "pip install 'captioner[heic]'" in describe_skipped([Path("c.heic")])


def test_folder_json_and_alternatives(command: Command, run: Path) -> None:
    result = command(main, "data", "--checkpoint", "runs/first", "--json", "--alternatives", "2", "--device", "cpu")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [Path(row["path"]).name for row in rows] == [f"{n:03}.png" for n in range(32)]
    for row in rows:
        assert len(row["alternatives"]) == 2
        assert all(other["log_prob"] <= row["log_prob"] for other in row["alternatives"])


def test_given_captions_are_scored(command: Command, tiny: FolderConfig) -> None:
    """As text and as JSON, which has what the caption's own record has; nothing is generated."""
    told = json.loads(command(main, "data/003.png", "--json", "--device", "cpu").out)
    options = ("--score", told["caption"], "--score", "a blorp on the left", "--device", "cpu")
    result = command(main, "data/003.png", *options, "--json")
    assert result.code == 0, result.err
    again, other = map(json.loads, result.out.splitlines())
    assert (again["path"], again["caption"]) == (told["path"], told["caption"])
    assert told["finished"]
    assert again["log_prob"] == pytest.approx(told["log_prob"], abs=1e-4)
    assert [word["word"] for word in other["words"]] == ["a", "blorp", "on", "the", "left", "<END>"]
    assert other["log_prob"] == pytest.approx(sum(word["log_prob"] for word in other["words"]), abs=1e-9)
    assert other["nats_per_word"] == pytest.approx(-other["log_prob"] / 6, abs=1e-9)
    assert other["unknown_words"] == ["blorp"]
    text = command(main, "data/002.png", "data/003.png", *options)
    assert text.code == 0, text.err
    assert text.out.count("| blorp (unknown) |") == 2
    assert text.out.count("log-probability") == 4
    assert "'blorp' did not occur" in text.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--score", "..."], "contains no word"),
        (["--score", "a dog", "--plot", "sheet.png"], "--plot sheet.png has no effect with --score"),
        (["--score", "a dog", "--beam-width", "3"], "--beam-width 3 has no effect"),
        (["--scoer", "a dog"], "Did you mean --score"),
    ],
)
def test_mistakes_with_score(command: Command, tiny: FolderConfig, options: list[str], message: str) -> None:
    result = command(main, "data/003.png", *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_plot_is_an_image(command: Command, run: Path) -> None:
    options = ("--contour", "0.5", "--scale", "word")
    result = command(main, "data/003.png", "data/004.png", "--newest", "--plot", "sheet.png", *options)
    assert result.code == 0, result.err
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"
    again = command(main, "data/003.png", "--plot", "sheet.png", "data/004.png", "--newest", *options)
    assert (again.code, again.out) == (0, result.out)  # a plot may be replaced, and files may surround the flags


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data/003.png", "--plot", "data/003.png"], "--plot data/003.png exists, and is no plot"),
        (["--plot", "data/003.png", "data/004.png"], "--plot data/003.png exists, and is no plot"),  # --plot data/*.png
        (["data/003.png", "--plot", "data/captions.jpg"], "a plot is a PNG file"),
        (["data", "--plot", "sheet.png"], "--plot sheet.png is one of the images to caption"),
        (["data", "--out", "data/003.png"], "--out data/003.png is one of the images to caption"),
    ],
)
def test_no_photo_is_replaced_by_an_output(
    command: Command, run: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data/sheet.png").write_bytes(figure_to_png(Figure(figsize=(1, 1)), dpi=20))
    Path("sheet.png").symlink_to("data/sheet.png")
    before = {path: path.read_bytes() for path in Path("data").iterdir() if path.is_file()}
    result = command(main, *arguments, "--newest")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert {path: path.read_bytes() for path in Path("data").iterdir() if path.is_file()} == before


def test_a_broken_image_among_others_is_named_and_the_others_captioned(command: Command, run: Path) -> None:
    Path("data/003.png").write_bytes(b"not an image")
    result = command(main, "data/002.png", "data/003.png", "data/004.png", "--newest")
    assert result.code == 2
    assert "003.png" in result.err
    assert result.out.count("\n") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "nothing.jpg"),
        (["https://example.org/a/b.jpg?x=1"], "curl -L -o b.jpg 'https://example.org/a/b.jpg?x=1', then give b.jpg"),
        (["data/003.png", "--contour", "50"], "expected a share between 0 and 1"),
        (["empty"], "contains no images"),
        (["data/003.png", "--checkpoint", "runs/frist"], "Did you mean runs/first"),
        (["data/003.png", "--plot", "nowhere/out.png"], "nowhere"),
        (["data/003.png", "--alternatives", "-1"], "expected 0 or more"),
        (["data/003.png", "--beam-width", "0"], "decode.beam_width=0 is too small"),
        (["data/003.png", "--device", "gpu"], "device='gpu'"),
    ],
)
def test_a_mistake_is_one_clear_message(command: Command, run: Path, arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    result = command(main, *arguments)
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err


def test_without_any_run_or_model_it_says_how_to_get_one(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "none")
    result = command(main, "photo.jpg")
    assert result.code == 2
    assert "train.py model=attention" in result.err


def test_newest_run_looks_into_sweeps_and_ignores_unfinished_runs(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "sweep/0_rnn", "unfinished")):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "index.json").write_text("{}")
        if name != "unfinished":
            (folder / "metrics.json").write_text("{}")
            os.utime(folder / "metrics.json", (number, number))
    assert newest_run(tmp_path) == tmp_path / "sweep/0_rnn"
    note_newest(tmp_path / "old", tmp_path)  # finished again, by a clock that was set back
    assert newest_run(tmp_path) == tmp_path / "old"
    shutil.rmtree(tmp_path / "old")
    assert newest_run(tmp_path) == tmp_path / "sweep/0_rnn"
    with pytest.raises(CheckpointError):
        newest_run(tmp_path / "nowhere")


def test_several_checkpoints_are_an_ensemble_and_images_may_follow_them(
    command: Command, tiny: FolderConfig, tmp_path: Path
) -> None:
    for seed, name in enumerate("ab"):
        save_member(tmp_path / name, seed)
    (tmp_path / "photos").mkdir()
    shutil.copy("data/001.png", "photos/001.png")
    expected = Captioner.from_checkpoint(["a", "b"], device="cpu").caption("data/000.png").text
    for arguments in (
        ("data/000.png", "--checkpoint", "a", "b"),
        ("--checkpoint", "a", "b", "data/000.png"),
        ("--checkpoint", "a", "b", "data/000.png", "--json"),
    ):
        result = command(main, *arguments, "--device", "cpu")
        assert result.code == 0, result.err
        assert (json.loads(result.out)["caption"] if "--json" in arguments else result.out.rstrip("\n")) == expected
    result = command(main, "--checkpoint", "a", "photos", "data/000.png", "--device", "cpu")
    assert result.out.count("\n") == 2, "a folder of images is no member"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "a", "b"], "IMAGE is missing"),
        (["data/000.png", "--checkpoint", "a", "bb"], "checkpoint=bb is not a folder"),
        (["data/000.png", "--checkpoint", "a", "--ensemble-mean", "log_probabilities"], "has no effect on one"),
        (["data/000.png", "--checkpoint", "a", "b", "--ensemble-mean", "mean"], "--ensemble-mean='mean' does not"),
        (["data/000.png", "--checkpoint", "a", "flickr8k"], "cannot caption together: their vocabularies differ"),
    ],
)
def test_mistakes_in_an_ensemble(
    command: Command, tiny: FolderConfig, tmp_path: Path, arguments: list[str], message: str
) -> None:
    for seed, name in enumerate("ab"):
        save_member(tmp_path / name, seed)
    result = command(main, *arguments, "--device", "cpu")
    assert result.code == 2
    assert message in result.err
