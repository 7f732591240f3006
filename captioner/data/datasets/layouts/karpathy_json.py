"""Karpathy's JSON layout, which many data sets use: Flickr8k, Flickr30k and COCO, RSICD, UCM and Sydney captions."""

from __future__ import annotations

from captioner.data.datasets import karpathy
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout


def _recognizes(file: AnnotationFile) -> bool:
    images = file.json.get("images") if file.kind == "json" and type(file.json) is dict else None
    first = images[0] if type(images) is list and images else None
    return type(first) is dict and "sentences" in first and "filename" in first


def _read(file: AnnotationFile) -> Content:
    """Published counts are checked if the file says that it is COCO, Flickr8k or Flickr30k."""
    found = karpathy.read_images(file.json, file.path)
    entries = [
        Entry(
            (f"{image.folder}/{image.file_name}" if image.folder else image.file_name,),
            image.captions,
            split,
            image.image_id if type(image.image_id) is int else None,
            f"images[{number}]",
        )
        for number, (image, split) in enumerate(found)
    ]
    return Content(entries, karpathy.published_counts(file.json, found, file.path))


KARPATHY_JSON = Layout(
    "Karpathy's JSON of any data set: COCO, Flickr8k, Flickr30k, RSICD, UCM and Sydney captions",
    '{"images": [{"filename": "1.tif", "split": "train", "sentences": [{"raw": "a farm ."}]}], "dataset": "rsicd"}',
    _recognizes,
    _read,
)
