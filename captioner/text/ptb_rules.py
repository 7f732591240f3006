"""The rules by which PTB tokens are recognised: what each token looks like, and what becomes of it.

At every place in the text all rules are tried and the one that matches the most wins; of equals, the
earlier. What a rule wants to see behind its token (`before`) counts as matched but is left for the next
token. That is how the official tokenizer, a lexer made by JFlex, decides, so it has to be how this one does.

Patterns are written for text in which `stand_ins` has replaced every character beyond ASCII by one of
its kind. Where case does not matter they say so with `(?i:…)`. A pattern must match as much as it can:
of alternatives that begin alike, the longer comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from captioner.text.ptb_characters import (
    APOSTROPHE,
    COMMA,
    CURRENCY,
    DASH,
    DIGIT,
    ELLIPSIS,
    FRACTION,
    FRACTION_SLASH,
    HYPHEN,
    LETTER,
    MARK,
    NEXT_LINE,
    NO_BREAK_SPACE,
    OPEN_APOSTROPHE,
    QUOTE,
    SOFT_HYPHEN,
    SUBSCRIPT,
    SUPERSCRIPT,
    SUPERSCRIPT_SIGN,
    SYMBOL,
    THOUSANDS,
    WIDE_SPACE,
    ZERO_WIDTH,
)

# ------------------------------------------------------------------ what becomes of a token's text


def as_is(text: str) -> str:
    """The text itself."""
    return text


def nothing(text: str) -> str:
    """Space, and characters that the lexer does not know: no token."""
    return ""


def a_dash(text: str) -> str:
    """The Penn Treebank's dash."""
    return "--"


def three_dots(text: str) -> str:
    """The Penn Treebank's ellipsis."""
    return "..."


def hyphens(text: str) -> str:
    """Three or four hyphens are a dash; more are a line that someone drew, and stay."""
    return "--" if len(text) in (3, 4) else text


def without_soft_hyphens(text: str) -> str:
    """A word without the marks of where it may be hyphenated; of nothing else, a hyphen."""
    return text.replace(SOFT_HYPHEN, "") or "-"


def with_ampersand(text: str) -> str:
    """`&amp;` is `&`."""
    return re.sub("&amp;", "&", text, flags=re.IGNORECASE)


def without_spaces(text: str) -> str:
    """No-break spaces for spaces, so that the token stays one."""
    return text.replace(" ", NO_BREAK_SPACE)


def with_named_brackets(text: str) -> str:
    """The Penn Treebank's names for the round brackets inside a token; no-break spaces."""
    return without_spaces(text).replace("(", "-LRB-").replace(")", "-RRB-")


def name_of_bracket(text: str) -> str:
    """The name of a bracket that is a token of its own."""
    return {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}[text]


def less_than(text: str) -> str:
    """`<`, also for `&lt;`."""
    return "<"


def greater_than(text: str) -> str:
    """`>`, also for `&gt;`."""
    return ">"


def spelt_fraction(text: str) -> str:
    """The commonest five of the fractions that are one character, spelt out."""
    return {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}.get(text, text)


def treebank_currency(text: str) -> str:
    """Cents by name, `#` for pounds, and `$` for what the Penn Treebank had no sign for."""
    return {"¢": "cents", "£": "#", "€": "$", "₠": "$", "¤": "$", "\u0080": "$"}.get(text, text)


def latex_quotes(text: str) -> str:
    """Quotes as LaTeX writes them: ` and ' for single ones, twice that for double ones."""
    text = text.replace("&apos;", "'").replace("&quot;", "''")
    return text.translate(_LATEX_QUOTES)


_LATEX_QUOTES = {ord('"'): "''"}
_LATEX_QUOTES |= dict.fromkeys(map(ord, "\u0091\u2018\u201b\u2039"), "`")
_LATEX_QUOTES |= dict.fromkeys(map(ord, "\u0092\u2019\u203a"), "'")
_LATEX_QUOTES |= dict.fromkeys(map(ord, "\u0093\u201c\u00ab"), "``")
_LATEX_QUOTES |= dict.fromkeys(map(ord, "\u0094\u201d\u00bb"), "''")


# --------------------------------------------------------------------------------- the patterns


def _words(words: str) -> str:
    """A pattern for any of these words, in capitals or not."""
    return f"(?i:{'|'.join(words.split())})"


def _names(words: str) -> str:
    """A pattern for any of these words, which must begin with a capital: in lower case they are common words."""
    return "(?:" + "|".join(f"{word[0]}(?i:{word[1:]})" for word in words.split()) + ")"


