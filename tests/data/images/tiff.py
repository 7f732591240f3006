"""Writes TIFF files that PIL cannot write: 16-bit color, and more than four bands."""

from __future__ import annotations

import struct

import numpy as np


def tiff(values: np.ndarray, *, big_endian: bool = False) -> bytes:
    """An uncompressed TIFF file of an array (H, W, bands) of uint8, uint16 or float32; the first three are RGB."""
    order = ">" if big_endian else "<"
    height, width, bands = values.shape
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits = values.dtype.itemsize * 8
    lists: list[tuple[int, list[int]]] = [(258, [bits] * bands), (339, [3 if values.dtype.kind == "f" else 1] * bands)]
    if bands > 3:
        lists.append((338, [0] * (bands - 3)))
    numbers = [
        (256, width),
        (257, height),
        (259, 1),
        (262, 2),
        (277, bands),
        (278, height),
        (279, len(pixels)),
        (284, 1),
    ]
    count = len(numbers) + len(lists) + 1
    start = 8 + 2 + 12 * count + 4  # of what does not fit into an entry
    rest, entries = b"", []
    for tag, items in lists:
        packed = struct.pack(f"{order}{len(items)}H", *items)
        if len(packed) <= 4:
            entries.append((tag, struct.pack(f"{order}HHI", tag, 3, len(items)) + packed.ljust(4, b"\0")))
        else:
            entries.append((tag, struct.pack(f"{order}HHII", tag, 3, len(items), start + len(rest))))
            rest += packed
    entries += [(tag, struct.pack(f"{order}HHII", tag, 4, 1, value)) for tag, value in numbers]
    entries.append((273, struct.pack(f"{order}HHII", 273, 4, 1, start + len(rest))))
    directory = struct.pack(f"{order}H", count) + b"".join(entry for _, entry in sorted(entries)) + b"\0" * 4
    return (b"MM\0*" if big_endian else b"II*\0") + struct.pack(f"{order}I", 8) + directory + rest + pixels
