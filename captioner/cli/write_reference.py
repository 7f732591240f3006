"""`make reference`: write the comments of conf/ and the pages of docs/reference from the settings' dataclasses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from captioner.cli.choices import CONF
from captioner.cli.reference_pages import models_page, settings_page
from captioner.cli.yaml_comments import write_comments

REFERENCE = CONF.parent / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "models.md": models_page}


def main() -> None:
    """Bring all generated text up to date, and print the files that changed."""
    changed = [*write_comments(), *_write_pages()]
    sys.stdout.write("".join(f"{path}\n" for path in changed))


def _write_pages() -> list[Path]:
    REFERENCE.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    main()
