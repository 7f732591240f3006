"""Pickles that would run something, each harmless: it would make a file."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import torch


class Calls:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def hostile_objects(marker: Path) -> dict[str, Any]:
    """Name → an object whose pickle makes `marker` when it is loaded by `pickle`."""
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    inner = pickle.dumps(Calls(os.system, touch))
    return {
        "os.system": Calls(os.system, touch),
        "builtins.eval": Calls(eval, code),
        "builtins.exec": Calls(exec, code),
        "functools.partial": Calls(functools.partial(os.system, touch)),
        "partial of a call": Calls(functools.reduce, os.system, [touch, touch]),
        "subprocess.Popen": Calls(subprocess.Popen, ["touch", str(marker)]),
        "builtins.open": Calls(open, str(marker), "w"),
        "getattr": Calls(getattr, print, "__self__"),
        "pickle.loads": Calls(pickle.loads, inner),
        "torch.load's own": Calls(torch.storage._load_from_bytes, inner),
        "a layer of any size": Calls(torch.nn.Linear, 1, 1),
        "inside a dictionary": {"state": {"weights": [Calls(os.system, touch)]}},
    }


def hostile_programs(marker: Path) -> dict[str, bytes]:
    """Name → a pickle written by hand, with the instructions that `pickle` itself does not write."""
    touch = f"touch {marker}".encode()
    line = b"S'" + touch + b"'\n"
    return {
        "INST": b"(" + line + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + line + b"o.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n(" + line + b"t\x81.",
        "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n)}(S'args'\n" + line + b"u\x92.",
        "posix": b"cposix\nsystem\n(" + line + b"tR.",
        "Python 2": b"c__builtin__\neval\n(" + line + b"tR.",
        "a project's function": b"cmodels\nrun\n(" + line + b"tR.",
        "a project's class with arguments": b"\x80\x02cmodels\nEncoder\n(" + line + b"t\x81.",
        "a class of the main program": b"c__main__\nrun\n(" + line + b"tR.",
        "OBJ of a project's class": b"(cmodels\nEncoder\n" + line + b"o.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent id": b"Ppath\n.",
    }
