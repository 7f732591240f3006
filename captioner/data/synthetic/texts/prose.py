"""English sentences from a small grammar: verbs agree with their subjects, and speech is in quotation marks."""

from __future__ import annotations

from random import Random

from captioner.data.synthetic.texts.lexicon import ADJECTIVES, ADVERBS, CONNECTIVES, NAMES, NOUNS, PLACES, SAYING, VERBS


def sentence(random: Random) -> str:
    """One sentence, sometimes with speech in quotation marks."""
    kind = random.random()
    if kind < 0.55:
        body = _clause(random)
    elif kind < 0.8:
        body = f"{_clause(random)}, {random.choice(CONNECTIVES)} {_clause(random)}"
    else:
        return _speech(random)
    return body[0].upper() + body[1:] + "."


def title(random: Random) -> str:
    """A heading of a few words."""
    forms = (
        lambda: f"The {random.choice(ADJECTIVES)} {random.choice(NOUNS)}",
        lambda: f"On the {random.choice(NOUNS)} of {random.choice(NAMES)}",
        lambda: " and ".join(_with_article(random.choice(NOUNS)) for _ in range(2)).capitalize(),
    )
    return random.choice(forms)()


def _speech(random: Random) -> str:
    """One or two sentences in quotation marks, before or after the name of the speaker."""
    words = sentence_without_speech(random)[:-1]
    who = f"{random.choice(NAMES)} {random.choice(SAYING)}"
    if random.random() < 0.5:
        return f'{who}: "{words}{random.choice(".?!")}"'
    if random.random() < 0.4:
        words += f". {sentence_without_speech(random)[:-1]}"
    return f'"{words}," {who}.'


def sentence_without_speech(random: Random) -> str:
    """One sentence without quotation marks."""
    body = _clause(random)
    return body[0].upper() + body[1:] + "."


def _clause(random: Random) -> str:
    subject, plural = _subject(random)
    verb = random.choice(VERBS)
    past = random.random() < 0.3
    words = [subject]
    if random.random() < 0.25:
        words.append(random.choice(ADVERBS))
    words += ["did not " + verb] if past else [verb if plural else _third_person(verb)]
    words.append(_object(random))
    if random.random() < 0.3:
        words.append(random.choice(PLACES))
    return " ".join(words)


def _subject(random: Random) -> tuple[str, bool]:
    """(noun phrase, is its verb plural?). An attribute after the noun does not change the number."""
    if random.random() < 0.3:
        return random.choice(NAMES), False
    plural = random.random() < 0.4
    head = _noun_phrase(random, plural)
    if random.random() < 0.25:
        head += f" of the {_plural(random.choice(NOUNS)) if random.random() < 0.5 else random.choice(NOUNS)}"
    return head, plural


def _object(random: Random) -> str:
    return random.choice(NAMES) if random.random() < 0.15 else _noun_phrase(random, random.random() < 0.3)


def _noun_phrase(random: Random, plural: bool) -> str:
    noun = random.choice(NOUNS)
    adjective = f"{random.choice(ADJECTIVES)} " if random.random() < 0.4 else ""
    if plural:
        return f"{random.choice(('the', 'some', 'many'))} {adjective}{_plural(noun)}"
    if random.random() < 0.6:
        return f"the {adjective}{noun}"
    return _with_article(adjective + noun)


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _plural(noun: str) -> str:
    return f"{noun}s"


def _third_person(verb: str) -> str:
    if verb.endswith("rry"):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("ss", "sh", "ch")) else f"{verb}s"
