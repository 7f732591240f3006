"""A folder in which `photo.txt` beside `photo.jpg` holds the photo's captions, one per line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from captioner.data.datasets.annotation_files import read_lines
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout
from captioner.data.datasets.splits import split_name
from captioner.data.images.decode import IMAGE_SUFFIXES


def images_in(folder: Path) -> Iterator[Path]:
    """All images in the folder and its subfolders, in order of their names; links to folders are followed once."""
    seen: set[str] = set()
    for path, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(path, name) for name in sorted(names) if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        seen.add(real)


def has_text_beside_images(folder: Path) -> bool:
    """Whether there is a text file beside an image."""
    return any(image.with_suffix(".txt").is_file() for image in images_in(folder))


def _recognizes(file: AnnotationFile) -> bool:
    """A folder of images: where no text file is beside them, none has a caption."""
    return file.kind == "folder" and any(True for _ in images_in(file.path))


def _read(file: AnnotationFile) -> Content:
    """Images without a .txt file have no caption. If every image is in train/, val/ or test/, these are the splits."""
    faults, entries = Faults(), []
    for image in images_in(file.path):
        relative = image.relative_to(file.path)
        text = image.with_suffix(".txt")
        with faults.collected():
            captions = tuple(read_lines(text)) if text.is_file() else ()
            split = split_name(relative.parts[0]) if len(relative.parts) > 1 else None
            entries.append(Entry((relative.as_posix(),), captions, split, place=text.name))
    if any(entry.split is None for entry in entries):
        entries = [Entry(entry.images, entry.captions, None, None, entry.place) for entry in entries]
    return Content(entries, (), tuple(faults.found))


TEXT_BESIDE_IMAGE = Layout("a text file beside each image, a caption a line", "cat.jpg   cat.txt", _recognizes, _read)
