#!/usr/bin/env bash
# litdata drops the captions of an image beyond the number of the first image's, and fills short lists of token ids with zeros.
#
# Packages: litdata 0.2.76, torch 2.14.1. Seen on 2026-11-29.
# Expected: what the function given to optimize returns comes back from StreamingDataset. The README says of the format that
#           "LitData serializes each pytree leaf with a pluggable registry", with a fallback for any type; that later samples
#           "must stay compatible" with the first is in the notes for its developers. COCO has 5 captions for most images
#           and 6 or 7 for some. Guess written before the run: each sample comes back as it was, or there is an error.
# Seen:     every leaf of a list or tuple is stored by itself, by the structure of the writer's first sample, and nothing checks
#           that another sample has as many. Of an image with 6 captions after one with 5, the sixth is not written: it is
#           in no file. Of token ids the long list loses its end, with <END>, and the short one gets a number that nobody
#           wrote: a 0 behind its <END>. Nothing is said when writing or reading, and what is lost depends on which sample
#           came first. In a dict, lists are kept whole. Other cases are loud: a type in another place, or fewer texts, are
#           errors. Known is the error where two writers' first samples differ, not that samples are changed:
#           https://github.com/Lightning-AI/litData/issues/370
# Here:     captioner packs an image with all its captions as one JSON text (captioner/data/datasets/tar_shards/pack.py). For
#           litdata, return a dict.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check litdata==0.2.76 torch==2.14.1 numpy==2.4.6
cat > "$folder/program.py" << 'PROGRAM'
import pathlib
import sys

import litdata

FIVE = ["a dog", "two men", "a cat", "the sea", "a bus"]
SAMPLES = {
    "tuple": [(b"first", FIVE), (b"second", [*FIVE, "the sixth"]), (b"third", FIVE)],
    "dict": [{"image": b"first", "captions": FIVE}, {"image": b"second", "captions": [*FIVE, "the sixth"]}],
    "ids": [[1, 7, 8, 2], [1, 5, 2], [1, 9, 6, 4, 3, 2]],
}


def sample(place):
    name, number = place
    return SAMPLES[name][number]


def shown(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        return f"{bytes(value[0]).decode()}: {len(value[1])} captions, the last '{value[1][-1]}'"
    return value


if __name__ == "__main__":
    for name, samples in SAMPLES.items():
        folder = f"{sys.argv[1]}/{name}"
        places = [(name, number) for number in range(len(samples))]
        litdata.optimize(sample, places, folder, num_workers=1, chunk_size=100)
        stored = b"".join(path.read_bytes() for path in pathlib.Path(folder).glob("*.bin"))
        for before, after in zip(samples, litdata.StreamingDataset(folder), strict=True):
            print(f"seen {name}: {shown(before)} -> {shown(after)}")
        if name == "tuple":
            print("seen tuple: the sixth is in the file:", b"the sixth" in stored)
PROGRAM
cd "$folder"
seen=$(venv/bin/python -W ignore program.py "$folder" 2> messages | grep "^seen") || { cat messages >&2; exit 1; }
expected="seen tuple: first: 5 captions, the last 'a bus' -> first: 5 captions, the last 'a bus'
seen tuple: second: 6 captions, the last 'the sixth' -> second: 5 captions, the last 'a bus'
seen tuple: third: 5 captions, the last 'a bus' -> third: 5 captions, the last 'a bus'
seen tuple: the sixth is in the file: False
seen dict: first: 5 captions, the last 'a bus' -> first: 5 captions, the last 'a bus'
seen dict: second: 6 captions, the last 'the sixth' -> second: 6 captions, the last 'the sixth'
seen ids: [1, 7, 8, 2] -> [1, 7, 8, 2]
seen ids: [1, 5, 2] -> [1, 5, 2, 0]
seen ids: [1, 9, 6, 4, 3, 2] -> [1, 9, 6, 4]"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
