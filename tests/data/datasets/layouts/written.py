"""One small data set, written in every layout that `data=folder` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from captioner.config import FolderConfig
from tests.data.tiny import write_images, write_json, write_text

Captions = Mapping[str, Mapping[str, list[str]]]  # split → file name → captions

CAPTIONS: Captions = {
    "train": {
        "101.jpg": ["a dog, asleep .", 'ein "großer" Hund'],
        "102.jpg": ["two girls run .", "girls"],
        "103.jpg": ["a boy in a hat", "一个男孩 在 跑"],
    },
    "val": {"104.jpg": ["a red bus .", "the bus is red ."]},
    "test": {"105.jpg": ["a farm from above .", "fields"]},
}


def _pairs(captions: Captions) -> list[tuple[str, str, str]]:
    return [(name, text, split) for split, images in captions.items() for name, own in images.items() for text in own]


def _images(captions: Captions) -> dict[str, list[str]]:
    return {name: own for images in captions.values() for name, own in images.items()}


def _delimited(rows: list[tuple[str, ...]], delimiter: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _coco(images: Mapping[str, list[str]], **flags: bool) -> dict[str, Any]:
    ids = {name: int(Path(name).stem.split("_")[0]) for name in images}
    annotations = [
        {"image_id": ids[name], "id": number, "caption": text, **flags}
        for number, (name, text) in enumerate((name, text) for name, own in images.items() for text in own)
    ]
    return {"images": [{"id": ids[name], "file_name": name} for name in images], "annotations": annotations}


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _flat(root: Path, captions: Captions) -> None:
    """The images beside each other."""
    write_images(root, list(_images(captions)))


def csv_table(root: Path, captions: Captions) -> None:
    _flat(root, captions)
    write_text(root / "captions.csv", _delimited([("image", "caption", "split"), *_pairs(captions)]))


def semicolons(root: Path, captions: Captions) -> None:
    _flat(root, captions)
    write_text(root / "captions.csv", _delimited([("Filename", "Caption", "Split"), *_pairs(captions)], ";"))


def flickr30k_csv(root: Path, captions: Captions) -> None:
    write_images(root / "flickr30k_images", list(_images(captions)))
    lines = [f"{name}| {i}| {text}" for name, own in _images(captions).items() for i, text in enumerate(own)]
    write_text(root / "results.csv", "\n".join(["image_name| comment_number| comment", *lines]))


def flickr30k_tokens(root: Path, captions: Captions) -> None:
    write_images(root / "flickr30k-images", list(_images(captions)))
    lines = [f"{name}#{i}\t{text}" for name, own in _images(captions).items() for i, text in enumerate(own)]
    write_text(root / "results_20130124.token", "\n".join(lines) + "\n")


def flickr8k_chinese(root: Path, captions: Captions) -> FolderConfig:
    _flat(root, captions)
    lines = [f"{name}#zhb#{i} {text}" for name, own in _images(captions).items() for i, text in enumerate(own)]
    write_text(root / "flickr8kzhb.caption.txt", "\n".join(lines) + "\n")
    return FolderConfig(root=str(root), captions="flickr8kzhb.caption.txt", num_workers=0)


def roco(root: Path, captions: Captions) -> FolderConfig:
    _flat(root, captions)
    lines = [f"{Path(name).stem}\t {text}" for name, text, _ in _pairs(captions)]
    write_text(root / "roco_captions.txt", "\n".join(lines))
    return FolderConfig(root=str(root), captions="roco_captions.txt", num_workers=0)


def imageclef(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / split, list(images))
        rows = [(Path(name).stem, text) for name, own in images.items() for text in own]
        write_text(root / f"{split}_captions.csv", _delimited([("ID", "Caption"), *rows]))


def json_lines(root: Path, captions: Captions) -> None:
    _flat(root, captions)
    rows = [
        {"image": n, "captions": own, "split": split} for split, images in captions.items() for n, own in images.items()
    ]
    write_text(root / "captions.jsonl", _json_lines(rows))


def hugging_face_jsonl(root: Path, captions: Captions) -> None:
    _flat(root, captions)
    write_text(
        root / "metadata.jsonl", _json_lines([{"file_name": name, "text": text} for name, text, _ in _pairs(captions)])
    )


def hugging_face_csv_per_split(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        folder = root / ("validation" if split == "val" else split)
        write_images(folder, list(images))
        rows = [(name, text) for name, own in images.items() for text in own]
        write_text(folder / "metadata.csv", _delimited([("file_name", "text"), *rows]))


def coco(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / f"{split}2017", list(images))
        write_json(root / f"annotations/captions_{split}2017.json", _coco(images))
        write_json(root / f"annotations/instances_{split}2017.json", {"images": [], "annotations": []})


def vizwiz(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / split, list(images))
        content = _coco(images, is_precanned=False, is_rejected=False)
        first = content["images"][0]["id"]
        spam = {"image_id": first, "id": 98, "caption": "spam", "is_rejected": True, "is_precanned": False}
        canned = {"image_id": first, "id": 99, "caption": "Quality issues", "is_rejected": False, "is_precanned": True}
        content["annotations"] += [spam, canned]
        write_json(root / "annotations" / f"{split}.json", content)


def nocaps(root: Path, captions: Captions) -> FolderConfig:
    for split, images in captions.items():
        write_images(root / "images", list(images))
        content = _coco(images)
        for image in content["images"]:
            image |= {"open_images_id": "00fe", "domain": "near-domain", "coco_url": "https://example.com/1.jpg"}
        write_json(root / f"nocaps_{split}.json", content)
    return FolderConfig(root=str(root), num_workers=0, **{split: f"nocaps_{split}.json" for split in captions})


def stair(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / "images" / f"{split}2014", list(images))
        content = _coco(images)
        for annotation in content["annotations"]:
            annotation["tokenized_caption"] = "not this one"
        write_json(root / f"stair_captions_v1.2_{split}.json", content)


def karpathy(root: Path, captions: Captions) -> None:
    write_images(root / "RSICD_images", list(_images(captions)))
    images = [
        {"filename": name, "split": split, "sentences": [{"raw": text, "tokens": text.split()} for text in own]}
        for split, images in captions.items()
        for name, own in images.items()
    ]
    write_json(root / "dataset_rsicd.json", {"images": images, "dataset": "rsicd"})


def lavis(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / "images" / f"{split}2014", list(images))
        if split == "train":  # a row per caption; the others have a list
            rows: list[dict[str, Any]] = [
                {"caption": text, "image": f"{split}2014/{name}", "image_id": f"coco_{i}"}
                for i, (name, own) in enumerate(images.items())
                for text in own
            ]
        else:
            rows = [{"image": f"{split}2014/{name}", "caption": own} for name, own in images.items()]
        write_json(root / f"coco_karpathy_{split}.json", rows)


def ai_challenger(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / f"caption_{split}_images_20170902", list(images))
        rows = [{"url": "http://example.com", "image_id": name, "caption": own} for name, own in images.items()]
        write_json(root / f"caption_{split}_annotations_20170902.json", rows)


def r2gen(root: Path, captions: Captions) -> None:
    _flat(root / "images", captions)
    content = {
        split: [
            {"id": f"CXR{name}", "report": text, "image_path": [name], "split": split}
            for name, own in images.items()
            for text in own
        ]
        for split, images in captions.items()
    }
    write_json(root / "annotation.json", content)


def textcaps(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / "train_images", list(images))
        rows = [
            {
                "image_id": Path(name).stem,
                "image_path": f"train/{name}",
                "image_name": Path(name).stem,
                "caption_str": text,
                "reference_strs": own,
            }
            for name, own in images.items()
            for text in own
        ]
        write_json(root / f"TextCaps_0.1_{split}.json", {"dataset_name": "textcaps", "data": rows})


def name_to_captions(root: Path, captions: Captions) -> None:
    _flat(root, captions)
    write_json(root / "captions.json", {split: dict(images) for split, images in captions.items()})


def localized_narratives(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / f"{split}2017", [f"{int(Path(name).stem):012d}.jpg" for name in images])
        rows = [
            {
                "dataset_id": f"mscoco_{split}2017",
                "image_id": Path(name).stem,
                "annotator_id": 7,
                "caption": text,
                "traces": [],
            }
            for name, own in images.items()
            for text in own
        ]
        for shard, row in enumerate(rows):
            write_text(root / f"coco_{split}_localized_narratives-{shard:05}-of-00006.jsonl", _json_lines([row]))


def text_beside_image(root: Path, captions: Captions) -> None:
    for split, images in captions.items():
        write_images(root / split, list(images))
        for name, own in images.items():
            write_text(root / split / f"{Path(name).stem}.txt", "\n".join(own) + "\n")


def parquet_names(root: Path, captions: Captions) -> None:
    import pyarrow
    import pyarrow.parquet

    _flat(root, captions)
    columns: dict[str, list[Any]] = {"image": [], "captions": [], "split": []}
    for split, images in captions.items():
        for name, own in images.items():
            for key, value in {"image": name, "captions": own, "split": split}.items():
                columns[key].append(value)
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "captions.parquet")


def parquet_images(root: Path, captions: Captions) -> None:
    """Hugging Face's files: images in the table, numbered captions, several files and row groups per split."""
    import pyarrow
    import pyarrow.parquet

    (root / "data").mkdir(parents=True)
    for split, images in captions.items():
        write_images(root.parent / "source", list(images))
        rows = [
            {
                "image": {"bytes": (root.parent / "source" / name).read_bytes(), "path": name},
                **{f"caption_{number}": text for number, text in enumerate(own)},
            }
            for name, own in images.items()
        ]
        name = "validation" if split == "val" else split
        parts = [rows[:1], rows[1:]] if len(rows) > 1 else [rows]
        for number, part in enumerate(parts):
            path = root / "data" / f"{name}-{number:05}-of-{len(parts):05}.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), path, row_group_size=1)


