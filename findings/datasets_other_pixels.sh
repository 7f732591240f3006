#!/usr/bin/env bash
# datasets stores an image that nobody edited with other pixels, and one that was edited without the edits.
#
# Packages: datasets 5.2.0, Pillow 13.0.0. Seen on 2026-11-29.
# Expected: Dataset.map: "If your function returns a column that already exists, then it overwrites it" (its documentation), so
#           a function that returns only the width leaves the column of images; and an image given as PIL.Image is stored as
#           it is at that moment. Guess written before the run: both.
# Seen:     1. A column of images in the table (Parquet from the Hub) is written anew once the function has looked at an image:
#              the JPEG is compressed again with Pillow's quality of 75, whatever it was. Quantization and pixels differ, the
#              size more than halves, and nothing says so. A function that reads only the captions, and filter, which looks
#              at the image as well, leave the bytes. Features of such a data set are not those of the original photos.
#           2. An image opened from a file and edited in place (thumbnail, paste, ImageDraw) still knows its file, and datasets
#              stores the file's name only: out comes the photo without the edits; a resized copy is stored. MDSWriter's
#              column "jpeg" of mosaicml-streaming 0.13.0 and the JPEG serializer of litdata 0.2.76 do the same (seen; not
#              run here, they need torch). There it came with a mend for case 1:
#              https://github.com/mosaicml/streaming/pull/142. Neither case was known to the tracker of datasets.
# Here:     captioner packs the files' bytes and never images that were decoded (captioner/data/datasets/tar_shards/pack.py).
#           Cast the column to Image(decode=False) before map, and give datasets a copy() of an edited image.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    datasets==5.2.0 pillow==13.0.0 pyarrow==26.0.1 pandas==2.3.3 numpy==2.4.6 huggingface-hub==2.4.0 fsspec==2026.9.0 \
    dill==0.4.1 multiprocess==0.70.19 xxhash==3.8.2
seen=$(HF_HOME="$folder/cache" "$folder/venv/bin/python" -W ignore - "$folder/photo.jpg" << 'PROGRAM'
import io
import random
import sys

import datasets
from PIL import Image, ImageChops, ImageDraw

datasets.disable_progress_bars()
path = sys.argv[1]
numbers = random.Random(0)
blocks = Image.frombytes("RGB", (20, 15), bytes(numbers.randrange(256) for _ in range(20 * 15 * 3)))
blocks.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=95)
with open(path, "rb") as file:
    content = file.read()

table = datasets.Dataset.from_dict({"image": [{"bytes": content, "path": None}], "caption": ["a photo"]})
table = table.cast_column("image", datasets.Image())
for name, made in {
    "map, reads the caption": table.map(lambda row: {"length": len(row["caption"])}),
    "filter, reads the image": table.filter(lambda row: row["image"].width > 100),
    "map, reads the image": table.map(lambda row: {"width": row["image"].width}),
}.items():
    stored = made.cast_column("image", datasets.Image(decode=False))[0]["image"]["bytes"]
    before, after = Image.open(io.BytesIO(content)), Image.open(io.BytesIO(stored))
    difference = ImageChops.difference(before, after)
    most = max(high for _, high in difference.getextrema())
    print(f"{name}: same bytes {stored == content}, size to {len(stored) / len(content):.2f}")
    print(f"  quantization {before.quantization[0][:4]} to {after.quantization[0][:4]}, pixels differ by up to {most}")


def edited(how):
    image = Image.open(path)
    how(image)
    return image


for name, image in {
    "thumbnail": edited(lambda image: image.thumbnail((64, 64))),
    "paste": edited(lambda image: image.paste((0, 0, 0), (0, 0, 640, 480))),
    "draw": edited(lambda image: ImageDraw.Draw(image).rectangle((0, 0, 640, 480), fill=(0, 0, 0))),
    "resized copy": edited(lambda image: None).resize((64, 48)),
}.items():
    features = datasets.Features({"image": datasets.Image()})
    stored = datasets.Dataset.from_dict({"image": [image]}, features=features)[0]["image"]
    given, out = (f"{each.width} x {each.height}{'' if each.getbbox() else ' black'}" for each in (image, stored))
    print(f"{name}: given {given}, stored {out}")
PROGRAM
)
expected="map, reads the caption: same bytes True, size to 1.00
  quantization [2, 1, 1, 2] to [2, 1, 1, 2], pixels differ by up to 0
filter, reads the image: same bytes True, size to 1.00
  quantization [2, 1, 1, 2] to [2, 1, 1, 2], pixels differ by up to 0
map, reads the image: same bytes False, size to 0.47
  quantization [2, 1, 1, 2] to [8, 6, 5, 8], pixels differ by up to 17
thumbnail: given 64 x 48, stored 640 x 480
paste: given 640 x 480 black, stored 640 x 480
draw: given 640 x 480 black, stored 640 x 480
resized copy: given 64 x 48, stored 64 x 48"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
