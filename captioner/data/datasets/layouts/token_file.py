"""Token files: a line per caption, `NAME#INDEX<TAB>CAPTION`, as Flickr8k and Flickr30k are distributed.

The translations of Flickr8k write the language between name and index (`1.jpg#zhb#0`), and some a space for the tab.
"""

from __future__ import annotations

import re

from captioner.data.datasets.annotation_files import check_text
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, Content, Entry, Layout

SAMPLE = 5  # lines by which the layout is recognized
FLICKR8K_NONEXISTENT = "2258277193_586949ec62.jpg.1"  # Flickr8k's file has captions of this image, which does not exist
_LINE = re.compile(r"(?P<name>[^\t]+?)(#[A-Za-z]+)?#(?P<index>\d+)(\t|[ ]+|$)(?P<caption>.*)")


def _recognizes(file: AnnotationFile) -> bool:
    if file.kind != "text":
        return False
    first = file.lines[:SAMPLE]
    return bool(first) and all(_LINE.fullmatch(line) for _, line in first)


def _read(file: AnnotationFile) -> Content:
    faults, entries = Faults(), list[Entry]()
    notices: tuple[str, ...] = ()
    for number, line in file.lines:
        where = f"{file.path}, line {number}"
        match = _LINE.fullmatch(line)
        if match is None:
            faults.found.append(f"{where}: expected NAME.jpg#0, a tab and the caption, found {line[:60]!r}.")
        elif match["name"].strip() == FLICKR8K_NONEXISTENT:
            notices = (f"{file.path} has captions of {FLICKR8K_NONEXISTENT}, which does not exist: left out.",)
        else:
            with faults.collected():
                caption = check_text(match["caption"].strip(), where)
                entries.append(Entry((check_text(match["name"].strip(), where),), (caption,), place=f"line {number}"))
    return Content(entries, notices, tuple(faults.found))


TOKEN_FILE = Layout(
    "token files: Flickr8k's `Flickr8k.token.txt`, Flickr30k's `results_20130124.token`, Flickr8k in Chinese or Arabic",
    "1000268201_693b08cb0e.jpg#0\tA child in a pink dress .",
    _recognizes,
    _read,
)
