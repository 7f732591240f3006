"""The Porter2 stemmer for English, by which METEOR matches "running" with "runs".

Porter 2001, "The English (Porter2) stemming algorithm", snowballstem.org. The steps have the names of that page.
nltk's stemmer of the same name differs in the second region of words whose suffix step 2 replaces: it makes
"realize" of "realization", where the algorithm and the METEOR jar make "realiz".
"""

from __future__ import annotations

import re
from functools import lru_cache

_SPECIAL = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
}
_UNCHANGED = frozenset(["sky", "news", "howe", "atlas", "cosmos", "bias", "andes"])
_UNCHANGED_AFTER_1A = frozenset(["inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"])
_STEP_2 = {
    "ational": "ate",
    "fulness": "ful",
    "iveness": "ive",
    "ization": "ize",
    "ousness": "ous",
    "biliti": "ble",
    "lessli": "less",
    "tional": "tion",
    "alism": "al",
    "aliti": "al",
    "ation": "ate",
    "entli": "ent",
    "fulli": "ful",
    "iviti": "ive",
    "ousli": "ous",
    "abli": "able",
    "alli": "al",
    "anci": "ance",
    "ator": "ate",
    "enci": "ence",
    "izer": "ize",
    "bli": "ble",
    "ogi": "og",  # after l
    "li": "",  # after one of _BEFORE_LI
}
_STEP_3 = {
    "ational": "ate",
    "tional": "tion",
    "alize": "al",
    "ative": "",  # in the second region
    "icate": "ic",
    "iciti": "ic",
    "ical": "ic",
    "ness": "",
    "ful": "",
}
_STEP_4 = [
    "ement",
    "ance",
    "ence",
    "able",
    "ible",
    "ment",
    "ant",
    "ent",
    "ism",
    "ate",
    "iti",
    "ous",
    "ive",
    "ize",
    "ion",
    "al",
    "er",
    "ic",
]  # longest first
_BEFORE_LI = "cdeghkmnrt"
_DOUBLES = frozenset(["bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt"])
_REGION = re.compile("[aeiouy][^aeiouy]")
_SHORT_SYLLABLE = re.compile("(?:[^aeiouy][aeiouy][^aeiouywxY]|^[aeiouy][^aeiouy])$")
_VOWEL = re.compile("[aeiouy]")


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """The stem of a lower-case word; other characters than a to z count as consonants."""
    if word in _SPECIAL:
        return _SPECIAL[word]
    if word in _UNCHANGED or len(word) <= 2:
        return word
    word = re.sub("(^|[aeiouy])y", r"\1Y", word.removeprefix("'"))  # a consonant's y
    first = _first_region(word)
    second = _after_region(word, first)
    word = _step_1a(_without_suffix(word, ("'s'", "'s", "'")))
    if word not in _UNCHANGED_AFTER_1A:
        word = _step_1c(_step_1b(word, first))
        word = _step_3(_step_2(word, first), first, second)
        word = _step_5(_step_4(word, second), first, second)
    return word.replace("Y", "y")


def _first_region(word: str) -> int:
    """Where R1 begins: after the first consonant that follows a vowel, or after one of three prefixes."""
    for prefix in ("gener", "commun", "arsen"):
        if word.startswith(prefix):
            return len(prefix)
    return _after_region(word, 0)


def _after_region(word: str, start: int) -> int:
    found = _REGION.search(word, start)
    return found.end() if found else len(word)


def _without_suffix(word: str, suffixes: tuple[str, ...]) -> str:
    suffix = next((suffix for suffix in suffixes if word.endswith(suffix)), "")
    return word[: len(word) - len(suffix)]


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _VOWEL.search(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, first: int) -> str:
    for suffix in ("eedly", "eed"):
        if word.endswith(suffix):
            start = len(word) - len(suffix)
            return word[:start] + "ee" if start >= first else word
    for suffix in ("ingly", "edly", "ing", "ed"):
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            if not _VOWEL.search(rest):
                return word
            if rest.endswith(("at", "bl", "iz")):
                return rest + "e"
            if rest[-2:] in _DOUBLES:
                return rest[:-1]
            return rest + "e" if first >= len(rest) and _SHORT_SYLLABLE.search(rest) else rest
    return word


def _step_1c(word: str) -> str:
    if len(word) > 2 and word[-1] in "yY" and not _VOWEL.match(word[-2]):
        return word[:-1] + "i"
    return word


def _step_2(word: str, first: int) -> str:
    for suffix, replacement in _STEP_2.items():
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            allowed = rest.endswith("l") if suffix == "ogi" else suffix != "li" or rest[-1:] in tuple(_BEFORE_LI)
            return rest + replacement if len(rest) >= first and allowed else word
    return word


def _step_3(word: str, first: int, second: int) -> str:
    for suffix, replacement in _STEP_3.items():
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            return rest + replacement if len(rest) >= (second if suffix == "ative" else first) else word
    return word


def _step_4(word: str, second: int) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            return rest if len(rest) >= second and (suffix != "ion" or rest.endswith(("s", "t"))) else word
    return word


def _step_5(word: str, first: int, second: int) -> str:
    rest = word[:-1]
    if word.endswith("e") and (len(rest) >= second or (len(rest) >= first and not _SHORT_SYLLABLE.search(rest))):
        return rest
    if word.endswith("l") and len(rest) >= second and rest.endswith("l"):
        return rest
    return word
