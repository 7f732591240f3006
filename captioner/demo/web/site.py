"""The folder that captions in the browser: the page, the model, onnxruntime-web, and the list of all files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.checkpoint.manifest import sha256
from captioner.demo.web.model_files import write_model
from captioner.demo.web.onnxruntime_web import BINARY, MODULE, VERSION

SITE_FILE = "site.json"
SERVICE_WORKER = "service_worker.js"
RUNTIME_NAMES = {MODULE: "onnxruntime-web.js", BINARY: BINARY}
"""Name in the package → on the page: many servers do not know that .mjs is a script."""

_PAGE = Path(__file__).parent / "page"
_SHARED = Path(__file__).parent.parent / "page"
SHARED_FILES = ("attention.js", "card.js", "icon.svg", "page.css", "photo_page.js")
"""The files of the demo page that this page uses."""


@dataclass(frozen=True)
class WrittenSite:
    """sizes: bytes of "model", "runtime" and "page"; notes: what the page does not do with this model."""

    sizes: dict[str, int]
    notes: list[str]


def write_site(source: Path, folder: Path, name: str, runtime: Mapping[str, bytes]) -> WrittenSite:
    """Write the page for the captioner in `source`, a folder of ONNX files, to the empty `folder`.

    runtime: the files of onnxruntime-web (`find_runtime`). Raises what `write_model` raises.
    """
    model = write_model(source, folder, name)
    for file, content in runtime.items():
        (folder / RUNTIME_NAMES[file]).write_bytes(content)
    of_runtime = [RUNTIME_NAMES[file] for file in runtime]
    page = [*(_SHARED / file for file in SHARED_FILES), *(path for path in sorted(_PAGE.iterdir()) if path.is_file())]
    for path in page:
        shutil.copyfile(path, folder / path.name)
    kept = [path.name for path in page if path.name != SERVICE_WORKER]
    loaded = [
        {"path": file, "bytes": _size(folder, [file]), "sha256": sha256(folder / file)}
        for file in (*model.names, *of_runtime)
    ]
    sizes = {"model": _size(folder, model.names), "runtime": _size(folder, of_runtime), "page": _size(folder, kept)}
    site: dict[str, Any] = {
        "version": _version(folder, [*kept, *model.names, *of_runtime]),
        "runtime": {"version": VERSION, "module": RUNTIME_NAMES[MODULE], "binary": BINARY},
        "sizes": sizes,
        "files": loaded,
    }
    (folder / SITE_FILE).write_text(json.dumps(site, indent=1), encoding="utf-8")
    known = json.dumps({"version": site["version"], "page": [*kept, SITE_FILE]})
    worker = (folder / SERVICE_WORKER).read_text(encoding="utf-8")
    (folder / SERVICE_WORKER).write_text(f"const SITE = {known};\n{worker}", encoding="utf-8")
    return WrittenSite(sizes, model.notes)


def is_site(folder: Path) -> bool:
    """Whether `write_site` wrote this folder, as far as its files tell."""
    return all((folder / name).is_file() for name in (SITE_FILE, SERVICE_WORKER, BINARY))


def _version(folder: Path, names: Iterable[str]) -> str:
    """Digits that change with any file, so that browsers notice a new export."""
    listed = "".join(f"{sha256(folder / name)} {name}\n" for name in sorted(names))
    return hashlib.sha256(listed.encode("utf-8")).hexdigest()[:16]


def _size(folder: Path, names: Iterable[str]) -> int:
    return sum((folder / name).stat().st_size for name in names)
