"""Files as chance, carelessness and malice leave them: bytes and JSON that were right once."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

NASTY: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "é犬\u2028\r\n",
    "word " * 5000,
    "0",
    "null",
    "..",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "a/../b",
    "${oc.env:HOME}",
    "${now:%Y}",
    "<END>",
    [],
    {},
    [[]],
    [None, 1, "a"],
    {"_target_": "os.system", "command": "touch executed"},
]
"""Values that somebody may have put where another was expected."""


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` after one to four slips: cut, flipped, repeated, overwritten, or with something put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        length = draw(st.sampled_from([1, 1, 2, 4, 8, 64, 1000]))
        kind = draw(st.sampled_from(["flip", "cut", "end here", "insert", "repeat", "overwrite"]))
        if kind == "flip" and changed:
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del changed[place : place + length]
        elif kind == "end here":
            del changed[place:]
        elif kind == "insert":
            changed[place:place] = draw(st.binary(max_size=16))
        elif kind == "repeat":
            changed[place:place] = changed[place : place + length]
        else:
            filler = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"[", b'"', b"{", b"-", b"9"]))
            changed[place : place + length] = filler * len(changed[place : place + length])
    return bytes(changed)


@st.composite
def mutated_value(draw: st.DrawFn, value: Any) -> Any:
    """A plain value after one to three slips: something inside it is replaced, removed, renamed, repeated or nested."""
    holder = {"": copy.deepcopy(value)}
    for _ in range(draw(st.integers(1, 3))):
        inside, key = draw(st.sampled_from(_places(holder)))
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "repeat", "nest"]))
        if kind == "remove" and inside is not holder:
            del inside[key]
        elif kind == "rename" and isinstance(inside, dict) and inside is not holder:
            inside[draw(st.sampled_from(["_target_", f"{key}s", "", "__class__", "\ud800"]))] = inside.pop(key)
        elif kind == "repeat" and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        elif kind == "nest":
            inside[key] = draw(st.sampled_from([[inside[key]], {"a": inside[key]}]))
        else:
            inside[key] = copy.deepcopy(draw(st.sampled_from(NASTY)))
    return holder[""]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def mutated_json(content: bytes) -> st.SearchStrategy[bytes]:
    """A JSON file whose values, or whose bytes, have slipped."""
    deep = [b"[" * 100_000, b'{"a":' * 50_000, b"9" * 6000, b"", b"\xef\xbb\xbf" + content]
    values = mutated_value(json.loads(content)).map(lambda value: json.dumps(value).encode())
    return st.one_of(values, values, mutated_bytes(content), st.sampled_from(deep))
