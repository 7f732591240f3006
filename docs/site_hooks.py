"""Hooks of the documentation site (mkdocs.yml).

They add three kinds of pages: documents that lie outside docs/ (CHANGELOG.md, for example), one page of API reference
per package of `captioner`, and every page of the folders that the navigation names as "folder/*". They also rewrite
links, so that one link works both in a checkout and on the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "benchmarks/NOTES.md",
    "captioner/pretrained/flickr8k/MODEL_CARD.md",
    "findings/README.md",
)
"""Documents outside docs/ that have a page of the same path on the site."""

LINK = re.compile(r"(?<!\\)(!?)\[((?:[^\[\]]|!?\[[^\]]*\](?:\([^)]*\))?)*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```\s*?$)", re.MULTILINE | re.DOTALL)


def api_pages() -> dict[str, str]:
    """Path of a page → its Markdown: one page per package, with a section per module."""
    pages = {}
    for package in sorted(path.parent for path in (ROOT / "captioner").rglob("__init__.py")):
        name = ".".join(package.relative_to(ROOT).parts)
        modules = sorted(path.stem for path in package.glob("*.py") if not path.stem.startswith("_"))
        sections = [f"::: {name}\n    options: {{ members: false, heading_level: 1 }}\n"]
        sections += [f"::: {name}.{module}\n" for module in modules]
        pages[f"api/{name}.md"] = "\n".join(sections)
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace "folder/*" in the navigation by the pages of the folder."""
    config.nav = [_expand(entry) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside docs/ and the API reference."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for path, text in api_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the site's pages; a link to a file that the site lacks becomes the file's path."""
    origin = page.file.src_uri
    folder = posixpath.dirname(origin if origin in OUTSIDE else f"docs/{origin}")
    known = set(files.src_uris)

    def replace(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if ":" in path or not path:
            return match.group(0)
        path = posixpath.normpath(posixpath.join(folder, path))
        on_site = path.removeprefix("docs/")
        if on_site in known:
            relative = posixpath.relpath(on_site, posixpath.dirname(origin) or ".")
            return f"{mark}[{_rewrite(text, replace)}]({relative}{'#' + anchor if anchor else ''})"
        if (ROOT / path).exists():
            return text if text.strip("`") in path else f"{text} (`{path}`)"
        return match.group(0)

    return "".join(
        part if part.startswith("```") else _rewrite(part, replace) for part in re.split(FENCE, markdown) if part
    )


def _rewrite(text: str, replace: Any) -> str:
    return LINK.sub(replace, text)


def _expand(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    ((title, value),) = entry.items()
    if isinstance(value, list):
        return {title: [_expand(child) for child in value]}
    if not value.endswith("/*"):
        return entry
    folder = value.removesuffix("/*")
    if folder == "api":
        return {title: [{path.removeprefix("api/").removesuffix(".md"): path} for path in api_pages()]}
    return {title: sorted(f"{folder}/{path.name}" for path in (ROOT / "docs" / folder).glob("*.md"))}
