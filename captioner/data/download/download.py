"""Downloads COCO, Karpathy's splits, and the weights of torchvision's networks.

Sizes and checksums are those that the publishers' servers state and many projects use. Karpathy's archive has no
published checksum: its CRCs are verified, and the counts of its splits when it is read.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from captioner.data.download.http import RemoteFile, fetch
from captioner.data.download.unzip import unpack_zip
from captioner.errors import ConfigError, choose
from captioner.nn.encoders.encoder_weights import torchvision_entry

COCO_MIRRORS = ("https://s3.amazonaws.com/images.cocodataset.org", "http://images.cocodataset.org")
KARPATHY_MIRRORS = ("https://cs.stanford.edu/people/karpathy/deepimagesent",)


@dataclass(frozen=True)
class Archive:
    """A zip file. It has been unpacked if at least `count` files match `unpacked`, such as "train2017/*.jpg"."""

    file: RemoteFile
    unpacked: str
    count: int

    @property
    def folder(self) -> str:
        """The folder that its files are unpacked into."""
        return self.unpacked.partition("/")[0]


COCO_PARTS = ("annotations", "train", "val")

COCO_ARCHIVES = {
    ("annotations", 2014): Archive(
        RemoteFile("annotations/annotations_trainval2014.zip", 252_872_794, "md5:0a379cfc70b0e71301e0f377548639bd"),
        "annotations/captions_*2014.json",
        2,
    ),
    ("train", 2014): Archive(
        RemoteFile("zips/train2014.zip", 13_510_573_713, "md5:0da8c0bd3d6becc4dcb32757491aca88"),
        "train2014/*.jpg",
        82_783,
    ),
    ("val", 2014): Archive(
        RemoteFile("zips/val2014.zip", 6_645_013_297, "md5:a3d79f5ed8d289b7a7554ce06a5782b3"), "val2014/*.jpg", 40_504
    ),
    ("annotations", 2017): Archive(
        RemoteFile("annotations/annotations_trainval2017.zip", 252_907_541, "md5:f4bbac642086de4f52a3fdda2de5fa2c"),
        "annotations/captions_*2017.json",
        2,
    ),
    ("train", 2017): Archive(
        RemoteFile("zips/train2017.zip", 19_336_861_798, "md5:cced6f7f71b7629ddf16f17bbcfab6b2"),
        "train2017/*.jpg",
        118_287,
    ),
    ("val", 2017): Archive(
        RemoteFile("zips/val2017.zip", 815_585_330, "md5:442b8da7639aecaf257c1dceb8ba8c80"), "val2017/*.jpg", 5_000
    ),
}
"""(part, year) → archive. The annotations archives hold captions, instances and keypoints of train and val."""

KARPATHY_ARCHIVE = RemoteFile("caption_datasets.zip")


def download_coco(
    root: Path,
    year: int = 2017,
    parts: Sequence[str] = COCO_PARTS,
    mirrors: Sequence[str] = COCO_MIRRORS,
    *,
    keep_archives: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Download COCO's images and annotations in the layout that `data=coco data.root=ROOT` reads.

    parts: any of COCO_PARTS. Complete parts are not downloaded again. Archives are removed after unpacking unless
    `keep_archives`. Returns the folders. DataError as from `fetch` and `unpack_zip`.
    """
    if year not in (2014, 2017):
        raise ConfigError(f"year={year}: COCO captions exist for 2014 and 2017.")
    wanted = [COCO_ARCHIVES[choose("parts", part, COCO_PARTS), year] for part in parts]
    for archive in wanted:
        if not _is_unpacked(root, archive):
            _fetch_and_unpack(archive.file, root, mirrors, keep_archives, progress)
    return [root / archive.folder for archive in wanted]


def download_karpathy(
    folder: Path,
    mirrors: Sequence[str] = KARPATHY_MIRRORS,
    *,
    keep_archive: bool = False,
    progress: bool = True,
) -> Path:
    """Download Karpathy's `dataset_coco.json`, `dataset_flickr8k.json` and `dataset_flickr30k.json`.

    Returns the path of `dataset_coco.json`. DataError as from `fetch` and `unpack_zip`.
    """
    splits = folder / "dataset_coco.json"
    if splits.exists():
        return splits
    unpacked = _fetch_and_unpack(KARPATHY_ARCHIVE, folder, mirrors, keep_archive, progress)
    return next((path for path in unpacked if path.name == splits.name), splits)


def download_weights(
    name: str,
    weights: str = "DEFAULT",
    mirrors: Sequence[str] | None = None,
    *,
    folder: Path | None = None,
    progress: bool = True,
) -> Path:
    """Download the pretrained weights of a torchvision network to where torchvision finds them; returns the path.

    name: for example "resnet50". weights: "DEFAULT" or a name such as "IMAGENET1K_V1". mirrors: instead of
    torchvision's server. folder: instead of torch's cache (`torch.hub.get_dir()`). The name of the file holds the first
    digits of its SHA-256, which are verified.
    """
    try:
        url = torchvision_entry(name, weights).url
    except ValueError as error:
        raise ConfigError(f"torchvision has no network {name!r}: {error}.") from error
    server, _, file_name = url.rpartition("/")
    digits = re.search(r"-([0-9a-f]{8,})\.", file_name)
    file = RemoteFile(file_name, checksum=f"sha256:{digits.group(1)}" if digits else None)
    return fetch(file, folder or Path(torch.hub.get_dir()) / "checkpoints", mirrors or (server,), progress=progress)


def _is_unpacked(root: Path, archive: Archive) -> bool:
    """Whether all files are there. False while the archive exists: it is removed only after unpacking has finished."""
    folder = root / archive.folder
    if not folder.is_dir() or (root / archive.file.name).exists():
        return False
    pattern = archive.unpacked.partition("/")[2]
    return len(fnmatch.filter(os.listdir(folder), pattern)) >= archive.count  # noqa: PTH208 - names, not paths


def _fetch_and_unpack(file: RemoteFile, root: Path, mirrors: Sequence[str], keep: bool, progress: bool) -> list[Path]:
    archive = fetch(file, root, mirrors, progress=progress)
    unpacked = unpack_zip(archive, root, progress)
    if not keep:
        archive.unlink()
    return unpacked
