"""Reads pickles of unknown origin and executes nothing.

A pickle is a program for a small stack machine, and Python's `pickle` lets it call any function by name. This machine
has no such instruction: where a pickle calls something, the name is looked up in a table of builders (`builders.py`)
which make tensors, arrays, dictionaries and plain values; a name that is not there is refused. An object of an unknown
class, such as a whole `nn.Module`, becomes a `Record` of its attributes, without its class being imported.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from captioner.errors import CheckpointError

# Of the standard library of Python 2, whose names pickles of protocol 2 and older use.
_PYTHON_2 = frozenset({"__builtin__", "commands", "copy_reg", "popen2", "posixfile", "exceptions"})
# Packages whose functions do more than make objects: of these only names in the table may occur at all.
_KNOWN_PACKAGES = frozenset({"torch", "torchvision", "numpy", "scipy", "pandas", "joblib", "dill", "cloudpickle", "nt"})
_MODULE_CLASSES = ("torch.nn.", "torch.optim.", "torchvision.models.", "torchvision.ops.")


@dataclass(frozen=True)
class Global:
    """The name of a class or function that a pickle mentions."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object of a class that is not imported: its attributes as they were stored."""

    kind: Global
    attributes: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class _Mark:
    """The opcode MARK on the stack."""


_MARK = _Mark()
Builder = Callable[..., Any]


class PickleReader:
    """Reads the pickles of one file; they share no memory. `name`: of the file, for messages."""

    def __init__(
        self,
        name: str,
        builders: Mapping[Global, Builder],
        persistent: Callable[[Any], Any] | None = None,
        constants: Mapping[Global, Any] | None = None,
    ) -> None:
        """`persistent`: persistent id → object; `constants`: names that stand for a value, such as a dtype."""
        self.name = name
        self.builders = builders
        self.constants = dict(constants or {})
        self.persistent = persistent

    def load(self, stream: IO[bytes]) -> Any:
        """The object of the next pickle in `stream`, which is read up to the pickle's end.

        CheckpointError where it is damaged, or calls or names what it must not.
        """
        machine = _Machine(self)
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                machine.run(opcode.name, argument)
        except CheckpointError:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise CheckpointError(
                f"{self.name} is damaged or no pickle ({type(error).__name__}: {error!s:.120}). Nothing in it was "
                "executed. Expected a file as the project wrote it: copy it again."
            ) from error
        return machine.result

    def refuse(self, what: str) -> CheckpointError:
        """The error for a pickle that asks for more than data."""
        return CheckpointError(
            f"{self.name} was refused, and nothing in it was executed: {what}. A checkpoint needs only tensors, "
            "dictionaries and plain values; do not open this file with torch.load or pickle."
        )

    def find(self, kind: Global) -> Any:
        """What a name in a pickle stands for: itself, or a constant. CheckpointError for one that must not occur."""
        if kind in self.constants:
            return self.constants[kind]
        if kind not in self.builders and not _may_be_a_class(kind):
            raise self.refuse(f"it names {kind}")
        return kind

    def call(self, called: Any, arguments: Any) -> Any:
        """The result of REDUCE, from the table of builders only."""
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is not a name")
        if called not in self.builders:
            raise self.refuse(f"it calls {called}")
        return self.builders[called](*arguments)

    def new_object(self, kind: Any) -> Any:
        """An object that is filled by BUILD: an inert record, or an empty dictionary of the classes in the table."""
        if not isinstance(kind, Global):
            raise ValueError("an object of something that is not a class")
        return self.builders[kind]() if kind in self.builders else Record(kind)


def _may_be_a_class(kind: Global) -> bool:
    """Whether this may be a class of a captioning project or a network layer, of which a `Record` is made."""
    top = kind.module.split(".")[0]
    if f"{kind.module}.".startswith(_MODULE_CLASSES) or kind == Global("argparse", "Namespace"):
        return kind.name[:1].isupper()
    if kind.module == "__main__":
        return True
    return top not in sys.stdlib_module_names and top not in _PYTHON_2 and top not in _KNOWN_PACKAGES