# Space and letters. _L and _D are for use inside [ ].
_L = rf"A-Za-z{LETTER}ſıİ\u212a"
_D = f"0-9{DIGIT}"
_SPACE = rf"[ \t{NO_BREAK_SPACE}{WIDE_SPACE}]"
_GAP = rf"[ \t\n{NO_BREAK_SPACE}{WIDE_SPACE}{NEXT_LINE}]"
_LETTER = f"(?:[{_L}{MARK}{SOFT_HYPHEN}]|&[aeiouAEIOU](?i:acute|grave|uml);)"
_CLAUSE_END = f"[,;:{COMMA}]"
_APOSTROPHE = f"(?:['{APOSTROPHE}]|(?i:&apos;))"
_ANY_APOSTROPHE = f"(?:['{APOSTROPHE}{OPEN_APOSTROPHE}`]|(?i:&apos;))"

# Words: street, b2b, yahoo!answers, and what is cut off their end.
_WORD = f"{_LETTER}(?:{_LETTER}|[{_D}])*(?:[.!?]{_LETTER}(?:{_LETTER}|[{_D}])*)*"
_AUXILIARY = f"{_APOSTROPHE}(?:[msdMSD]|(?i:re|ve|ll))"
_NOT = f"(?i:n){_ANY_APOSTROPHE}(?i:t)"
_BEFORE_NOT = f"[A-Za-z{SOFT_HYPHEN}]*[A-MO-Za-mo-z]{SOFT_HYPHEN}*"
TWO_IN_ONE = (
    ("can", "not"),
    ("gon", "na"),
    ("got", "ta"),
    ("wan", "na"),
    ("gim", "me"),
    ("lem", "me"),
    ("'t", "is"),
    ("'t", "was"),
)
"""Words that are two tokens."""

# Words with hyphens and more: O'Neill-Smith, 3-wheeler, non-U.S., black/white, AT&T.
_OTHER_ACRONYM = r"(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.S\.S\.R|U\.K))"
_ACRONYM = rf"(?:{_OTHER_ACRONYM}|[A-Za-z](?:\.[A-Za-z])*)"
_LONG_ACRONYM = rf"(?:{_OTHER_ACRONYM}|[A-Za-z](?:\.[A-Za-z])+)"
_ELISION = f"[dDoOlL]{_ANY_APOSTROPHE}[{_L}{_D}]"
_HYPHENATED = f"(?:{_ELISION})?[{_L}{_D}]+(?:[-_{HYPHEN}](?:{_ELISION})?[{_L}{_D}]+)*"
_HYPHENATED_ASCII = rf"[A-Za-z0-9][A-Za-z0-9.,{SOFT_HYPHEN}]*(?:-(?:{_LONG_ACRONYM}\.|[A-Za-z0-9{SOFT_HYPHEN}]+))+"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"
_INITIALS = "[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+"

# Numbers.
_NUMBER = f"[-+]?(?:[{_D}]*(?:[.:,{SOFT_HYPHEN}{THOUSANDS}][{_D}]+)+|[{_D}]+)"
_DATE = f"[{_D}]{{1,2}}[-/][{_D}]{{1,2}}[-/][{_D}]{{2,4}}"
_FRACTION = rf"(?:[{_D}]{{1,4}}[- {NO_BREAK_SPACE}])?[{_D}]{{1,4}}(?:\\?/|{FRACTION_SLASH})[{_D}]{{1,4}}"
_JOINT = f"[- {NO_BREAK_SPACE}]"
_AREA_CODE = rf"(?:\([0-9]{{2,3}}\)[ {NO_BREAK_SPACE}]?|(?:\+\+?)?(?:[0-9]{{2,4}}{_JOINT})?[0-9]{{2,4}}{_JOINT})"
_PHONE = f"{_AREA_CODE}[0-9]{{3,4}}{_JOINT}?[0-9]{{3,5}}"
_DOTTED_PHONE = r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"

# The web. What is not in an address, for use inside [^ ]. The range ,-_ in _SITE keeps out digits and capitals as well:
# a slip, it seems, that decides what is an address.
_STOP = r" \t\n\"<>|()"
_MARK = r".!?{},"
_PATH = rf"(?:/[^{_STOP}]+[^{_STOP}{_MARK}-])?"
_URL = rf"(?i:https?)://[^{_STOP}{{}}]+[^{_STOP}{_MARK}-]"
_WWW = rf"(?i:www)\.(?:[^{_STOP}{_MARK}]+\.)+[a-zA-Z]{{2,4}}{_PATH}"
_SITE = rf"(?:[^ \t\n\"`'|!(){{}}$,-_]+\.)+(?i:com|net|org|edu){_PATH}"
_HOST = rf"(?:[^{_STOP}{{}}{NO_BREAK_SPACE}.]+\.)*[^{_STOP}{{}}{NO_BREAK_SPACE}.]+"
_EMAIL = rf"(?:(?i:&lt;)|<)?[a-zA-Z0-9][^{_STOP}{{}}{NO_BREAK_SPACE}]*@{_HOST}(?:(?i:&gt;)|>)?"
_FILE_ENDING = _words(
    "bat bmp c class cgi cpp dll docx? exe gif gz h html? jar java jpe?g mov mp3 pdf php pl png ppt ps py sql tar txt "
    "wav x xml zip"
)
_FILE_NAME = rf"(?:{_LETTER}|[{_D}])+(?:\.(?:{_LETTER}|[{_D}])+)*\.{_FILE_ENDING}"
_TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG_VALUES = rf"(?: +{_TAG_NAME}(?: *= *(?:'[^']*'|\"[^\"]*\"))?)*"
_TAG = rf"<(?:[!?][A-Za-z-][^>]*|{_TAG_NAME}{_TAG_VALUES} *(?:/ *)?|/{_TAG_NAME} *)>"

