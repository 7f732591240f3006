"""Where images and captions come from, and where features are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError, choose
from captioner.registry import Registry


@dataclass
class DataConfig:
    """Settings that every data set has. `name` is its name in `DATASETS`.

    reader: the module with its `available_splits(config)` and `read_split(config, split)`, imported when data is read.
    """

    reader: ClassVar[str] = ""

    choices: ClassVar[dict[str, Iterable[str]]] = {"on_bad_image": ("error", "skip")}

    name: str = "flickr8k"  # the data set; data=… sets it
    root: str | None = None  # the folder of the data set
    limit: int | None = None  # keep only the first N images of every split; null: all
    num_workers: int = 2  # processes that decode images
    on_bad_image: str = "error"  # error: stop and name it; skip: leave it out, count and list it

    def __post_init__(self) -> None:
        choose("data.name", self.name, DATASETS)
        check_choices("data", self)
        at_least("data.limit", self.limit, 1)
        at_least("data.num_workers", self.num_workers, 0)


@dataclass
class ScenesConfig(DataConfig):
    """The embedded data set: synthetic scenes, generated from a seed."""

    reader: ClassVar[str] = "captioner.data.synthetic.scenes"

    name: str = "scenes"
    root: str | None = None  # the folder they are written to; null: in the cache folder (see cache.directory)
    seed: int = 0  # of the images and captions
    train_size: int = 1600  # images of the split train
    val_size: int = 200  # images of the split val
    test_size: int = 200  # images of the split test

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("train_size", "val_size", "test_size"):
            at_least(f"data.{key}", getattr(self, key), 1)


@dataclass
class CocoConfig(DataConfig):
    """MS COCO captions in the official layout, 2014 or 2017, or Karpathy's splits of it."""

    reader: ClassVar[str] = "captioner.data.datasets.coco"

    name: str = "coco"
    root: str | None = None  # the folder that holds annotations/ and the image folders
    year: int | None = None  # 2014 or 2017; null: whichever the folder holds
    karpathy: str | None = None  # dataset_coco.json, or a folder of lists of file names; null: the official splits

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.year not in (None, 2014, 2017):
            raise ConfigError(f"data.year={self.year}: COCO captions exist for 2014 and 2017.")


@dataclass
class Flickr8kConfig(DataConfig):
    """Flickr8k in the official layout, or in the `captions.txt` layout that circulates."""

    reader: ClassVar[str] = "captioner.data.datasets.flickr8k"

    name: str = "flickr8k"
    root: str | None = None  # the folder that holds the captions and the images


@dataclass
class Flickr30kConfig(DataConfig):
    """Flickr30k by Karpathy's JSON file."""

    reader: ClassVar[str] = "captioner.data.datasets.flickr30k"

    name: str = "flickr30k"
    root: str | None = None  # the folder that holds the images
    karpathy: str | None = None  # dataset_flickr30k.json; null: found in root


@dataclass
class FolderConfig(DataConfig):
    """A person's own images and captions."""

    reader: ClassVar[str] = "captioner.data.datasets.folder"

    name: str = "folder"
    root: str | None = None  # the folder of images
    captions: str | None = None  # the file of captions (CSV, JSONL or COCO JSON), relative to root; null: found in root
    val_fraction: float = 0.1  # share of images for val, and as many for test, when the file names no splits

    def __post_init__(self) -> None:
        super().__post_init__()
        within("data.val_fraction", self.val_fraction, 0.0, 0.4)


@dataclass
class ShardsConfig(DataConfig):
    """Tar archives of images and captions, read where they lie. A split's pattern may hold {0..9}, {a,b}, * and ?."""

    reader: ClassVar[str] = "captioner.data.datasets.tar_shards.reader"

    name: str = "shards"
    root: str | None = None  # the folder that holds the shards
    train: str | None = None  # pattern of the shards, or their folder; null: root/train/*.tar or root/train*.tar
    val: str | None = None  # pattern of the shards, or their folder; null: root/val/*.tar or root/val*.tar
    test: str | None = None  # pattern of the shards, or their folder; null: root/test/*.tar or root/test*.tar


DATASETS: Registry[type[DataConfig]] = Registry(
    "data.name",
    "captioner.datasets",
    {
        "scenes": ScenesConfig,
        "coco": CocoConfig,
        "flickr8k": Flickr8kConfig,
        "flickr30k": Flickr30kConfig,
        "folder": FolderConfig,
        "shards": ShardsConfig,
    },
)
"""Name → the settings of a data set, which name its reader."""


@dataclass
class CacheConfig:
    """Features of a frozen encoder, computed once and kept on disk."""

    enabled: bool = True  # keep features on disk, as far as the encoder is frozen and images are not augmented
    directory: str | None = None  # the folder of the cache; null: $CAPTIONER_CACHE, else ~/.cache/captioner
    flips: bool = False  # train on mirrored images half of the time; takes twice the disk space for train
