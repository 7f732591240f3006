"""`cocotalk.json` and `cocotalk_label.h5` for tests, as prepro_labels.py writes them. Needs h5py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from captioner.config import CocotalkConfig
from tests.data.tiny import jpeg

CAPTIONS = {
    7: ("train", ["a red half on the left", "the left is red"]),
    8: ("restval", ["a UNK"]),
    9: ("val", ["a blue half", "the right is blue", "blue"]),
    10: ("test", ["a green half on the right side"]),
    11: ("train", ["the right is blue"]),
}
LENGTH = 6


def write_cocotalk(folder: Path) -> CocotalkConfig:
    """Words are numbered from 1; captions are padded with 0 and cut at LENGTH words."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({word for _, captions in CAPTIONS.values() for caption in captions for word in caption.split()})
    number = {word: index for index, word in enumerate(words, start=1)}
    images, labels, first, last = [], [], [], []
    for image_id, (split, captions) in CAPTIONS.items():
        name = f"{split}/{image_id}.jpg"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(jpeg(image_id))
        images.append({"id": image_id, "file_path": name, "split": split})
        first.append(len(labels) + 1)
        for caption in captions:
            numbers = [number[word] for word in caption.split()][:LENGTH]
            labels.append(numbers + [0] * (LENGTH - len(numbers)))
        last.append(len(labels))
    about = {"ix_to_word": {str(index): word for word, index in number.items()}, "images": images}
    (folder / "cocotalk.json").write_text(json.dumps(about))
    with h5py.File(folder / "cocotalk_label.h5", "w") as file:
        file["labels"] = np.array(labels, np.uint32)
        file["label_start_ix"] = np.array(first, np.uint32)
        file["label_end_ix"] = np.array(last, np.uint32)
        file["label_length"] = np.array([sum(number > 0 for number in row) for row in labels], np.uint32)
    return CocotalkConfig(root=str(folder))