# Abbreviations that keep their full stop wherever they stand; titles, which single letters and acronyms are like;
# those that are abbreviations before a number; and the words that begin a sentence, behind which another has ended.
_ABBREVIATION = "|".join(
    [
        r"(?i:Pp?t)[ey](?i:s)?",
        _words("Jan Feb Mar Apr Jun Jul Aug Sept? Oct Nov Dec Mon Tues? Wed Thu Thurs Fri"),
        _words("Ala Ariz Calif Colo Conn Ct Dak Fla Ga Ind Kans? Ky Md Mich Minn Mo Mont Neb Nev Okla Penn"),
        _words("Tenn Va Vt Wisc? Wyo"),
        _names("Az Ark Del Ill La Mass Miss Ore Pa Tex Wash"),
        _words("Inc Cos? Corp Ltd Plc Rt Bancorp Bhd Assn Univ Intl Sys"),
        _words(r"Jr Sr Bros Ed\.D Ph\.D Blvd Rd Esq tel est ext sq etc al seq Bldg"),
    ]
)
_TITLE = "|".join(
    [
        _ACRONYM,
        _words("Mr Mrs Ms Drs? Profs? Sens? Reps? Attys? Lt Col Gen Messrs Govs? Adm Rev Maj Sgt Cpl Pvt Capt Ste?"),
        _words("Ave Pres Lieut Hon Brig Co?mdr Pfc Spc Supts? Det Mt Ft Adj Adv Asst Assoc Ens Insp Mlle Mme Msgr"),
        _words("Sfc vs Alex Wm Jos Cie cf TREAS Ph Invt Elec Natl Dept"),
        _names("Miss"),
        "(?i:M)[ft](?i:g)",
    ]
)
_BEFORE_NUMBER = _words("art bldg ca figs? nos? op pp prop")
_SENTENCE_START = _names(
    r"About According Additionally After An A As At But Earlier He Her Here However If In It Last Many More Mr\. Ms\. "
    "Now Once One Other Our She Since So Some Such That The Their Then There These They This We When While What Yet You"
)

# Faces: :-) ^_^ (^_^). The last is meant for another, but in JFlex `~<` is anything up to the next <.
_FACE = r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]"
_ASIAN_FACE = r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)"
_UNINTENDED_FACE = r"[\^x=~<>]\.\[\^(?i:x)=[^< ]*<>\]"


class Rule(NamedTuple):
    """One kind of token: its pattern, the pattern of what must come after it, and what becomes of its text."""

    token: str
    before: str = ""
    to: Callable[[str], str] = as_is


