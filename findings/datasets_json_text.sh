#!/usr/bin/env bash
# datasets 5 changes captions that look like JSON, once a single value of their column is a number.
#
# Package:  datasets 5.2.0, with pyarrow 26.0.1. Seen on 2026-11-29.
# Expected: a column of strings and numbers gets the type Json, by default when JSON files are read, by from_generator and by
#           map (https://github.com/huggingface/datasets/pull/8027), "Under the hood the objects are stored as JSON-encoded
#           strings" (its documentation): what was put in comes out. Guess written before the run: that, so "007" is "007".
# Seen:     a string is encoded only if it is no JSON by itself: the caption "007" comes out as the number 7, "true" as True,
#           "12" as 12, "[1]" as a list, a quoted "STOP" without its quotes, and "null" is lost: None. Without the number,
#           7, in another row, all are right, so one bad row changes others, without a message; so it is in streaming, in
#           lists of captions, and in files written from the data set. Captions of signs and answers to questions about
#           images are full of such strings. Not known to the tracker on that date; what None becomes is discussed in
#           https://github.com/huggingface/datasets/pull/8231.
# Here:     captioner read the Parquet files of such columns with the quotes of JSON in the captions ('"a dog"'). It decodes
#           them now, and keeps what looks like a number as it stands: "007"
#           (captioner/data/datasets/layouts/parquet.py, with a test).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    datasets==5.2.0 pyarrow==26.0.1 pandas==2.3.3 numpy==2.4.6 huggingface-hub==2.4.0 fsspec==2026.9.0 dill==0.4.1 \
    multiprocess==0.70.19 xxhash==3.8.2
seen=$(HF_HOME="$folder/cache" "$folder/venv/bin/python" -W ignore - "$folder" << 'PROGRAM'
import json
import sys

import datasets
import pyarrow.parquet

datasets.disable_progress_bars()
folder = sys.argv[1]
captions = ["a dog", "007", "true", "12", "[1]", '"STOP"', "null"]


def read(name, rows, **options):
    with open(f"{folder}/{name}.jsonl", "w") as file:
        file.writelines(json.dumps({"caption": row}) + "\n" for row in rows)
    return datasets.load_dataset("json", data_files=f"{folder}/{name}.jsonl", split="train", **options)


for rows in (captions, [*captions, 7]):
    data = read(f"captions-{len(rows)}", rows)
    print(len(rows), "captions:", list(data["caption"]))
print("streaming: ", [row["caption"] for row in read("streaming", [*captions, 7], streaming=True)])
print("lists:     ", list(read("lists", [captions, [7]])["caption"]))
print("generator: ", list(datasets.Dataset.from_generator(lambda: ({"x": x} for x in [*captions, 7]))["x"]))
mapped = datasets.Dataset.from_dict({"i": range(8)}).map(lambda row: {"x": [*captions, 7][row["i"]]})
print("map:       ", list(mapped["x"]))
data.to_parquet(f"{folder}/captions.parquet")
stored = pyarrow.parquet.read_table(f"{folder}/captions.parquet")["caption"]
print("in Parquet:", stored.type, *stored.to_pylist())
PROGRAM
)
expected=$(cat << 'OUTPUT'
7 captions: ['a dog', '007', 'true', '12', '[1]', '"STOP"', 'null']
8 captions: ['a dog', 7, True, 12, [1], 'STOP', None, 7]
streaming:  ['a dog', 7, True, 12, [1], 'STOP', None, 7]
lists:      [['a dog', 7, True, 12, [1], 'STOP', None], [7]]
generator:  ['a dog', 7, True, 12, [1], 'STOP', None, 7]
map:        ['a dog', 7, True, 12, [1], 'STOP', None, 7]
in Parquet: extension<arrow.json> "a dog" 007 true 12 [1] "STOP" null 7
OUTPUT
)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
