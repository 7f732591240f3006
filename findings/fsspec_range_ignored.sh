#!/usr/bin/env bash
# fsspec returns other bytes than were asked for, without an error, where a web server ignores the Range header.
#
# Packages: fsspec 2026.9.0, aiohttp 3.14.5. Seen on 2026-11-29.
# Expected: fs.cat_file(url, start=10, end=14) returns bytes 10 to 13, as its documentation says ("get the content of a
#           file … start, end: bytes limits of the read"), or an error. A server may ignore Range and answer 200 with the
#           whole file (RFC 9110, section 14.2), as Python's own http.server does. fs.open has an error for this case
#           since 2023: https://github.com/fsspec/filesystem_spec/issues/1140. Guess from the source, before the run:
#           the whole file, because nothing looks at the status of the answer.
# Seen:     cat_file and cat_ranges return the whole file, 256 bytes instead of 4. A "reference" file system, with which
#           zarr reads HDF5 files in place, therefore gives the first bytes of the file for every chunk.
# Here:     captioner reads ranges of http through fs.open, checks their length, and names the server that ignores them
#           (captioner/data/datasets/tar_shards/remote.py).
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fsspec==2026.9.0 aiohttp==3.14.5
mkdir "$folder/files"
python3 -c 'import sys; open(sys.argv[1], "wb").write(bytes(range(256)))' "$folder/files/data.bin"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 -m http.server "$port" --bind 127.0.0.1 --directory "$folder/files" > "$folder/log" 2>&1 &
server=$!
seen=$("$folder/venv/bin/python" - "http://127.0.0.1:$port/data.bin" << 'PROGRAM'
import sys
import time

import fsspec

url, files = sys.argv[1], fsspec.filesystem("http")
for _ in range(50):
    if files.exists(url):
        break
    time.sleep(0.1)
one = files.cat_file(url, start=10, end=14)
print("cat_file 10:14", len(one), list(one[:4]))
print("cat_ranges 10:14 200:204", [list(part[:4]) for part in files.cat_ranges([url, url], [10, 200], [14, 204])])
chunks = fsspec.filesystem("reference", fo={"first": [url, 10, 4], "second": [url, 200, 4]}, remote_protocol="http")
print("reference", list(chunks.cat_file("first")[:4]), list(chunks.cat_file("second")[:4]))
try:
    with files.open(url) as file:
        file.seek(10)
        file.read(4)
except ValueError as error:
    print("open", str(error).split(".")[0])
PROGRAM
)
expected="cat_file 10:14 256 [0, 1, 2, 3]
cat_ranges 10:14 200:204 [[0, 1, 2, 3], [0, 1, 2, 3]]
reference [0, 1, 2, 3] [0, 1, 2, 3]
open The HTTP server doesn't appear to support range requests"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
