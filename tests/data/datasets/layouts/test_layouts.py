"""Every layout that `data=folder` reads: recognized, read to the same captions, checked, and trained on for a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.config import FolderConfig, TokenizerConfig
from captioner.data.check.check_dataset import check_dataset
from captioner.data.datasets.caption_sources import find_sources
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, ReadOptions
from captioner.data.datasets.layouts.registry import LAYOUTS, layouts_table, recognize
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.data.images.decode import load_image
from captioner.errors import DataError
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.data.datasets.layouts.written import CAPTIONS, HASHED, LAYOUT_OF, WRITERS, Captions, write
from tests.data.tiny import write_images, write_text
from tests.tiny import tiny_config, with_trainer


def read(config: FolderConfig) -> dict[str, dict[str, list[str]]]:
    """Split → name of the image file → captions; every image can be decoded."""
    found: dict[str, dict[str, list[str]]] = {}
    for split in available_splits(config):
        dataset = load_dataset(config, split)
        for image in dataset:
            load_image(image.path)
        found[split] = {f"{int(Path(image.path.name).stem)}.jpg": list(image.captions) for image in dataset}
    return found


def together(captions: Captions) -> dict[str, list[str]]:
    return {name: own for images in captions.values() for name, own in images.items()}


def written(name: str, root: Path) -> FolderConfig:
    if name.startswith("parquet"):
        pytest.importorskip("pyarrow")
    return write(name, root)


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_is_recognized_and_gives_the_same_captions(name: str, tmp_path: Path) -> None:
    config = written(name, tmp_path / "data")
    layouts = {
        recognize(AnnotationFile(source.path, ReadOptions())) for source in find_sources(tmp_path / "data", config)
    }
    assert layouts == {LAYOUTS[LAYOUT_OF[name]]}
    found = read(config)
    if name in HASHED:
        assert sorted(found) == ["test", "train", "val"]
        assert together(found) == together(CAPTIONS)
    else:
        assert found == CAPTIONS


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_passes_the_check(name: str, tmp_path: Path) -> None:
    config = written(name, tmp_path / "data")
    report = check_dataset(config, TokenizerConfig(), progress=False, min_count=1)
    assert report.errors == []
    assert report.images == 5
    assert sum(captions for _, captions in report.sizes.values()) == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_trains(name: str, tmp_path: Path) -> None:
    config = with_trainer(tiny_config(written(name, tmp_path / "data")), max_steps=1, evaluate_splits=["test"])
    (tmp_path / "run").mkdir()
    result = train(prepare(config, tmp_path / "run"))
    (evaluation,) = result.evaluations.values()
    assert len(evaluation.captions) == len(load_dataset(config.data, "test"))


def test_the_table_of_the_documentation() -> None:
    page = Path(__file__).parents[4] / "docs" / "data.md"
    assert layouts_table() in page.read_text(encoding="utf-8"), "paste the output of layouts_table() into docs/data.md"


def test_every_layout_has_a_row_in_these_tests() -> None:
    assert set(LAYOUT_OF.values()) | {"inner_list"} == set(LAYOUTS)


def test_a_layout_from_outside(tmp_path: Path) -> None:
    """The example of docs/extending.md."""
    page = Path(__file__).parents[4] / "docs" / "extending.md"
    section = page.read_text(encoding="utf-8").partition("\n## A layout of caption files\n")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    write_images(tmp_path, ["a.jpg", "b.jpg"])
    path = write_text(tmp_path / "mine.txt", "a.jpg: a cat: asleep\nb.jpg: a dog\n")
    config = FolderConfig(root=str(tmp_path), captions="mine.txt", val_fraction=0.0)
    with pytest.raises(DataError, match="the columns are"):
        load_dataset(config, "train")
    exec(example, {})
    try:
        assert recognize(AnnotationFile(path, ReadOptions())) is LAYOUTS["colons"]
        assert load_dataset(config, "train").references == {"a": ["a cat: asleep"], "b": ["a dog"]}
    finally:
        LAYOUTS.unregister("colons")
