"""C-like source code: variables are declared before use, brackets are nested, with tabs, comments and strings."""

from __future__ import annotations

from random import Random

from captioner.data.synthetic.texts.lexicon import CODE_THINGS, CODE_VERBS, CONSTANTS, FIELDS, MESSAGES, VARIABLES
from captioner.data.synthetic.texts.prose import sentence_without_speech
from captioner.data.synthetic.texts.wrapping import wrap

POINTERS = ("next", "parent", "owner")

MAX_DEPTH = 4  # of nested blocks in a function


def source(random: Random) -> str:
    """One source file: a comment, includes, a struct, and several functions."""
    parts = [_comment(random, 0)]
    parts.append("\n".join(f"#include <{random.choice(CODE_THINGS)}.h>" for _ in range(random.randint(1, 3))))
    thing = random.choice(CODE_THINGS)
    parts.append(_struct(random, thing))
    parts += [_function(random, thing) for _ in range(random.randint(2, 4))]
    return "\n\n".join(parts) + "\n"


def _comment(random: Random, indent: int) -> str:
    """A comment of several lines, each starting with a star."""
    tabs = "\t" * indent
    text = " ".join(sentence_without_speech(random) for _ in range(random.randint(1, 2)))
    lines = wrap(text, 66 - 8 * indent)
    return "\n".join([f"{tabs}/*", *(f"{tabs} * {line}" for line in lines), f"{tabs} */"])


def _struct(random: Random, thing: str) -> str:
    fields = random.sample(FIELDS, random.randint(2, 4))
    kinds = [
        f"\tstruct {thing} *{name};" if name in ("next", "parent", "owner") else f"\tint {name};" for name in fields
    ]
    return "\n".join([f"struct {thing} {{", *kinds, "};"])


def _function(random: Random, thing: str) -> str:
    name = f"{random.choice(CODE_VERBS)}_{thing}"
    names = random.sample(VARIABLES, random.randint(3, 4))
    argument, local = names[0], names[1:]
    lines = [_comment(random, 0)] if random.random() < 0.4 else []
    lines.append(f"static int {name}(struct {thing} *{thing}, int {argument})")
    lines.append("{")
    lines.append(f"\tint {', '.join(f'{variable} = 0' if variable == local[0] else variable for variable in local)};")
    lines.append("")
    lines += _block(random, thing, names, 1)
    lines.append(f"\treturn {random.choice((local[0], '0', '-EINVAL'))};")
    lines.append("}")
    return "\n".join(lines)


def _block(random: Random, thing: str, names: list[str], depth: int) -> list[str]:
    lines: list[str] = []
    for _ in range(random.randint(1, 3)):
        lines += _statement(random, thing, names, depth)
    return lines


def _statement(random: Random, thing: str, names: list[str], depth: int) -> list[str]:
    tabs, kind = "\t" * depth, random.random()
    if depth < MAX_DEPTH and kind < 0.22:
        lines = [f"{tabs}if ({_condition(random, thing, names)}) {{", *_block(random, thing, names, depth + 1)]
        if random.random() < 0.3:
            lines += [f"{tabs}}} else {{", *_block(random, thing, names, depth + 1)]
        return [*lines, f"{tabs}}}"]
    if depth < MAX_DEPTH and kind < 0.36:
        name = random.choice(names)
        head = f"for ({name} = 0; {name} < {_operand(random, thing, names)}; {name}++)"
        return [f"{tabs}{head} {{", *_block(random, thing, names, depth + 1), f"{tabs}}}"]
    if depth < MAX_DEPTH and kind < 0.42:
        return [
            f"{tabs}while ({_condition(random, thing, names)}) {{",
            *_block(random, thing, names, depth + 1),
            f"{tabs}}}",
        ]
    if kind < 0.56:
        message = random.choice(MESSAGES)
        values = "".join(f", {_operand(random, thing, names)}" for _ in range(message.count("%")))
        return [f'{tabs}printf("{message}\\n"{values});']
    if kind < 0.62:
        return [_comment(random, depth)] if depth < 3 else [f"{tabs}/* {random.choice(CODE_THINGS)} */"]
    if kind < 0.68:
        return [f"{tabs}if ({_condition(random, thing, names)})", f"{tabs}\treturn -EINVAL;"]
    target = random.choice((random.choice(names), f"{thing}->{random.choice(FIELDS)}"))
    return [f"{tabs}{target} {random.choice(('=', '=', '+=', '|='))} {_expression(random, thing, names, 0)};"]


def _condition(random: Random, thing: str, names: list[str]) -> str:
    compared = f"{_operand(random, thing, names)} {random.choice(('<', '>', '==', '!=', '<=', '>='))} "
    compared += _expression(random, thing, names, 2)
    if random.random() < 0.3:
        return f"{compared} {random.choice(('&&', '||'))} !{random.choice(CODE_VERBS)}_{thing}({thing})"
    return compared


def _expression(random: Random, thing: str, names: list[str], depth: int) -> str:
    """Operands, calls and brackets, nested up to three deep."""
    kind = random.random()
    if depth >= 3 or kind < 0.4:
        return _operand(random, thing, names)
    if kind < 0.6:
        arguments = ", ".join(_expression(random, thing, names, depth + 1) for _ in range(random.randint(1, 2)))
        return f"{random.choice(CODE_VERBS)}_{thing}({arguments})"
    left, right = (_expression(random, thing, names, depth + 1) for _ in range(2))
    joined = f"{left} {random.choice(('+', '-', '*', '&', '>>'))} {right}"
    return f"({joined})" if depth else joined


def _operand(random: Random, thing: str, names: list[str]) -> str:
    kind = random.random()
    if kind < 0.45:
        return random.choice(names)
    if kind < 0.65:
        return f"{thing}->{random.choice(FIELDS)}"
    if kind < 0.75:
        return f"{thing}[{random.choice(names)}]"
    return random.choice(CONSTANTS) if kind < 0.88 else str(random.choice((0, 1, 2, 4, 8, 16, 255)))
