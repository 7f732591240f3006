"""What every unit of a recurrent network does while it reads: states and gates, token by token.

Works on any module that holds cells (`captioner.nn.cells.Cell`), language model or captioner: each cell's `step` is
listened to while the network reads as it always does. Karpathy, Johnson & Li 2015, section 4.2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captioner.errors import ConfigError, near_misses
from captioner.nn.cells import Cell, Hidden, cells_of
from captioner.nn.decoders.language_model import LanguageModel
from captioner.nn.model import CaptioningModel
from captioner.nn.types import ImageFeatures, select_images
from captioner.text.vocabulary import SPECIAL_TOKENS

STATES = ("h", "c")
LEFT, RIGHT = 0.1, 0.9  # below and above: a gate is saturated (the paper's bounds)


@dataclass(frozen=True)
class Recording:
    """N tokens that were read, and every unit's value after each.

    values: name → (N, H) on the CPU: `layer1.h`, `layer1.c` (not squashed), `layer1.forget_gate`, …
    starts: the index of each passage's first token (a text is one passage, each caption another).
    """

    tokens: list[str]
    values: dict[str, Tensor]
    starts: list[int]

    def unit(self, name: str) -> Float[Tensor, " N"]:
        """One unit by its name, such as `layer1.c.37`; ConfigError where there is none."""
        group, _, number = name.rpartition(".")
        if group not in self.values:
            raise ConfigError(
                f"unit={name} does not exist.{near_misses(group, self.values)} Expected one of "
                f"{', '.join(self.values)} with a number, such as {next(iter(self.values))}.0."
            )
        width = self.values[group].shape[1]
        if not number.isdecimal() or int(number) >= width:
            raise ConfigError(f"unit={name} does not exist: {group} has the units 0 to {width - 1}.")
        return self.values[group][:, int(number)]

    @property
    def states(self) -> dict[str, Tensor]:
        """What the cells carry, without their gates."""
        return {name: values for name, values in self.values.items() if name.split(".")[1] in STATES}

    @property
    def gates(self) -> dict[str, Tensor]:
        """The gates, values in (0, 1)."""
        return {name: values for name, values in self.values.items() if name.split(".")[1] not in STATES}


@torch.no_grad()
def record_text(model: LanguageModel, numbers: Int[Tensor, " N"], tokens: Sequence[str]) -> Recording:
    """Read one text after <START>; row i is what stands after `tokens[i]` was read. The model is put in eval mode."""
    model.eval()
    device = model.embedding.weight.device
    _, hidden = model.step(torch.tensor([SPECIAL_TOKENS.start], device=device), model.initial(1))
    with record_cell_states(model) as heard:
        for number in torch.split(numbers.to(device), 1):
            _, hidden = model.step(number, hidden)
    return Recording(list(tokens), {name: torch.cat(rows).cpu() for name, rows in heard.items()}, [0])


@torch.no_grad()
def record_captions(
    model: CaptioningModel, features: ImageFeatures, captions: Sequence[Sequence[int]], words: Sequence[Sequence[str]]
) -> Recording:
    """Read one caption an image, word by word; rows are in reading order, caption after caption.

    captions: word numbers; words: the same as text. The model is put in eval mode.
    """
    model.eval()
    decoder = model.decoder
    device = features.vector.device
    state = decoder.init_state(features)
    state = decoder.step(torch.full((len(captions),), SPECIAL_TOKENS.start, device=device), state).state
    values: dict[str, list[list[Tensor]]] = defaultdict(lambda: [[] for _ in captions])
    reading = list(range(len(captions)))
    for position in range(max(map(len, captions), default=0)):
        still = [row for row, image in enumerate(reading) if position < len(captions[image])]
        rows = torch.tensor(still, device=device)
        state, reading = select_images(state, rows, rows), [reading[row] for row in still]
        with record_cell_states(decoder) as heard:
            state = decoder.step(torch.tensor([captions[i][position] for i in reading], device=device), state).state
        for name, (value,) in heard.items():
            for row, image in enumerate(reading):
                values[name][image].append(value[row].cpu())
    starts = [sum(map(len, captions[:image])) for image in range(len(captions))]
    stacked = {name: torch.stack([row for own in rows for row in own]) for name, rows in values.items()}
    return Recording([word for own in words for word in own], stacked, starts)


def join_recordings(recordings: Sequence[Recording]) -> Recording:
    """Several as one, in their order."""
    tokens: list[str] = []
    starts: list[int] = []
    for recording in recordings:
        starts += [len(tokens) + start for start in recording.starts]
        tokens += recording.tokens
    names = recordings[0].values if recordings else {}
    return Recording(tokens, {name: torch.cat([one.values[name] for one in recordings]) for name in names}, starts)


@contextmanager
def record_cell_states(module: nn.Module) -> Iterator[Mapping[str, list[Tensor]]]:
    """While this is open, every step of every cell in `module` adds its states and gates, (N, H) each, by name."""
    heard: dict[str, list[Tensor]] = defaultdict(list)
    cells = cells_of(module)
    for layer, cell in enumerate(cells, start=1):
        cell.step = _listening(cell, f"layer{layer}", heard)  # type: ignore[assignment,method-assign]
    try:
        yield heard
    finally:
        for cell in cells:
            del cell.step  # the class's own is there again


def _listening(cell: Cell, layer: str, heard: dict[str, list[Tensor]]) -> Callable[[Tensor, Hidden], Hidden]:
    """The cell's step, which also writes down what it gave."""
    own_step = cell.step

    def step(inputs: Tensor, hidden: Hidden) -> Hidden:
        with _Sigmoids() as gates:
            after = own_step(inputs, hidden)
        for name, value in zip(STATES, after, strict=False):
            heard[f"{layer}.{name}"].append(value.detach())
        for name, value in zip(cell.gate_names, gates.outputs, strict=bool(cell.gate_names)):
            heard[f"{layer}.{name}"].append(value.detach())
        return after

    return step


class _Sigmoids(TorchFunctionMode):
    """Keeps what `torch.sigmoid` gives: in a cell's step, its gates, in the order in which they are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(
        self, function: Any, types: Iterable[type], arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        if function is torch.sigmoid:
            self.outputs.append(result)
        return result


@dataclass(frozen=True)
class Saturation:
    """How often each unit of a gate is shut (below 0.1) and open (above 0.9): fractions of time, (H,) each."""

    left: Tensor
    right: Tensor


def gate_saturation(recording: Recording) -> dict[str, Saturation]:
    """Section 4.3 of the paper: for each gate of each layer, the fractions of time in which a unit is saturated."""
    return {
        name: Saturation((values < LEFT).float().mean(dim=0), (values > RIGHT).float().mean(dim=0))
        for name, values in recording.gates.items()
    }
