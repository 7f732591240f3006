"""A data set of COCO's exact shape, made from a few hundred photos and the captions of val2017.

    python benchmarks/coco_shape.py DIR --photos PHOTOS --text captions_val2017.json --lists KARPATHY
    python benchmarks/coco_shape.py DIR … --pixels 64     each image file small and distinct, instead of a link

PHOTOS is a folder of JPEG files (subfolders are searched), KARPATHY the folder of coco_train.txt, coco_restval.txt and
so on, whose names give COCO's 123,287 image ids. DIR gets the official layout: 118,287 + 5,000 images, 591,753 + 25,014
captions in the official JSON, annotations in no order, and Karpathy's split as `dataset_coco.json`.

Captions of val2017 are the real ones. A caption of train2017 is the beginning of a real caption and the end of another,
joined at a word that both have; one word in 400 loses a letter, so that rare words occur as in real text.

Without --pixels every image is a hard link to one of the photos: files, sizes and folders are those of COCO, while the
feature cache, which knows images by their content, stores a few hundred. With it each image is a photo of that size
with its own number appended, so the cache stores all of them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

TRAIN, VAL = 118_287, 5_000
TRAIN_CAPTIONS = 591_753
MISSPELLED = 400  # one word in so many
LINKS = 60_000  # ext4 allows 65,000 links to a file
FOLDER_OF_LIST = {"train": "train2014", "restval": "val2014", "val": "val2014", "test": "val2014"}


class CaptionWriter:
    """Captions that are joined from two real ones at a word of both."""

    def __init__(self, captions: list[str], generator: random.Random) -> None:
        self.captions = [caption.split() for caption in captions]
        self.generator = generator
        self.places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, words in enumerate(self.captions):
            for position, word in enumerate(words[1:-1], start=1):
                self.places[word].append((number, position))

    def write(self) -> str:
        """A new caption."""
        first = self.captions[self.generator.randrange(len(self.captions))]
        if len(first) < 3:
            return " ".join(first)
        position = self.generator.randrange(1, len(first) - 1)
        number, other = self.generator.choice(self.places[first[position]])
        words = first[:position] + self.captions[number][other:]
        return " ".join(self._misspelled(word) for word in words)

    def _misspelled(self, word: str) -> str:
        if len(word) < 5 or self.generator.randrange(MISSPELLED):
            return word
        letter = self.generator.randrange(1, len(word) - 1)
        return word[:letter] + word[letter + 1 :]


def image_ids(lists: Path) -> dict[int, str]:
    """COCO's image ids, in the order of Karpathy's lists → the name of the list."""
    found = {}
    for part in FOLDER_OF_LIST:
        for name in (lists / f"coco_{part}.txt").read_text().split():
            found[int(re.sub(r".*_0*", "", name).removesuffix(".jpg"))] = part
    assert len(found) == TRAIN + VAL, f"{len(found)} image ids in {lists}"
    return found


def image_entry(image_id: int) -> dict[str, Any]:
    """An entry of `images`, with the fields of the official file."""
    name = f"{image_id:012d}.jpg"
    return {
        "license": image_id % 8 + 1,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "height": 480,
        "width": 640,
        "date_captured": "2013-11-14 16:28:13",
        "flickr_url": f"http://farm7.staticflickr.com/6153/{image_id}_a.jpg",
        "id": image_id,
    }


def annotate(ids: list[int], writer: CaptionWriter, total: int) -> dict[int, list[str]]:
    """Image id → captions, `total` in all: five an image, and a sixth for the first ones."""
    more = total - 5 * len(ids)
    return {image_id: [writer.write() for _ in range(5 + (number < more))] for number, image_id in enumerate(ids)}


def write_annotations(path: Path, captions: dict[int, list[str]], generator: random.Random) -> None:
    """The official JSON, with annotations in no order."""
    pairs = [(image_id, caption) for image_id, of_image in captions.items() for caption in of_image]
    generator.shuffle(pairs)
    document = {
        "info": {"description": "captions of COCO's shape, joined from real ones"},
        "licenses": [],
        "images": [image_entry(image_id) for image_id in captions],
        "annotations": [
            {"image_id": image_id, "id": number, "caption": caption} for number, (image_id, caption) in enumerate(pairs)
        ],
    }
    path.write_text(json.dumps(document))


def write_karpathy(path: Path, parts: dict[int, str], captions: dict[int, list[str]]) -> None:
    """`dataset_coco.json` with the fields that it has."""
    sentence = 0
    images = []
    for number, (image_id, part) in enumerate(parts.items()):
        sentences = []
        for raw in captions[image_id]:
            sentences.append({"tokens": raw.lower().split(), "raw": raw, "imgid": number, "sentid": sentence})
            sentence += 1
        folder = FOLDER_OF_LIST[part]
        images.append(
            {
                "filepath": folder,
                "sentids": [sentence["sentid"] for sentence in sentences],
                "filename": f"COCO_{folder}_{image_id:012d}.jpg",
                "imgid": number,
                "split": part,
                "sentences": sentences,
                "cocoid": image_id,
            }
        )
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))


def small_photos(photos: list[Path], pixels: int) -> list[bytes]:
    """The photos as JPEG files of `pixels` × `pixels`."""
    files = []
    for path in photos:
        buffer = io.BytesIO()
        Image.open(path).convert("RGB").resize((pixels, pixels)).save(buffer, "JPEG", quality=85)
        files.append(buffer.getvalue())
    return files


def write_images(folder: Path, ids: list[int], photos: list[Path], pixels: int | None) -> None:
    """The images of one folder: links to photos, or small distinct files."""
    folder.mkdir(parents=True)
    small = small_photos(photos, pixels) if pixels else []
    for number, image_id in enumerate(ids):
        path = folder / f"{image_id:012d}.jpg"
        if small:
            path.write_bytes(small[number % len(small)] + image_id.to_bytes(8, "big"))
        else:
            os.link(photos[number % len(photos)], path)


def copied_photos(source: Path, folder: Path, most: int) -> list[Path]:
    """At most `most` photos, copied beside the data set, because links cannot leave a disk."""
    folder.mkdir(parents=True)
    found: Iterator[Path] = iter(sorted(source.rglob("*.jpg"))[:most])
    return [Path(folder / path.name) for path in found if (folder / path.name).write_bytes(path.read_bytes())]


def main() -> None:
    """Make the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the data set is made; it must not exist")
    parser.add_argument("--photos", type=Path, required=True, help="a folder with JPEG files")
    parser.add_argument("--text", type=Path, required=True, help="captions_val2017.json")
    parser.add_argument("--lists", type=Path, required=True, help="the folder of Karpathy's lists of file names")
    parser.add_argument("--pixels", type=int, help="distinct image files of this size instead of links")
    parser.add_argument("--most", type=int, default=400, help="photos to use (default: 400)")
    arguments = parser.parse_args()
    root: Path = arguments.folder
    generator = random.Random(0)
    real = json.loads(arguments.text.read_text())
    val: dict[int, list[str]] = {image["id"]: [] for image in real["images"]}
    for annotation in real["annotations"]:
        val[annotation["image_id"]].append(annotation["caption"])
    writer = CaptionWriter([caption for of_image in val.values() for caption in of_image], generator)
    parts = image_ids(arguments.lists)
    train_ids = [image_id for image_id in parts if image_id not in val]
    assert (len(train_ids), len(val)) == (TRAIN, VAL), (len(train_ids), len(val))
    generator.shuffle(train_ids)
    train = annotate(train_ids, writer, TRAIN_CAPTIONS)
    photos = copied_photos(arguments.photos, root / "photos", arguments.most)
    assert len(photos) * LINKS > TRAIN, f"{arguments.photos} has too few photos: {len(photos)}"
    write_images(root / "train2017", train_ids, photos, arguments.pixels)
    write_images(root / "val2017", list(val), photos, arguments.pixels)
    (root / "annotations").mkdir()
    write_annotations(root / "annotations" / "captions_train2017.json", train, generator)
    write_annotations(root / "annotations" / "captions_val2017.json", val, generator)
    write_karpathy(root / "dataset_coco.json", parts, {**train, **val})
    captions = sum(map(len, train.values())), sum(map(len, val.values()))
    sys.stdout.write(f"{root}: {len(train):,} + {len(val):,} images, {captions[0]:,} + {captions[1]:,} captions\n")


if __name__ == "__main__":
    main()
