"""The generated text: random documents, concatenated."""

from __future__ import annotations

from random import Random

from captioner.data.synthetic.texts.article import article
from captioner.data.synthetic.texts.source_code import source


def generate_text(size: int, seed: int) -> str:
    """The first `size` characters of the text of `seed`. A shorter text is the beginning of a longer one."""
    random = Random(seed)
    documents: list[str] = []
    length = 0
    while length < size:
        document = random.choice((source, article))(random) + "\n"
        documents.append(document)
        length += len(document)
    return "".join(documents)[:size]
