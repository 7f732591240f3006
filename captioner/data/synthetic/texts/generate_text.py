"""The generated text: documents one after the other until there is enough."""

from __future__ import annotations

from random import Random

from captioner.data.synthetic.texts.article import article
from captioner.data.synthetic.texts.source_code import source


def generate_text(size: int, seed: int) -> str:
    """The first `size` characters of the text that `seed` gives; a longer text begins with the shorter one."""
    random = Random(seed)
    documents: list[str] = []
    length = 0
    while length < size:
        document = random.choice((source, article))(random) + "\n"
        documents.append(document)
        length += len(document)
    return "".join(documents)[:size]