RULES = (
    *(Rule(f"(?i:{first})", f"(?i:{second})") for first, second in TWO_IN_ONE),
    Rule(_TAG, to=without_spaces),
    Rule(f"{DASH}|(?i:&(?:md|mdash|ndash);)", to=a_dash),
    Rule("(?i:&amp;)", to=with_ampersand),
    Rule("(?i:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq);)|&#[0-9]+;"),
    # Words.
    Rule(_WORD, _AUXILIARY, without_soft_hyphens),  # dog 's
    Rule(_BEFORE_NOT, _NOT, without_soft_hyphens),  # is n't
    Rule(_WORD, to=without_soft_hyphens),
    Rule(f"{_APOSTROPHE}(?i:n){_APOSTROPHE}?|{_APOSTROPHE}(?i:em|till?|cause)"),  # rock 'n' roll
    Rule(f"{_APOSTROPHE}[2-9]0(?i:s)"),  # '90s
    Rule(f"(?:[dDjJlL]|(?i:dunkin|ol|somethin)){_APOSTROPHE}"),  # l' arc, ol' man
    Rule(f"[A-HJ-XZn]{_ANY_APOSTROPHE}[{_L}]{{2}}[{_L}]*"),  # D'Arcy
    Rule(f"[{_L}]+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z][{_L}]*"),  # Hawai'i
    Rule(rf"(?i:cont'd\.?|c'mon|e'er|ev'ry|li'l|nat'l|nor'easter|s'mores|o{_ANY_APOSTROPHE}o)"),
    Rule(r"(?i:[cf]#|c\+\+)"),
    Rule(f"[yY]{_APOSTROPHE}", f"[{_L}]"),  # y' all
    # The web.
    Rule(_URL),
    Rule(_WWW),
    Rule(_SITE),
    Rule(_EMAIL),
    Rule(f"@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+"),  # @name, #topic
    # What was cut off a word.
    Rule(_AUXILIARY, "[^A-Za-z]", latex_quotes),
    Rule(_NOT, "[^A-Za-z]", latex_quotes),
    # Numbers.
    Rule(_DATE),
    Rule(_NUMBER, to=without_soft_hyphens),
    Rule(f"{SUPERSCRIPT_SIGN}?(?:{SUPERSCRIPT}+|{SUBSCRIPT}+)"),
    Rule(_FRACTION, to=without_spaces),
    Rule(FRACTION, to=spelt_fraction),
    # What the Penn Treebank has its own way with.
    Rule(f"(?i:-[lr][rcs]b-|c\\.d\\.s|pro-|anti-|cap{_APOSTROPHE}n|c{_APOSTROPHE}est)"),
    Rule("(?i:s(?:&|&amp;)(?:p-500|ls))", to=with_ampersand),
    Rule(_SLASHED),
    Rule(r"[A-Z]*\$|#"),  # US$
    Rule(CURRENCY, to=treebank_currency),
    # Abbreviations.
    Rule("[A-Za-z]", rf"\.{_GAP}+(?:{_SENTENCE_START}|{_TAG}){_GAP}"),  # platform K. The train
    Rule(rf"{_BEFORE_NUMBER}\.", f"{_GAP}?[{_D}]"),  # no. 5
    Rule(rf"(?:{_ABBREVIATION})\.", "(?:..)?"),
    Rule(rf"(?:{_TITLE})\."),
    Rule(_ACRONYM, _GAP),
    Rule(f"{_APOSTROPHE}[0-9][0-9]", _GAP),  # '90
    Rule(_FILE_NAME, f"(?:{_GAP}|[.?!,])"),
    Rule(rf"{_WORD}\.", _CLAUSE_END, without_soft_hyphens),
    Rule(_PHONE, to=with_named_brackets),
    Rule(_DOTTED_PHONE),
    # Quotes, brackets, faces, punctuation.
    Rule('(?:"|(?i:&quot;))', "[A-Za-z0-9$]", latex_quotes),
    Rule('"|(?i:&quot;)', to=latex_quotes),
    Rule("\x7f", to=nothing),
    Rule("<|(?i:&lt;)", to=less_than),
    Rule(">|(?i:&gt;)", to=greater_than),
    Rule(_FACE, "[^A-Za-z0-9]", with_named_brackets),
    Rule(_ASIAN_FACE, to=with_named_brackets),
    Rule(_UNINTENDED_FACE, to=with_named_brackets),
    Rule(r"[()\[\]{}]", to=name_of_bracket),
    Rule("-+", to=hyphens),
    Rule(rf"\.{{3,5}}|(?:\.[ {NO_BREAK_SPACE}]){{2,4}}\.|[{NEXT_LINE}{ELLIPSIS}]", to=three_dots),
    Rule(r"@+|#+|_+|[?!]+|=|/|\*+|(?:\\\*){1,3}"),
    Rule(f"{_CLAUSE_END}|[.{FRACTION_SLASH}]"),
    # Words with hyphens, numbers in them, or ampersands.
    Rule(rf"{_HYPHENATED_ASCII}\.", _CLAUSE_END, without_soft_hyphens),
    Rule(_HYPHENATED_ASCII, to=without_soft_hyphens),
    Rule(rf"{_HYPHENATED}\.", _CLAUSE_END),
    Rule(_HYPHENATED),
    Rule(rf"{_INITIALS}\.", _CLAUSE_END, with_ampersand),
    Rule(_INITIALS, to=with_ampersand),
    # What is left.
    Rule("'", rf"[A-Za-z][^ \t\n{NO_BREAK_SPACE}]", latex_quotes),
    Rule(_AUXILIARY, to=latex_quotes),
    Rule(f"''|[`{APOSTROPHE}{OPEN_APOSTROPHE}{QUOTE}]{{1,2}}|{_APOSTROPHE}", to=latex_quotes),
    Rule(rf"<<|>>|[+%&~^|\\{SYMBOL}{SUPERSCRIPT}{SUPERSCRIPT_SIGN}]"),
    Rule(f"{_SPACE}+|[\0{ZERO_WIDTH}]|(?i:&nbsp;)", to=nothing),
    Rule(".", to=nothing),
)
"""In the order that decides between matches of the same length. The last rule takes any character."""
