"""Flickr30k (Young et al., TACL 2014) with Karpathy's `dataset_flickr30k.json`, which holds captions and splits."""

from __future__ import annotations

from pathlib import Path

from captioner.config import Flickr30kConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets import karpathy
from captioner.data.datasets.annotation_files import check_image_name, data_root, first_existing, path_exists
from captioner.errors import DataError

EXPECTED = "dataset_flickr30k.json and flickr30k-images/"
FILE_NAME = "dataset_flickr30k.json"
IMAGE_FOLDERS = ("flickr30k-images", "flickr30k_images", "Images", "images")


def available_splits(config: Flickr30kConfig) -> list[str]:
    """train, val and test; DataError without Karpathy's file."""
    return karpathy.available_splits(_split_file(config, data_root(config, EXPECTED)))


def split_advice(config: Flickr30kConfig, split: str) -> str:
    """What to do where this split is missing."""
    return f"{FILE_NAME} should define it"


def read_split(config: Flickr30kConfig, split: str) -> CaptionDataset:
    """One split as the file defines it. Does not check that the images exist."""
    root = data_root(config, EXPECTED)
    path = _split_file(config, root)
    chosen, notices = karpathy.read_split(path, split, "flickr30k")
    folder = first_existing(root / name for name in IMAGE_FOLDERS) or root / IMAGE_FOLDERS[0]
    images = [
        CaptionedImage(image.image_id, folder / check_image_name(image.file_name, folder, f"{path}"), image.captions)
        for image in chosen
    ]
    return CaptionDataset("flickr30k", split, tuple(images), tuple(notices))


def _split_file(config: Flickr30kConfig, root: Path) -> Path:
    if config.karpathy is not None:
        path = karpathy.find(root, config.karpathy)
        if path.is_dir():
            raise DataError(f"data.karpathy={config.karpathy} is a folder. Expected the file {FILE_NAME}.")
        return path
    if not path_exists(root / FILE_NAME):
        raise DataError(f"{root} has no {FILE_NAME}. Put Karpathy's file there, or set data.karpathy to it.")
    return root / FILE_NAME
