"""Scenes as files: reproducible bytes, COCO's format, written atomically, without overwriting other folders."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from captioner.config import ScenesConfig
from captioner.data.synthetic import scenes
from captioner.data.synthetic.scenes import generate_scenes as generate
from captioner.data.synthetic.scenes import load_scenes
from captioner.data.synthetic.scenes.drawing import draw_scene
from captioner.data.synthetic.scenes.generate_scenes import generate_scene, scenes_directory
from captioner.data.synthetic.scenes.layout import IMAGE_SIZE, Scene
from captioner.data.synthetic.scenes.sheet import contact_sheet, main
from captioner.errors import ConfigError, DataError
from captioner.files import cache_directory

SPLITS = ("train", "val", "test")


def small(root: Path | None = None, **changes: int) -> ScenesConfig:
    sizes = {"train_size": 5, "val_size": 2, "test_size": 3, **changes}
    return ScenesConfig(root=None if root is None else str(root), **sizes)  # type: ignore[arg-type]


def digest(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256, of every file in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_data_set_matches_its_settings(tmp_path: Path) -> None:
    config = small(tmp_path / "scenes")
    image_ids = []
    for split, size in zip(SPLITS, (5, 2, 3), strict=True):
        dataset = load_scenes(config, split)
        assert (dataset.name, dataset.split, len(dataset)) == ("scenes", split, size)
        for index, image in enumerate(dataset):
            expected = generate_scene(0, split, index)
            assert image.image_id == expected.image_id
            assert image.captions == expected.captions
            assert [box.label for box in image.boxes] == [appearance.kind for appearance, _ in expected.scene.objects()]
            for box, (_, placement) in zip(image.boxes, expected.scene.objects(), strict=True):
                assert box.left == pytest.approx(placement.left, abs=0.006)
                assert box.top == pytest.approx(placement.top, abs=0.006)
                assert (box.width, box.height) == pytest.approx((placement.width, placement.height), abs=0.006)
            with Image.open(image.path) as file:
                assert (file.format, file.mode, file.size) == ("PNG", "RGB", (IMAGE_SIZE, IMAGE_SIZE))
                file.load()
            image_ids.append(image.image_id)
    assert len(set(image_ids)) == len(image_ids) == 10


def test_the_files_are_cocos(tmp_path: Path) -> None:
    """Read with pycocotools, the usual reader."""
    coco = pytest.importorskip("pycocotools.coco")
    config = small(tmp_path / "scenes")
    dataset = load_scenes(config, "train")
    captions = coco.COCO(str(tmp_path / "scenes/annotations/captions_train.json"))
    instances = coco.COCO(str(tmp_path / "scenes/annotations/instances_train.json"))
    for image in dataset:
        record = captions.imgs[image.image_id]
        assert record["file_name"] == image.path.name
        assert [annotation["caption"] for annotation in captions.imgToAnns[image.image_id]] == list(image.captions)
        objects = instances.loadAnns(instances.getAnnIds(imgIds=[image.image_id]))
        names = [instances.cats[one["category_id"]]["name"] for one in objects]
        assert names == [box.label for box in image.boxes]
        assert record["held_out"] is False
    for loaded in (captions, instances):
        annotation_ids = [annotation["id"] for annotation in loaded.dataset["annotations"]]
        assert len(set(annotation_ids)) == len(annotation_ids)


def test_the_same_seed_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    load_scenes(small(tmp_path / "here"), "val")
    code = (
        "import sys\nfrom captioner.config import ScenesConfig\n"
        "from captioner.data.synthetic.scenes import load_scenes\n"
        "load_scenes(ScenesConfig(root=sys.argv[1], train_size=5, val_size=2, test_size=3), 'test')"
    )
    environment = {"PYTHONHASHSEED": "7", "PATH": ""}
    finished = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "there")],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert finished.stdout == finished.stderr == ""  # no progress bar without a terminal
    assert digest(tmp_path / "here") == digest(tmp_path / "there")
    assert len(digest(tmp_path / "here")) == 10 + 6 + 1


def test_another_seed_gives_other_scenes(tmp_path: Path) -> None:
    first, second = load_scenes(small(tmp_path / "a"), "train"), load_scenes(small(tmp_path / "b", seed=1), "train")
    assert all(one.captions != two.captions for one, two in zip(first, second, strict=True))
    assert all(one.path.read_bytes() != two.path.read_bytes() for one, two in zip(first, second, strict=True))


def test_the_size_of_one_split_changes_nothing_else(tmp_path: Path) -> None:
    load_scenes(small(tmp_path / "small"), "train")
    load_scenes(small(tmp_path / "large", train_size=9), "train")
    few, many = digest(tmp_path / "small"), digest(tmp_path / "large")
    changed = {name for name in few if few[name] != many[name]}
    assert changed == {"scenes.json", "annotations/captions_train.json", "annotations/instances_train.json"}


def test_splits_are_independent_streams() -> None:
    assert len({generate_scene(0, split, 0).captions for split in SPLITS}) == 3


def test_without_a_root_scenes_are_generated_once_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    folder = scenes_directory(config)
    assert folder.is_relative_to(cache_directory() / "scenes")
    first = load_scenes(config, "train")
    assert first.images[0].path.is_relative_to(folder)
    monkeypatch.setattr(generate, "draw_scene", None)  # drawing again would fail
    assert load_scenes(config, "train") == first
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert {scenes_directory(small(seed=1)), scenes_directory(small(val_size=9))}.isdisjoint({folder})


def test_the_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "mine"))
    assert cache_directory() == tmp_path / "mine"
    monkeypatch.setenv("CAPTIONER_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "captioner"
    monkeypatch.setenv("CAPTIONER_CACHE", "~/elsewhere")
    assert cache_directory() == tmp_path / "elsewhere"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(load_scenes(small(tmp_path / "empty"), "val")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("marker", [None, "not JSON", '{"generator": "something else"}', "[]"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    if marker is not None:
        (tmp_path / "scenes.json").write_text(marker)
    before = digest(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)):
        load_scenes(small(tmp_path), "train")
    assert digest(tmp_path) == before


@pytest.mark.parametrize("changes", [{"seed": 3}, {"train_size": 6}, {"val_size": 1}, {"test_size": 4}])
def test_scenes_of_other_settings_are_left_alone(tmp_path: Path, changes: dict[str, int]) -> None:
    load_scenes(small(tmp_path / "scenes"), "train")
    before = digest(tmp_path)
    with pytest.raises(DataError, match="scenes of other settings"):
        load_scenes(small(tmp_path / "scenes", **changes), "train")
    assert digest(tmp_path) == before


def test_scenes_of_another_generator_version_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_scenes(small(tmp_path / "scenes"), "train")
    monkeypatch.setattr(generate, "GENERATOR_VERSION", generate.GENERATOR_VERSION + 1)
    with pytest.raises(DataError, match="scenes of other settings"):
        load_scenes(small(tmp_path / "scenes"), "train")


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(DataError, match="notes"):
        load_scenes(small(tmp_path / "notes"), "train")
    with pytest.raises(DataError, match="cannot be written to"):
        load_scenes(small(tmp_path / "notes" / "scenes"), "train")
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    drawn = []
    whole = generate.draw_scene

    def stops_at_the_third(*arguments: object) -> Image.Image:
        drawn.append(arguments)
        if len(drawn) == 3:
            raise stop
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(generate, "draw_scene", stops_at_the_third)
    with pytest.raises(stop):
        load_scenes(small(tmp_path / "scenes"), "train")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generate, "draw_scene", full)
    with pytest.raises(DataError, match="No space left on device"):
        load_scenes(small(tmp_path / "scenes"), "train")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("working", [True, False])
def test_several_processes_draw_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working: bool) -> None:
    """working=False: the other process fails at once, and its share is drawn here."""
    config = {"train_size": 7, "val_size": 2, "test_size": 3}
    load_scenes(small(tmp_path / "one", **config), "train")
    monkeypatch.setattr(generate, "MANY", 12)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    if not working:
        monkeypatch.setenv("PYTHONHOME", str(tmp_path / "nowhere"))
    here: list[Scene] = []
    draw = draw_scene

    def counted(scene: Scene, rng: Random) -> Image.Image:
        here.append(scene)
        return draw(scene, rng)

    monkeypatch.setattr(generate, "draw_scene", counted)
    load_scenes(small(tmp_path / "several", **config, num_workers=3), "train")
    assert digest(tmp_path / "several") == digest(tmp_path / "one")
    assert len(here) == (5 if working else 12), "indices 0, 3 and 6 of 7, 0 of 2 and 0 of 3"


def test_files_of_a_killed_run_are_not_used(tmp_path: Path) -> None:
    """SIGKILL during generation: the hidden folder remains, and the next run does not read it."""
    left = tmp_path / ".scenes.partial-0123456789abcdef"
    (left / "train").mkdir(parents=True)
    assert len(load_scenes(small(tmp_path / "scenes"), "train")) == 5
    assert left.is_dir()


def _load(root: str) -> int:
    return len(load_scenes(small(Path(root)), "test"))


def test_two_processes_may_race(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_load, [str(tmp_path / "scenes")] * 2) == [3, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_the_loser_of_a_race_takes_the_winners_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deterministic version of the test above: another run finishes while this one is generating."""
    config = small(tmp_path / "scenes")
    write = generate._write_json

    def loses(path: Path, content: dict[str, object]) -> None:
        write(path, content)
        if path.name == "scenes.json":
            monkeypatch.setattr(generate, "_write_json", write)
            load_scenes(config, "train")

    monkeypatch.setattr(generate, "_write_json", loses)
    assert len(load_scenes(config, "train")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


@pytest.mark.parametrize("damage", ["{", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}'])
def test_changed_annotations_are_one_clear_message(tmp_path: Path, damage: str) -> None:
    load_scenes(small(tmp_path / "scenes"), "train")
    (tmp_path / "scenes/annotations/captions_train.json").write_text(damage)
    with pytest.raises(DataError, match="train"):
        load_scenes(small(tmp_path / "scenes"), "train")


def test_a_split_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="Did you mean train"):
        load_scenes(small(), "trian")


def test_too_many_scenes_for_the_image_ids() -> None:
    with pytest.raises(DataError, match="train_size"):
        load_scenes(ScenesConfig(train_size=1_000_001), "train")


def test_held_out_is_written_beside_the_images(tmp_path: Path) -> None:
    load_scenes(small(tmp_path / "scenes", test_size=30), "test")
    content = json.loads((tmp_path / "scenes/annotations/captions_test.json").read_text())
    marks = [image["held_out"] for image in content["images"]]
    assert marks == [generate_scene(0, "test", index).scene.held_out for index in range(30)]
    assert 5 < sum(marks) < 25


def test_the_sheet_shows_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_scenes(small(), "train")
    sheet = np.asarray(contact_sheet(dataset, columns=3, rows=2))
    with Image.open(dataset.images[0].path) as image:
        assert np.array_equal(sheet[12 : 12 + IMAGE_SIZE, 12 : 12 + IMAGE_SIZE], np.asarray(image))
    assert (sheet[12 + IMAGE_SIZE : 12 + IMAGE_SIZE + 60, 12:200] < 128).any()  # words
    monkeypatch.setattr(sys, "argv", ["sheet", str(tmp_path / "sheet.png"), "--split", "val"])
    main()
    assert (tmp_path / "sheet.png").stat().st_size < 300_000


def test_the_package_exports_its_reader() -> None:
    assert scenes.__all__ == ["available_splits", "has_boxes", "load_scenes", "read_references", "read_split"]
