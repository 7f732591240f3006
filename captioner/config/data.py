"""Where pictures and captions come from, and where features are kept."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config.checks import at_least, within
from captioner.errors import ConfigError, choose

DATASETS = ("scenes", "coco", "flickr8k", "flickr30k", "folder", "shards")


@dataclass
class DataConfig:
    """Where pictures and captions come from: what every source has. `name` selects the reader in `data.build`."""

    name: str = "flickr8k"
    root: str | None = None  # the data set's folder
    limit: int | None = None  # keep only the first N pictures of every split (for trying things out)
    num_workers: int = 2  # processes that decode pictures
    on_bad_image: str = "error"  # error: stop and name it; skip: leave it out, count and list it

    def __post_init__(self) -> None:
        choose("data.name", self.name, DATASETS)
        choose("data.on_bad_image", self.on_bad_image, ("error", "skip"))
        at_least("data.limit", self.limit, 1)
        at_least("data.num_workers", self.num_workers, 0)


@dataclass
class ScenesConfig(DataConfig):
    """The embedded data set: pictures drawn from a seed. `root` null: the cache folder."""

    name: str = "scenes"
    seed: int = 0
    train_size: int = 1600
    val_size: int = 200
    test_size: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("train_size", "val_size", "test_size"):
            at_least(f"data.{key}", getattr(self, key), 1)


@dataclass
class CocoConfig(DataConfig):
    """MS COCO captions in the official layout, 2014 or 2017, or Karpathy's splits of it."""

    name: str = "coco"
    year: int | None = None  # 2014 or 2017 (null: whichever the folder holds)
    karpathy: str | None = None  # dataset_coco.json, or a folder of lists of file names; null: the official splits

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.year not in (None, 2014, 2017):
            raise ConfigError(f"data.year={self.year}: COCO captions exist for 2014 and 2017.")


@dataclass
class Flickr8kConfig(DataConfig):
    """Flickr8k in the official layout, or in the `captions.txt` layout that circulates."""

    name: str = "flickr8k"


@dataclass
class Flickr30kConfig(DataConfig):
    """Flickr30k by Karpathy's JSON file."""

    name: str = "flickr30k"
    karpathy: str | None = None  # dataset_flickr30k.json; null: found in root


@dataclass
class FolderConfig(DataConfig):
    """A person's own pictures and captions."""

    name: str = "folder"
    captions: str | None = None  # CSV, JSONL or COCO JSON, relative to root; null: found in root
    val_fraction: float = 0.1  # share of pictures for val, and as many for test, when the file names no splits

    def __post_init__(self) -> None:
        super().__post_init__()
        within("data.val_fraction", self.val_fraction, 0.0, 0.4)


@dataclass
class ShardsConfig(DataConfig):
    """Tar archives of pictures and captions, read where they lie. A split's pattern may hold {0..9}, {a,b}, * and ?."""

    name: str = "shards"
    train: str | None = None  # null: root/train/*.tar, or root/train*.tar; the others likewise
    val: str | None = None
    test: str | None = None


@dataclass
class CacheConfig:
    """Features of a frozen encoder, computed once and kept on disk."""

    enabled: bool = True  # used as far as the encoder is frozen, where pictures are not augmented
    directory: str | None = None  # null: $CAPTIONER_CACHE, else ~/.cache/captioner
    flips: bool = False  # train on mirrored pictures too, half of the time; their features are kept as well
