"""The generated text: brackets and quotes close, lines are broken at a width, and the seed determines all."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data.synthetic.texts.article import article
from captioner.data.synthetic.texts.generate_text import generate_text
from captioner.data.synthetic.texts.lexicon import FIELDS
from captioner.data.synthetic.texts.prose import sentence
from captioner.data.synthetic.texts.source_code import source
from captioner.data.synthetic.texts.wrapping import wrap

PAIRS = {")": "(", "]": "[", "}": "{"}


def assert_balanced(text: str) -> None:
    opened: list[str] = []
    for character in text:
        if character in PAIRS.values():
            opened.append(character)
        elif character in PAIRS:
            assert opened, text
            assert opened.pop() == PAIRS[character], text
    assert not opened, text


@pytest.mark.parametrize("seed", range(40))
def test_code_is_well_formed(seed: int) -> None:
    text = source(Random(seed))
    code = re.sub(r"/\*.*?\*/", "", re.sub(r'"[^"\n]*"', '""', text), flags=re.DOTALL)
    assert_balanced(code)
    depth = 0
    for line in text.splitlines():
        if line.startswith((" ", "/", "#")) or line.lstrip("\t").startswith(("/*", "* ")):
            continue
        closing = line.lstrip("\t").startswith("}")
        once = line.endswith("return -EINVAL;") and line.count("\t") == depth + 1  # the body of an if without braces
        assert not line or once or line.count("\t") - line.strip("\t").count("\t") == depth - closing, line
        depth += line.count("{") - line.count("}")
    used = set(re.findall(r"\b([a-z]+)\b(?= =| \+=|\+\+)", code))
    lists = re.findall(r"^\tint (.*);$", code, flags=re.MULTILINE)
    declared = {name.split(" ")[0] for names in lists for name in names.split(", ")}
    declared |= set(re.findall(r", int ([a-z]+)\)", code))
    assert used - set(FIELDS) <= declared


@pytest.mark.parametrize("seed", range(40))
def test_articles_are_well_formed(seed: int) -> None:
    text = article(Random(seed))
    assert_balanced(text)
    assert text.count('"') % 2 == 0
    assert re.findall(r"\\begin{(\w+)}", text).sort() == re.findall(r"\\end{(\w+)}", text).sort()
    prose = [line for line in text.splitlines() if not line.startswith((" ", "\\"))]
    assert max(map(len, prose)) <= 72


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_sentences_end_and_quotes_close(seed: int) -> None:
    text = sentence(Random(seed))
    assert text[0].isupper() or text[0] == '"'
    assert re.search(r'[.!?]"?$', text)
    assert text.count('"') in (0, 2)


def test_verbs_agree_with_their_subjects() -> None:
    text = " ".join(sentence(Random(seed)) for seed in range(2000))
    assert not re.search(r"\b(Nora|Peter) (find|follow|cross|carry)\b", text)
    assert not re.search(r"\b(Some|Many|some|many) \w+s (finds|follows|crosses|carries)\b", text)
    assert re.search(r"\b(Nora|Peter) (finds|follows|crosses|carries)\b", text)


@given(st.text(alphabet="ab ", max_size=60), st.integers(1, 20))
def test_wrapping_keeps_every_word(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert " ".join(lines) == text
    assert all(len(line) <= width or " " not in line for line in lines)


def test_a_seed_determines_the_text_and_a_shorter_text_is_its_beginning() -> None:
    text = generate_text(20_000, 0)
    assert len(text) == 20_000
    assert text == generate_text(20_000, 0)
    assert generate_text(30_000, 0).startswith(text)
    assert generate_text(20_000, 1) != text
    assert all(part in text for part in ("\\section", "static int", "/*", '"'))
