"""Captions for test servers: a split without captions is captioned, written, checked and packed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from captioner.cli.data import main as data
from captioner.cli.evaluate import main as evaluate
from captioner.cli.submission import main
from captioner.cli.train import main as train
from captioner.config import FolderConfig
from captioner.data.datasets.registry import available_splits, load_dataset
from tests.cli.conftest import SMALL, Command, SmallRun

# The official layouts of lists of test images, shortened: COCO's image_info, nocaps', and VizWiz's.
INFO = {"description": "COCO 2014 Dataset", "version": "1.0", "year": 2014, "date_created": "2017/09/01"}
LICENSES = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}]
LAYOUTS: dict[str, dict[str, Any]] = {
    "coco": {
        "info": INFO,
        "images": [
            {
                "license": 4,
                "file_name": name,
                "coco_url": f"http://images.cocodataset.org/test2014/{name}",
                "height": 8,
                "width": 12,
                "date_captured": "2013-11-14 12:26:33",
                "id": number,
            }
            for number, name in enumerate(["000.png", "001.png", "002.png"], start=391)
        ],
        "licenses": LICENSES,
        "categories": [{"supercategory": "person", "id": 1, "name": "person"}],
    },
    "nocaps": {
        "licenses": [{"url": "https://creativecommons.org/licenses/by/2.0/", "id": 1, "name": "CC BY 2.0"}],
        "info": {"url": "http://nocaps.org", "date_created": "2018/11/06", "version": "0.1", "year": 2018},
        "images": [
            {
                "id": number,
                "open_images_id": f"00a{number}",
                "coco_url": f"https://s3.amazonaws.com/nocaps/val/{name}",
                "date_captured": "2018-11-06 11:04:33",
                "file_name": name,
                "license": 0,
                "width": 12,
                "height": 8,
            }
            for number, name in enumerate(["000.png", "001.png"])
        ],
    },
    "vizwiz": {
        "info": {"description": "This dataset contains crowdsourced captions.", "version": "VizWiz-Captions 1.0"},
        "images": [
            {
                "file_name": name,
                "vizwiz_url": f"https://vizwiz.cs.colorado.edu/VizWiz_visualization_img/{name}",
                "id": number,
                "text_detected": False,
            }
            for number, name in enumerate(["000.png", "001.png"], start=31181)
        ],
    },
}


@pytest.fixture
def coco(tmp_path: Path, tiny: FolderConfig) -> Path:
    """A COCO folder with nothing but test images; those of tests.tiny."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/image_info_test2014.json").write_text(json.dumps(LAYOUTS["coco"]))
    (root / "test2014").mkdir()
    for name in ("000.png", "001.png", "002.png"):
        (root / "test2014" / name).write_bytes((tmp_path / "data" / name).read_bytes())
    return root


def test_a_split_without_captions(command: Command, coco: Path, small_run: SmallRun) -> None:
    small_run("run")
    options = ("checkpoint=run", "split=test", "device=cpu", "data.num_workers=0", "metric.names=[Bleu,CIDEr]")
    done = command(evaluate, *options, "data=coco", "data.root=coco", "submission_zip=true", "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert "Bleu unavailable: no references" in done.out
    assert "would not accept" not in done.out
    record = json.loads(Path("out/metrics.json").read_text())
    assert record["unavailable"] == {"Bleu": "no references", "CIDEr": "no references"}
    assert not [name for name, value in record.items() if isinstance(value, float)]
    name = "captions_test2014_run_results.json"
    rows = json.loads(Path("out", name).read_text())
    assert [row["image_id"] for row in rows] == [391, 392, 393]
    assert all(row["caption"] for row in rows)
    assert zipfile.ZipFile("out/captions_test2014_run_results.zip").namelist() == [name]
    for layout in ("nocaps", "vizwiz"):
        Path("data", f"{layout}_test.json").write_text(json.dumps(LAYOUTS[layout]))
        source = ("data=folder", "data.root=data", f"data.test={layout}_test.json")
        done = command(evaluate, *options, *source, "submission=soft-3", f"hydra.run.dir={layout}")
        assert done.code == 0, done.err
        assert "For a test server" in done.out
        assert "would not accept" not in done.out
        rows = json.loads(Path(layout, "captions_test_soft-3_results.json").read_text())
        assert [row["image_id"] for row in rows] == [image["id"] for image in LAYOUTS[layout]["images"]]
    # A split of ids that are no integers is written, and the note says that no server takes it.
    Path("data/text.jsonl").write_text('{"image": "000.png", "caption": "a cat"}\n')
    source = ("data=folder", "data.root=data", "data.test=text.jsonl")
    done = command(evaluate, *options, *source, "submission=x", "hydra.run.dir=text")
    assert "a test server would not accept captions_test_x_results.json" in done.out
    assert json.loads(Path("text/metrics.json").read_text())["signature"]["references"] == 1
    for wrong, message in (
        (["submission=a b"], "of letters, digits, dots and hyphens"),
        (["report=true", "data=coco", "data.root=coco"], "report=true shows reference captions"),
    ):
        done = command(evaluate, *options, *wrong, "hydra.run.dir=wrong")
        assert done.code == 2
        assert message in done.err
        assert not Path("wrong").exists()


def test_training_data_and_pack_do_not_need_the_test_split(command: Command, coco: Path, tiny: FolderConfig) -> None:
    """What has no captions is neither packed nor trained on; training says so as before."""
    from captioner.config import CocoConfig

    config = CocoConfig(root=str(coco))
    assert available_splits(config) == ["test"]
    assert len(load_dataset(config, "test", need_captions=False)) == 3
    done = command(data, "pack", "data=coco", "data.root=coco", "out=shards")
    assert done.code == 2
    assert "no captions" in done.err
    done = command(train, *SMALL, "data=coco", "data.root=coco", "hydra.run.dir=run")
    assert done.code == 2
    assert "train" in done.err


def test_the_command_checks_and_packs(command: Command, coco: Path) -> None:
    rows = [{"image_id": number, "caption": "a dog"} for number in (391, 392, 393)]
    good, bad = Path("captions_test2014_x_results.json"), Path("captions_val2014_x_results.json")
    good.write_text(json.dumps(rows))
    bad.write_text(json.dumps([*rows[:2], {"image_id": "393", "caption": "a dog"}]))
    images = ("--images", "coco/annotations/image_info_test2014.json")
    done = command(main, str(good), *images, "--zip", "results.zip")
    assert done.code == 0, done.err
    assert "3 captions with integer ids for every image" in done.out
    assert zipfile.ZipFile("results.zip").namelist() == [good.name]
    done = command(main, str(good), str(bad), "--zip", "both.zip", "--json")
    assert done.code == 2
    assert "Nothing was packed" in done.err
    assert not Path("both.zip").exists()
    found = json.loads(done.out)
    assert found[0]["problems"] == []
    assert "the first is entry 2" in found[1]["problems"][0]
    Path("mine.json").write_text(json.dumps(rows[:1]))
    done = command(main, "mine.json", *images)
    assert done.code == 2
    assert "2 of 3 images have no caption: 392, 393." in done.out
    assert "COCO's server wants the name" in done.out
    for options, message in (
        (["nowhere.json"], "nowhere.json is not a file"),
        ([str(good), "--zip", "results.zip"], "nothing is overwritten"),
        ([str(good), "--zip", "results.tar"], "ends in .zip"),
        ([str(good), str(bad), *images], "names 1 files for 2"),
        ([str(good), "--image", "x"], "Did you mean --images"),
    ):
        wrong = command(main, *options)
        assert wrong.code == 2
        assert message in wrong.err
