#!/usr/bin/env bash
# Pillow 13 resizes portrait photos to other pixels than Pillow 12, by up to 9 of 255; landscape photos stay as they were.
#
# Packages: Pillow 12.3.0 and 13.0.0. Seen on 2026-11-29.
# Expected: the release notes of 13.0.0 name new filters and a change for images with alpha, and nothing else of resize, so
#           an RGB photo has the same pixels in both. Guess written before the run: equal, as a port of the filter to
#           JavaScript that was equal for landscape photos is to the definition of both.
# Seen:     resize runs two passes, and rounds and clips to 8 bits between them, so their order shows. It was always rows
#           first. In 13.0.0 columns come first where height − new height > 2 · (width − new width), meant as a speed-up
#           (https://github.com/python-pillow/Pillow/pull/9549). For a 333 × 500 photo at 224 × 224 that is so, for
#           400 × 500 it is not: features of a data set's portraits change, those of others do not, and one photo
#           cropped by some columns may be resized by another rule.
# Here:     the page that captions in the browser repeats the rule of the Pillow that exported it, bit by bit
#           (captioner/demo/web/page/resize.js; a test compares). The feature cache keeps the
#           features of Pillow 12 and older apart. Features that are compared must come from one Pillow.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" << 'PROGRAM'
import hashlib
import random
import sys

from PIL import Image

numbers = random.Random(0)
blocks = Image.frombytes("RGB", (20, 25), bytes(numbers.randrange(256) for _ in range(20 * 25 * 3)))
for width, height in ((333, 500), (400, 500), (500, 333)):
    photo = blocks.resize((width, height), Image.Resampling.NEAREST)
    pixels = photo.resize((224, 224), Image.Resampling.BICUBIC).tobytes()
    with open(f"{sys.argv[1]}-{width}", "wb") as file:
        file.write(pixels)
    print(width, height, hashlib.sha256(pixels).hexdigest()[:16])
PROGRAM
for version in 12.3.0 13.0.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "pillow==$version"
    echo "Pillow $version"
    "$folder/$version/bin/python" "$folder/program.py" "$folder/pixels-$version"
done
seen=$(python3 - "$folder" << 'PROGRAM'
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
for width in (333, 400, 500):
    old, new = ((folder / f"pixels-{version}-{width}").read_bytes() for version in ("12.3.0", "13.0.0"))
    differences = [abs(a - b) for a, b in zip(old, new)]
    print(f"width {width}: {sum(map(bool, differences))} of {len(old)} values differ, by {max(differences)} at most")
PROGRAM
)
expected="width 333: 3368 of 150528 values differ, by 9 at most
width 400: 0 of 150528 values differ, by 0 at most
width 500: 0 of 150528 values differ, by 0 at most"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
