"""Record the states and gates of a recurrent network's units while it reads, token by token.

This works for every module with cells (`captioner.nn.cells.Cell`), a language model or a captioner: the `step` of each
cell is wrapped while the network reads. Karpathy, Johnson & Li 2015, section 4.2.
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
LEFT, RIGHT = 0.1, 0.9  # a gate is saturated below the first and above the second (the paper's bounds)


@dataclass(frozen=True)
class Recording:
    """The values of all units after each of N tokens.

    values: name → (N, H) on the CPU: `layer1.h`, `layer1.c` (before the tanh), `layer1.forget_gate`, …
    starts: the index of the first token of each sequence (a text is one sequence, each caption is one).
    """

    tokens: list[str]
    values: dict[str, Tensor]
    starts: list[int]

    def unit(self, name: str) -> Float[Tensor, " N"]:
        """(N,) the values of one unit, by a name such as `layer1.c.37`; ConfigError if it does not exist."""
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
        """The states h and c of the cells, without their gates."""
        return {name: values for name, values in self.values.items() if name.split(".")[1] in STATES}

    @property
    def gates(self) -> dict[str, Tensor]:
        """The gates, values in (0, 1)."""
        return {name: values for name, values in self.values.items() if name.split(".")[1] not in STATES}


@torch.no_grad()
def record_text(model: LanguageModel, token_ids: Int[Tensor, " N"], tokens: Sequence[str]) -> Recording:
    """Read <START> and one text; row i has the values after `tokens[i]`. The model is set to eval mode.

    token_ids, tokens: the text, as ids and as strings.
    """
    model.eval()
    device = model.embedding.weight.device
    _, hidden = model.step(torch.tensor([SPECIAL_TOKENS.start], device=device), model.initial(1))
    with record_cell_states(model) as recorded:
        for token_id in torch.split(token_ids.to(device), 1):
            _, hidden = model.step(token_id, hidden)
    return Recording(list(tokens), {name: torch.cat(rows).cpu() for name, rows in recorded.items()}, [0])


@torch.no_grad()
def record_captions(
    model: CaptioningModel, features: ImageFeatures, captions: Sequence[Sequence[int]], words: Sequence[Sequence[str]]
) -> Recording:
    """Read one caption per image, word by word; rows are in reading order, caption after caption.

    captions: token ids; words: these tokens as strings. The model is set to eval mode.
    """
    model.eval()
    decoder = model.decoder
    device = features.vector.device
    state = decoder.init_state(features)
    state = decoder.step(torch.full((len(captions),), SPECIAL_TOKENS.start, device=device), state).state
    values: dict[str, list[list[Tensor]]] = defaultdict(lambda: [[] for _ in captions])
    reading = list(range(len(captions)))
    for position in range(max(map(len, captions), default=0)):
        remaining = [row for row, image in enumerate(reading) if position < len(captions[image])]
        rows = torch.tensor(remaining, device=device)
        state, reading = select_images(state, rows, rows), [reading[row] for row in remaining]
        with record_cell_states(decoder) as recorded:
            state = decoder.step(torch.tensor([captions[i][position] for i in reading], device=device), state).state
        for name, (value,) in recorded.items():
            for row, image in enumerate(reading):
                values[name][image].append(value[row].cpu())
    starts = [sum(map(len, captions[:image])) for image in range(len(captions))]
    stacked = {name: torch.stack([row for of_caption in rows for row in of_caption]) for name, rows in values.items()}
    return Recording([word for caption in words for word in caption], stacked, starts)


def join_recordings(recordings: Sequence[Recording]) -> Recording:
    """Concatenate recordings of one model."""
    tokens: list[str] = []
    starts: list[int] = []
    for recording in recordings:
        starts += [len(tokens) + start for start in recording.starts]
        tokens += recording.tokens
    names = recordings[0].values if recordings else {}
    return Recording(
        tokens, {name: torch.cat([recording.values[name] for recording in recordings]) for name in names}, starts
    )


@contextmanager
def record_cell_states(module: nn.Module) -> Iterator[Mapping[str, list[Tensor]]]:
    """Inside the context, every step of every cell of `module` appends its states and gates, (N, H) each, by name."""
    recorded: dict[str, list[Tensor]] = defaultdict(list)
    cells = cells_of(module)
    for layer, cell in enumerate(cells, start=1):
        cell.step = _recording_step(cell, f"layer{layer}", recorded)  # type: ignore[assignment,method-assign]
    try:
        yield recorded
    finally:
        for cell in cells:
            del cell.step  # restores the method of the class


def _recording_step(cell: Cell, layer: str, recorded: dict[str, list[Tensor]]) -> Callable[[Tensor, Hidden], Hidden]:
    """The cell's `step`, wrapped to append its states and gates to `recorded`."""
    original_step = cell.step

    def step(inputs: Tensor, hidden: Hidden) -> Hidden:
        with _Sigmoids() as gates:
            after = original_step(inputs, hidden)
        for name, value in zip(STATES, after, strict=False):
            recorded[f"{layer}.{name}"].append(value.detach())
        for name, value in zip(cell.gate_names, gates.outputs, strict=bool(cell.gate_names)):
            recorded[f"{layer}.{name}"].append(value.detach())
        return after

    return step


class _Sigmoids(TorchFunctionMode):
    """Keeps the results of `torch.sigmoid`: in a cell's step these are its gates, in the order of computation."""

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
    """How often each unit of a gate is closed (below 0.1) and open (above 0.9): fractions of time, (H,) each."""

    left: Tensor
    right: Tensor


def gate_saturation(recording: Recording) -> dict[str, Saturation]:
    """For each gate of each layer, the fractions of time in which its units are saturated (section 4.3)."""
    return {
        name: Saturation((values < LEFT).float().mean(dim=0), (values > RIGHT).float().mean(dim=0))
        for name, values in recording.gates.items()
    }
