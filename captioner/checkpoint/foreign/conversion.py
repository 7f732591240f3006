"""What the converters of all projects share: their weights by name, their vocabulary in our order, and the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.foreign.pickle_reader import Record
from captioner.config import DecodeConfig, ModelConfig
from captioner.errors import CheckpointError
from captioner.text.vocabulary import SPECIAL_NAMES, Vocabulary

_DEEPEST = 32  # modules inside modules
_IMPOSSIBLE = 30.0  # nats below every bias: the probability of a word that the project's decoder cannot generate


@dataclass(frozen=True)
class ForeignEncoder:
    """The encoder of a checkpoint: `weights` under torchvision's names, and how its images and features are prepared.

    weights is None where the project computes features beforehand, so that its checkpoints have no encoder.
    """

    weights: dict[str, Tensor] | None
    image_size: int
    interpolation: str = "bilinear"
    grid_size: int | None = None


@dataclass(frozen=True)
class ForeignModel:
    """A checkpoint of another project in our terms.

    about: what it is, for people; feature_dim: D that the decoder reads; decoder: weights under our names; notes: what
    a user should know about differences.
    """

    about: str
    model: ModelConfig
    feature_dim: int
    decoder: dict[str, Tensor]
    vocabulary: Vocabulary
    encoder: ForeignEncoder
    decode: DecodeConfig
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ForeignFiles:
    """The files of an import: the checkpoint with its content, and those given besides, None where they are to be found
    beside it."""

    path: Path
    content: Any
    vocabulary: Path | None = None
    encoder: Path | None = None


class Weights:
    """The tensors of a checkpoint, taken by name; each shape is checked, and none may be left over."""

    def __init__(self, source: Path, tensors: Mapping[str, Tensor]) -> None:
        self.source = source
        self._tensors = dict(tensors)

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor, from which the sizes of the network follow."""
        shape = tuple(self._get(name).shape)
        if len(shape) != dimensions:
            raise CheckpointError(f"{self.source}: {name} has the shape {shape}: expected {dimensions} dimensions.")
        return shape

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor in float32, and remove it."""
        tensor = self._get(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{self.source}: {name} has the shape {tuple(tensor.shape)}, and the other weights need {shape}: the "
                "file was altered, or belongs to a changed version of the project."
            )
        return self._tensors.pop(name).detach().float().contiguous()

    def drop(self, name: str) -> None:
        """Leave a tensor out, where it is there."""
        self._tensors.pop(name, None)

    def rest(self) -> dict[str, Tensor]:
        """All tensors that were not taken, in their own types, and remove them."""
        rest = {name: tensor.detach() for name, tensor in self._tensors.items()}
        self._tensors.clear()
        return rest

    def finish(self) -> None:
        """CheckpointError where tensors are left over: the network has parts that were not converted."""
        if self._tensors:
            names = ", ".join([*self._tensors][:3] + ["…"] * (len(self._tensors) > 3))
            raise CheckpointError(
                f"{self.source} has weights that the project's own network does not have ({names}): it belongs to a "
                "changed version of it, which cannot be imported."
            )

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def _get(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise CheckpointError(
                f"{self.source} has no weights {name}: the file was altered, or belongs to a changed version of the "
                "project."
            )
        return self._tensors[name]


@dataclass(frozen=True)
class WordRows:
    """For each of our token ids, the project's id whose weights it has; None for a token that the project lacks."""

    vocabulary: Vocabulary
    read: Sequence[int | None]  # as input
    predicted: Sequence[int | None]  # as output

    def embedding(self, weight: Tensor) -> Tensor:
        """(V', E) → (V, E); zeros for a token that the project lacks."""
        zeros = weight.new_zeros(weight.shape[1])
        return torch.stack([zeros if row is None else weight[row] for row in self.read])

    def output(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of the output layer; a token that the project lacks is never predicted."""
        zeros, never = weight.new_zeros(weight.shape[1]), bias.min() - _IMPOSSIBLE
        rows = torch.stack([zeros if row is None else weight[row] for row in self.predicted])
        return rows, torch.stack([never if row is None else bias[row] for row in self.predicted])


def own_vocabulary(words: Sequence[str], source: Path) -> Vocabulary:
    """Our vocabulary of the project's words; CheckpointError where a word is repeated or one of our special tokens."""
    if len(set(words)) != len(words) or set(words) & set(SPECIAL_NAMES):
        repeated = next((word for word in words if word in SPECIAL_NAMES or words.count(word) > 1), "")
        raise CheckpointError(f"{source} has the word {repeated!r} twice, or it is a token of ours.")
    return Vocabulary(words)


def state_dict_of(value: Any, source: Path) -> dict[str, Tensor]:
    """The weights of a pickled `nn.Module`, or of a state dict, by name; those of DataParallel under their own names.

    CheckpointError where the object is neither.
    """
    if isinstance(value, Record):
        tensors = dict(_weights_of_module(value, "", 0, source))
    elif isinstance(value, dict) and value and all(isinstance(tensor, Tensor) for tensor in value.values()):
        tensors = {str(name): tensor for name, tensor in value.items()}
    else:
        raise CheckpointError(f"{source} has no network where one is expected, but a {type(value).__name__}.")
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _weights_of_module(module: Record, prefix: str, depth: int, source: Path) -> Iterator[tuple[str, Tensor]]:
    if depth > _DEEPEST:
        raise CheckpointError(f"{source} has modules inside modules without end: the file was altered.")
    for group in ("_parameters", "_buffers"):
        tensors = module.attributes.get(group)
        for name, tensor in tensors.items() if isinstance(tensors, dict) else ():
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor
    children = module.attributes.get("_modules")
    for name, child in children.items() if isinstance(children, dict) else ():
        if isinstance(child, Record):
            yield from _weights_of_module(child, f"{prefix}{name}.", depth + 1, source)


def sum_of_biases(weights: Weights, names: Sequence[str], size: int) -> Tensor:
    """The sum of several biases of one layer: recurrent layers of other code have two."""
    return torch.stack([weights.take(name, size) for name in names]).sum(0)


_RESNET_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def resnet_weights(tensors: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The weights of `nn.Sequential(*list(resnet.children())[:-k])`, called resnet, under torchvision's names."""
    renamed = {}
    for name, tensor in tensors.items():
        top, _, rest = name.removeprefix("resnet.").partition(".")
        if not name.startswith("resnet.") or top not in _RESNET_CHILDREN:
            raise CheckpointError(f"{source}: the encoder's {name} is no part of a ResNet of torchvision.")
        renamed[f"{_RESNET_CHILDREN[top]}.{rest}"] = tensor.detach()
    return renamed


def file_beside(files: ForeignFiles, what: str, flag: str, candidates: Sequence[Path], written_by: str) -> Path:
    """The first of `candidates` that exists; CheckpointError that names the file's usual place and the flag."""
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        places = " or ".join(dict.fromkeys(map(str, candidates)))
        raise CheckpointError(
            f"{files.path} needs {what}, which {written_by}: it is not at {places}. Copy it there, or name it with "
            f"{flag}."
        )
    return found
