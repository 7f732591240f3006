"""The documentation site builds with warnings as errors and fetches nothing when it is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*\shref=\"?(?:https?:)?//", re.IGNORECASE
)
PAGES = ("index.html", "CHANGELOG.html", "CONTRIBUTING.html", "extending.html", "api/captioner.html", "lab/index.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert {str(path.relative_to(site)) for path in pages} >= set(PAGES)
    assert [str(path) for path in pages if FETCHED.search(path.read_text(encoding="utf-8"))] == []
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.slow
def test_every_package_has_a_page_of_reference(site: Path) -> None:
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "captioner").rglob("__init__.py")}
    assert {path.stem for path in (site / "api").glob("*.html")} == packages
    assert "Captioner" in (site / "api" / "captioner.html").read_text(encoding="utf-8")
