"""What each setting against implausible phrases costs: scores and time on a split, with one checkpoint.

    python benchmarks/decode_guards.py flickr8k flickr8k/ --other captions_val2017.json

One line per setting: CIDEr, BLEU-4, METEOR and Fluency × 100, words per caption, and the seconds of decoding 1,000
images, without encoding. The settings are interleaved by batches, so that all meet the same load of the machine. With
--other, Fluency also by the statistics of captions that the guards do not know: an annotation file of COCO.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.config import CacheConfig, Flickr8kConfig
from captioner.data.batches import sequential_batches
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_features
from captioner.decode import search
from captioner.metrics import score
from captioner.metrics.coco_results import ImageId, write_results
from captioner.text.tokenizers import build_tokenizer

VARIANTS: dict[str, dict[str, object]] = {
    "off": {},
    "no_repeat_ngram=3": {"no_repeat_ngram": 3},
    "no_repeat_ngram=2": {"no_repeat_ngram": 2},
    "no_doubled_phrase": {"no_doubled_phrase": True},
    "no_bad_ending": {"no_bad_ending": True},
    "no_unseen_phrase": {"no_unseen_phrase": True},
    "all three": {"no_unseen_phrase": True, "no_doubled_phrase": True, "no_bad_ending": True},
    "implausible_penalty=0.1": {"implausible_penalty": 0.1},
    "implausible_penalty=10": {"implausible_penalty": 10.0},
    "implausible_penalty=10, beam_width=10": {"implausible_penalty": 10.0, "beam_width": 10},
}
NAMES = ("CIDEr", "Bleu_4", "METEOR", "Implausible", "Implausible_unseen", "Implausible_doubled", "Implausible_ending")
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
    parser.add_argument("--split", default="val")
    parser.add_argument("--other", type=Path, help="captions of another corpus, in COCO's annotation format")
    parser.add_argument("--out", type=Path, help="a folder for the captions, one results file per setting")
    arguments = parser.parse_args()

    data = Flickr8kConfig(root=str(arguments.flickr8k))
    dataset, train = load_dataset(data, arguments.split), load_dataset(data, "train")
    loaded = load_checkpoint(arguments.checkpoint)
    tokenizer = build_tokenizer(loaded.settings.tokenizer)
    features = open_features(
        dataset,
        loaded.model.encoder,
        with_grid=loaded.model.needs_grid,
        data=data,
        cache=CacheConfig(),
        device=torch.device("cpu"),
    )
    captions: dict[str, dict[ImageId, str]] = defaultdict(dict)
    seconds: dict[str, float] = defaultdict(float)
    with torch.inference_mode():
        for indices, batch in features.batches(sequential_batches(len(dataset), BATCH)):
            ids = [dataset.images[index].image_id for index in indices]
            for name, settings in VARIANTS.items():
                decode = replace(loaded.settings.decode, **settings)
                start = time.perf_counter()
                found = search(
                    loaded.model.decoder,
                    batch,
                    decode,
                    loaded.vocabulary.special,
                    image_ids=ids,
                    phrases=loaded.vocabulary.phrases,
                    consensus=loaded.consensus,
                )
                seconds[name] += time.perf_counter() - start
                for image_id, (best, *_) in zip(ids, found, strict=True):
                    captions[name][image_id] = tokenizer.join(loaded.vocabulary.decode(best.tokens))
    other: list[str] | None = None
    if arguments.other:
        other = [entry["caption"] for entry in json.loads(arguments.other.read_text())["annotations"]]
        people = {image.image_id: image.captions[0] for image in dataset}
        print_row("people's first captions, by --other", f"{implausible(people, dataset.references, other):.2f}")
    print_row("", *NAMES, "words", "s / 1,000", "by --other")
    for name, generated in captions.items():
        references = {image_id: dataset.references[image_id] for image_id in generated}
        metrics = ["CIDEr", "Bleu", "METEOR", "Fluency"]
        scores = score(generated, references, names=metrics, training_captions=train.all_captions).corpus
        words = sum(len(caption.split()) for caption in generated.values()) / len(generated)
        cells = [f"{100 * scores[key]:.2f}" if key in scores else "-" for key in NAMES]
        cells += [f"{words:.2f}", f"{1000 * seconds[name] / len(generated):.1f}"]
        print_row(name, *cells, f"{implausible(generated, references, other):.2f}" if other else "")
        if arguments.out:
            write_results(arguments.out / f"{name.replace(' ', '_')}.json", generated)


def implausible(
    captions: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]], training: Sequence[str]
) -> float:
    """The share of captions with an implausible phrase × 100, by the statistics of `training`."""
    of_images = {image_id: references[image_id] for image_id in captions}
    return 100 * score(captions, of_images, names=["Fluency"], training_captions=training).corpus["Implausible"]


def print_row(*cells: str) -> None:
    sys.stdout.write(f"{cells[0]:<38}" + "".join(f"{cell:>20}" for cell in cells[1:]))
    sys.stdout.write("\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
