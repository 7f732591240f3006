"""Properties that a unit may track: one value per token, computed from the text alone.

Each value is that after its token was read, as the value of a unit is: an opening quote, and the characters after it,
are inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from captioner.errors import ConfigError, choose

Property = Callable[[Sequence[str]], list[float]]


def inside_quotes(tokens: Sequence[str]) -> list[float]:
    """1 from an opening `"` to the token before its closing one."""
    inside, values = False, []
    for token in tokens:
        inside ^= token == '"'
        values.append(float(inside))
    return values


def position_in_line(tokens: Sequence[str]) -> list[float]:
    """Tokens since the beginning of the line; 0 at a line break."""
    position, values = -1, []
    for token in tokens:
        position = 0 if token == "\n" else position + 1
        values.append(float(position))
    return values


def bracket_depth(tokens: Sequence[str]) -> list[float]:
    """The number of open brackets ( [ {."""
    depth, values = 0, []
    for token in tokens:
        depth = max(0, depth + (token in "([{") - (token in ")]}"))
        values.append(float(depth))
    return values


def indentation(tokens: Sequence[str]) -> list[float]:
    """The blanks and tabs at the beginning of the line that have been read."""
    depth, at_start, values = 0, True, []
    for token in tokens:
        if token == "\n":
            depth, at_start = 0, True
        elif at_start and token in " \t":
            depth += 1
        else:
            at_start = False
        values.append(float(depth))
    return values


def inside_comment(tokens: Sequence[str]) -> list[float]:
    """1 from `/*` to before the end of `*/`."""
    inside, before, values = False, "", []
    for token in tokens:
        if not inside and before + token == "/*":
            inside, token = True, ""  # so that /*/ does not end it
        elif inside and before + token == "*/":
            inside, token = False, ""
        values.append(float(inside))
        before = token
    return values


def inside_word(tokens: Sequence[str]) -> list[float]:
    """Letters since a word began; 0 outside words."""
    length, values = 0, []
    for token in tokens:
        length = length + 1 if token.isalpha() else 0
        values.append(float(length))
    return values


TEXT_PROPERTIES: dict[str, Property] = {
    "quotes": inside_quotes,
    "line_position": position_in_line,
    "brackets": bracket_depth,
    "indentation": indentation,
    "comment": inside_comment,
    "word": inside_word,
}


def caption_position(captions: Sequence[Sequence[str]]) -> list[float]:
    """The position of each word in its caption, from 1."""
    return [float(position) for caption in captions for position in range(1, len(caption) + 1)]


def is_word(captions: Sequence[Sequence[str]], word: str) -> list[float]:
    """1 at each occurrence of `word`."""
    return [float(token == word) for caption in captions for token in caption]


def shows_object(
    captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], noun: str
) -> list[float]:
    """1 at all words of the caption of an image with the object: at least one of its references names it."""
    return [
        float(any(noun in reference for reference in of_image))
        for caption, of_image in zip(captions, references, strict=True)
        for _ in caption
    ]


def caption_property(
    name: str, captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """A property of captions by its name: position, word:and, object:dog. ConfigError for an unknown name."""
    kind, _, argument = name.partition(":")
    if kind in ("word", "object") and not argument:
        raise ConfigError(f"property={name} lacks a word: expected for example {kind}:dog.")
    choose("property", kind, ("position", "word", "object"))
    if kind == "position":
        return caption_position(captions)
    return is_word(captions, argument) if kind == "word" else shows_object(captions, references, argument)


NOUNS = (
    *("man", "woman", "boy", "girl", "child", "people", "dog", "cat", "horse", "bird"),
    *("car", "bus", "train", "boat", "ball", "bike", "house", "tree", "sun", "moon"),
)


def frequent_objects(references: Sequence[Sequence[Sequence[str]]], count: int = 3) -> list[str]:
    """Of the nouns in NOUNS, those that are named for closest to half of the images, the most informative objects."""
    shares = {
        noun: sum(any(noun in reference for reference in of_image) for of_image in references) / max(1, len(references))
        for noun in NOUNS
    }
    return sorted((noun for noun in NOUNS if shares[noun] > 0), key=lambda noun: abs(shares[noun] - 0.5))[:count]
