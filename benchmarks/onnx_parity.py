"""ONNX exports beside the torch model that they were made from: captions, scores, processor time and memory.

    python -m captioner export --checkpoint flickr8k --onnx onnx_float32
    python -m captioner export --checkpoint flickr8k --onnx onnx_float16 --precision float16
    python -m captioner export --checkpoint flickr8k --onnx onnx_int8 --precision int8 --photos flickr8k/
    python benchmarks/onnx_parity.py flickr8k flickr8k/ onnx_float32 onnx_float16 onnx_int8 --photos 200

Per export: how many of the photos of the split get the same caption by greedy search, by a beam of 5 and by the model's
own search, which may weigh classes, and the same tags; the largest difference of a caption's log-probability where it
is the same; CIDEr and BLEU-4 × 100 of the own search's captions; and the milliseconds of processor time of the encoder
per photo, one thread, 8 photos at a time, in turns with torch's. Each photo is encoded once per model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from measure import report

from captioner.captioning.base_captioner import BaseCaptioner
from captioner.captioning.caption_request import CaptionRequest
from captioner.config import DecodeConfig, Flickr8kConfig
from captioner.data.datasets.registry import load_dataset
from captioner.data.images.decode import load_image
from captioner.data.images.pixels import image_to_array
from captioner.generated_caption import Caption
from captioner.inference import Captioner
from captioner.metrics import score
from captioner.runtime import OnnxCaptioner

OWN = "own search"
SEARCHES: dict[str, DecodeConfig | None] = {
    "greedy": DecodeConfig(name="greedy"),
    "beam 5": DecodeConfig(beam_width=5, length_penalty=1.0),
    OWN: None,
}
BATCH, ROUNDS = 8, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
    parser.add_argument("exports", type=Path, nargs="+", help="folders of captioner export --onnx")
    parser.add_argument("--split", default="val")
    parser.add_argument("--photos", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_dataset(Flickr8kConfig(root=str(arguments.flickr8k)), arguments.split)
    images = dataset.images[: arguments.photos]
    models: dict[str, Any] = {"torch": Captioner.from_checkpoint(arguments.checkpoint, device="cpu")}
    models |= {path.name: OnnxCaptioner.from_checkpoint(path, threads=1) for path in arguments.exports}
    paths = [image.path for image in images]
    captions = {name: caption_all(model, paths) for name, model in models.items()}
    references = {image.image_id: dataset.references[image.image_id] for image in images}
    milliseconds = encoder_times(models, paths[:BATCH])
    for name, found in captions.items():
        pairs = {search: list(zip(found[search], captions["torch"][search], strict=True)) for search in SEARCHES}
        generated = {image.image_id: one.text for image, one in zip(images, found[OWN], strict=True)}
        scores = score(generated, references, names=["CIDEr", "Bleu"]).corpus
        differences = [abs(a.log_prob - b.log_prob) for pair in pairs.values() for a, b in pair if a.tokens == b.tokens]
        report(
            name,
            {
                "photos": len(images),
                **{f"same {search}": sum(a.tokens == b.tokens for a, b in pair) for search, pair in pairs.items()},
                "same tags": sum(words(a) == words(b) for a, b in pairs[OWN]),
                "largest difference of log_prob": float(f"{max(differences):.1e}"),
                "CIDEr": round(100 * scores["CIDEr"], 2),
                "BLEU-4": round(100 * scores["Bleu_4"], 2),
                "encoder, ms of processor per photo": round(milliseconds[name], 1),
            },
        )


def caption_all(model: BaseCaptioner[Any, Any], paths: list[Path]) -> dict[str, list[Caption]]:
    """Search → the captions of the photos. Every photo is encoded once."""
    requests = {
        search: CaptionRequest(config or model.decode, tags=search == OWN) for search, config in SEARCHES.items()
    }
    found: dict[str, list[Caption]] = {search: [] for search in requests}
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        encoded = model._encode([model._load(path) for path in batch], classify=True)
        for search, request in requests.items():
            found[search] += model._search(encoded, request, [0] * len(batch), batch)
    return found


def words(caption: Caption) -> list[str]:
    """The words of its tags."""
    return [tag.word for tag in caption.tags or ()]


def encoder_times(models: dict[str, Any], paths: list[Path]) -> dict[str, float]:
    """Model → milliseconds of processor time per photo, the median of several rounds in turns."""
    times: dict[str, list[float]] = {name: [] for name in models}
    runs: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        transform = model.transform
        arrays = np.stack([image_to_array(load_image(path, transform.size), transform) for path in paths])
        if isinstance(model, Captioner):
            tensor = torch.from_numpy(arrays)
            runs[name] = lambda encoder=model.model.encoder, tensor=tensor: encoder(tensor)
        else:
            runs[name] = lambda model=model, arrays=arrays: model.encode(arrays)
    for _ in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.process_time()
            with torch.inference_mode():
                run()
            times[name].append((time.process_time() - start) / len(paths) * 1000)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
