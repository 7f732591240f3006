"""The two files of onnxruntime-web that the page needs, from the npm registry or from this machine, verified.

The package is pinned: another version may compute other captions, and none is trusted without its checksum.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

from captioner.data.download.http import RemoteFile, fetch
from captioner.errors import CaptionerError, DataError
from captioner.files import cache_directory

VERSION = "1.30.0"
MODULE, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    MODULE: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Name → checksum. Of the package's builds, this one has only the CPU's operators, and is the smallest."""

REGISTRY = "https://registry.npmjs.org"
_PACKAGE = RemoteFile(
    f"onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz",
    33_106_585,
    # The registry's "integrity", in hexadecimal digits.
    "sha512:ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61",
)
_FOLDERS = ("", "dist", "package/dist", "node_modules/onnxruntime-web/dist")


def find_runtime(given: Path | None = None) -> dict[str, bytes]:
    """Name → content of the files of onnxruntime-web, verified.

    given: the package of the registry (onnxruntime-web-….tgz), or a folder that holds it, unpacked or installed. None:
    from this machine's cache, or else from the registry (`NPM_CONFIG_REGISTRY`, as npm). CaptionerError where a file is
    missing, is of another version, or cannot be downloaded.
    """
    if given is None:
        package = _download()
        return _verified(_from_package(package), package)
    if given.is_dir():
        return _verified(_from_folder(given), given)
    if not given.is_file():
        raise CaptionerError(f"--onnxruntime-web {given} does not exist: expected a folder or onnxruntime-web-….tgz.")
    return _verified(_from_package(given), given)


def cached_package() -> Path:
    """Where the downloaded package is kept."""
    return cache_directory() / "onnxruntime-web" / _PACKAGE.name


def _download() -> Path:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY
    try:
        return fetch(_PACKAGE, cached_package().parent, (registry,))
    except DataError as error:
        raise CaptionerError(
            f"The page needs onnxruntime-web {VERSION}. {error} Or give one of another place, such as that of npm pack "
            f"onnxruntime-web@{VERSION}: --onnxruntime-web {_PACKAGE.name}"
        ) from error


def _from_folder(folder: Path) -> dict[str, bytes]:
    for name in _FOLDERS:
        if (folder / name / MODULE).is_file() and (folder / name / BINARY).is_file():
            return {file: (folder / name / file).read_bytes() for file in SHA256}
    raise CaptionerError(
        f"--onnxruntime-web {folder} has no {MODULE} and {BINARY}, neither in itself nor in dist/ or "
        "node_modules/onnxruntime-web/dist/."
    )


def _from_package(package: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(package) as tar:
            for name in SHA256:
                file = tar.extractfile(f"package/dist/{name}")
                if file is None:
                    raise KeyError(f"{name} is no file")
                found[name] = file.read()
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise CaptionerError(
            f"{package} is not the package onnxruntime-web-{VERSION}.tgz of the npm registry ({reason})."
        ) from error
    return found


def _verified(files: dict[str, bytes], source: Path) -> dict[str, bytes]:
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise CaptionerError(
                f"{name} in {source} is not that of onnxruntime-web {VERSION}: its checksum differs. Expected this "
                f"version, such as from npm pack onnxruntime-web@{VERSION}."
            )
    return files