class _Machine:
    """The stack machine of one pickle."""

    def __init__(self, reader: PickleReader) -> None:
        self.reader = reader
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def run(self, opcode: str, argument: Any) -> None:
        """One instruction."""
        if opcode in _PUSHES_ARGUMENT:
            self.stack.append(argument)
        elif opcode in _PUSHES:
            self.stack.append(_PUSHES[opcode]())
        else:
            step = getattr(self, f"_{opcode.lower()}", None)
            if step is None:
                raise self.reader.refuse(f"it has the instruction {opcode}")
            step(argument)

    def _pop_to_mark(self) -> list[Any]:
        position = len(self.stack) - 1
        while self.stack[position] is not _MARK:  # IndexError below the bottom would wrap around: checked here
            position -= 1
            if position < 0:
                raise ValueError("a MARK is missing")
        items = self.stack[position + 1 :]
        del self.stack[position:]
        return items

    def _proto(self, _: Any) -> None:
        """The protocol's version; the instructions are known whatever it is."""

    _frame = _proto

    def _stop(self, _: Any) -> None:
        self.result = self.stack.pop()

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    _binget = _long_binget = _get

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._pop_to_mark()))

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _tuple3(self, _: Any) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _list(self, _: Any) -> None:
        self.stack.append(self._pop_to_mark())

    def _dict(self, _: Any) -> None:
        items = self._pop_to_mark()
        self.stack.append({})
        self._set_items(items)

    def _frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(map(_hashable, self._pop_to_mark())))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        _checked(self.stack[-1], list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._pop_to_mark()
        _checked(self.stack[-1], list).extend(items)

    def _additems(self, _: Any) -> None:
        items = self._pop_to_mark()
        _checked(self.stack[-1], set).update(map(_hashable, items))

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _setitems(self, _: Any) -> None:
        self._set_items(self._pop_to_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = _checked(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_hashable(key)] = value

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.reader.find(Global(module, name)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.reader.find(Global(_checked(module, str), _checked(name, str))))

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        self.stack.append(self.reader.call(called, arguments))

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        kind = self.reader.find(Global(module, name))
        if self._pop_to_mark():
            raise self.reader.refuse(f"it calls {kind}")
        self.stack.append(self.reader.new_object(kind))

    def _obj(self, _: Any) -> None:
        kind, *arguments = self._pop_to_mark()
        if arguments:
            raise self.reader.refuse(f"it calls {kind}")
        self.stack.append(self.reader.new_object(kind))

    def _newobj(self, _: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if arguments != ():
            raise self.reader.refuse(f"it calls {kind}")
        self.stack.append(self.reader.new_object(kind))

    def _newobj_ex(self, _: Any) -> None:
        keywords, arguments, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if arguments != () or keywords != {}:
            raise self.reader.refuse(f"it calls {kind}")
        self.stack.append(self.reader.new_object(kind))

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if hasattr(type(target), "build"):  # a builder's own object: an array, or a type of numbers
            target.build(state)
        elif isinstance(target, Record):
            target.attributes |= _attributes(state)

    def _binpersid(self, _: Any) -> None:
        self._persid(self.stack.pop())

    def _persid(self, argument: Any) -> None:
        if self.reader.persistent is None:
            raise self.reader.refuse("it refers to objects outside of the file")
        self.stack.append(self.reader.persistent(argument))


_PUSHES_ARGUMENT = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_PUSHES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}


def _hashable(key: Any) -> Any:
    """A key of a dictionary: a plain value, or an object that is compared by identity.

    Tuples inside tuples are refused: the hash of a small pickle's tuples may take forever.
    """
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, (tuple, frozenset)) for part in parts):
        raise ValueError("a key of nested tuples")
    return key


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {kind.__name__} was expected, and a {type(value).__name__} found")
    return value


def _attributes(state: Any) -> dict[str, Any]:
    """Attributes from the state of an object: a dictionary, or a pair of it and of that of its slots."""
    parts = state if isinstance(state, tuple) else (state,)
    return {str(name): value for part in parts if isinstance(part, dict) for name, value in part.items()}
