"""LaTeX articles: sections, prose of 72 columns, nested lists, and formulas with nested brackets."""

from __future__ import annotations

from random import Random

from captioner.data.synthetic.texts.lexicon import GREEK, LETTERS, NOUNS, RELATIONS
from captioner.data.synthetic.texts.prose import sentence, title
from captioner.data.synthetic.texts.wrapping import wrap

WIDTH = 72


def article(random: Random) -> str:
    """One section with a label, paragraphs, lists and formulas."""
    label = random.choice(NOUNS)
    parts = [f"\\section{{{title(random)}}}\n\\label{{sec:{label}}}"]
    for _ in range(random.randint(3, 6)):
        kind = random.random()
        if kind < 0.6:
            parts.append(_paragraph(random, label))
        elif kind < 0.8:
            parts.append(_formula(random))
        else:
            parts.append("\n".join(_list(random, 0)))
    return "\n\n".join(parts) + "\n"


def _paragraph(random: Random, label: str) -> str:
    sentences = []
    for _ in range(random.randint(2, 6)):
        text = sentence(random)
        if random.random() < 0.1:
            text = f"As Section~\\ref{{sec:{label}}} shows: {text}"
        elif random.random() < 0.12:
            text = f"{text[:-1]} (see $ {_expression(random, 1)} $){text[-1]}" if text[-1] == "." else text
        sentences.append(text)
    return "\n".join(wrap(" ".join(sentences), WIDTH))


def _list(random: Random, depth: int) -> list[str]:
    """A list environment with indented items, sometimes with a nested list."""
    blanks, kind = "  " * depth, random.choice(("itemize", "enumerate"))
    lines = [f"{blanks}\\begin{{{kind}}}"]
    for _ in range(random.randint(2, 3)):
        first, *more = wrap(sentence(random), WIDTH - 10 - 2 * depth)
        lines.append(f"{blanks}  \\item {first}")
        lines += [f"{blanks}    {line}" for line in more]
        if depth < 1 and random.random() < 0.3:
            lines += _list(random, depth + 2)
    return [*lines, f"{blanks}\\end{{{kind}}}"]


def _formula(random: Random) -> str:
    body = f"  {_expression(random, 0)} {random.choice(RELATIONS)} {_expression(random, 0)}"
    if random.random() < 0.5:
        return f"\\[\n{body}\n\\]"
    return f"\\begin{{equation}}\n{body}\n\\end{{equation}}"


def _expression(random: Random, depth: int) -> str:
    """A formula with three kinds of brackets, nested up to three deep."""
    kind = random.random()
    if depth >= 3 or kind < 0.3:
        return _atom(random)
    if kind < 0.5:
        return f"\\frac{{{_expression(random, depth + 1)}}}{{{_expression(random, depth + 1)}}}"
    if kind < 0.65:
        return f"\\left( {_expression(random, depth + 1)} \\right)^{{{random.choice('23kn')}}}"
    if kind < 0.78:
        return f"\\sum_{{{random.choice('ijk')}=0}}^{{{random.choice('nm')}}} {_expression(random, depth + 1)}"
    return f"{_expression(random, depth + 1)} {random.choice('+-')} {_expression(random, depth + 1)}"


def _atom(random: Random) -> str:
    kind = random.random()
    if kind < 0.3:
        return random.choice(LETTERS)
    if kind < 0.6:
        return f"{random.choice(LETTERS)}_{{{random.choice('ijk')}}}"
    return random.choice(GREEK) if kind < 0.8 else str(random.randint(1, 12))