Writer = Callable[[Path, Captions], FolderConfig | None]
WRITERS: dict[str, Writer] = {
    writer.__name__: writer
    for writer in (
        csv_table, semicolons, flickr30k_csv, flickr30k_tokens, flickr8k_chinese, roco, imageclef, json_lines,
        hugging_face_jsonl, hugging_face_csv_per_split, coco, vizwiz, nocaps, stair, karpathy, lavis, ai_challenger,
        r2gen, textcaps, name_to_captions, localized_narratives, text_beside_image, parquet_names, parquet_images,
    )
}  # fmt: skip
LAYOUT_OF = {
    "csv_table": "table", "semicolons": "table", "flickr30k_csv": "table", "flickr30k_tokens": "token_file",
    "flickr8k_chinese": "token_file", "roco": "pairs", "imageclef": "table", "json_lines": "json_lines",
    "hugging_face_jsonl": "json_lines", "hugging_face_csv_per_split": "table", "coco": "coco", "vizwiz": "coco",
    "nocaps": "coco", "stair": "coco", "karpathy": "karpathy", "lavis": "object_list", "ai_challenger": "object_list",
    "r2gen": "split_lists", "textcaps": "textcaps", "name_to_captions": "name_to_captions",
    "localized_narratives": "localized_narratives", "text_beside_image": "text_beside_image",
    "parquet_names": "parquet", "parquet_images": "parquet",
}  # fmt: skip
"""The writer → the layout that reads it."""
HASHED = {"flickr30k_csv", "flickr30k_tokens", "flickr8k_chinese", "roco", "hugging_face_jsonl"}
"""The layouts without splits."""


def write(name: str, root: Path, captions: Captions = CAPTIONS) -> FolderConfig:
    """Write the captions and images in a layout; returns the settings that read it."""
    root.mkdir(parents=True, exist_ok=True)
    return WRITERS[name](root, captions) or FolderConfig(root=str(root), num_workers=0)
