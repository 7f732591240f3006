"""`model.safetensors`: a model's weights as they are, or, in an export, in fewer bytes; in memory always float32.

    as they are    what a run writes: every number in float32, exactly
    halved         what an export writes: matrices in float16, vectors (biases, BatchNorm's) as they are
    in 8 bits      the largest matrices of an export that would not fit its limit otherwise

A matrix in 8 bits is stored as whole numbers q in −127 … 127 and one scale s a row, under the weight's name and the
name + `.scale`: row = s · q with s = max |row| / 127, so no number moves by more than s / 2.

Weights that share a tensor (tied embeddings) are stored under one of their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from captioner.errors import CheckpointError

_SCALE = ".scale"
_LEVELS = 127
_LARGEST_HALF = torch.finfo(torch.float16).max


def own_weights(model: nn.Module) -> dict[str, Tensor]:
    """Name → tensor of all parameters and buffers, a shared one under its first name only."""
    seen: set[int] = set()
    own = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            own[name] = tensor.detach()
        seen.add(id(tensor))
    return own


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in float16. CheckpointError for a number that float16 cannot hold."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()) or (_is_matrix(tensor) and float(tensor.abs().max()) > _LARGEST_HALF):
            raise CheckpointError(f"{name} holds numbers that are none or too large for float16: train it again.")
    return {name: tensor.half() if _is_matrix(tensor) else tensor for name, tensor in weights.items()}


def within_bytes(weights: Mapping[str, Tensor], most: int) -> tuple[dict[str, Tensor], list[str]]:
    """`halved`, and the largest matrices in 8 bits until all take at most `most` bytes; and which matrices those are.

    CheckpointError where it is too much even so.
    """
    packed, in_8_bits = halved(weights), list[str]()
    for name in sorted(
        filter(lambda name: _is_matrix(weights[name]), weights), key=lambda name: -weights[name].numel()
    ):
        if size_of(packed) <= most:
            break
        packed[name], packed[name + _SCALE] = in_bytes(weights[name])
        in_8_bits.append(name)
    if size_of(packed) > most:
        raise CheckpointError(f"The weights take {size_of(packed):,} bytes at least, and {most:,} are left for them.")
    return packed, in_8_bits


def in_bytes(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(q, s): whole numbers in 8 bits, and a scale for each row, of shape (rows, 1, …)."""
    matrix = matrix.float()
    scale = matrix.abs().amax(tuple(range(1, matrix.dim())), keepdim=True) / _LEVELS
    quotient = matrix / torch.where(scale > 0, scale, 1.0)
    return quotient.round().clamp(-_LEVELS, _LEVELS).to(torch.int8), scale


def size_of(weights: Mapping[str, Tensor]) -> int:
    """Bytes of all their numbers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write them as they are now."""
    path.write_bytes(safetensors.torch.save({name: tensor.contiguous() for name, tensor in weights.items()}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name → float32 tensor, or one of whole numbers as they were.

    RuntimeError or SafetensorError where it is no such file.
    """
    stored = safetensors.torch.load_file(path)
    weights = {}
    for name, tensor in stored.items():
        base = name.removesuffix(_SCALE)
        if base != name and base in stored and stored[base].dtype == torch.int8:
            continue
        scale = stored.get(name + _SCALE) if tensor.dtype == torch.int8 else None
        if scale is not None:
            rows = (*tensor.shape[:1], *(1 for _ in tensor.shape[1:]))
            if scale.shape != rows:  # or their product could be of any size
                raise RuntimeError(f"{name}{_SCALE} has the shape {tuple(scale.shape)}, not one number a row.")
            weights[name] = tensor.float() * scale.float()
        else:
            # a copy: the file may change, and how tensors lie in it is no way to lie for arithmetic
            weights[name] = tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
    return weights


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make `weights` those of `model`: in place, or, of a model on the meta device, as its very tensors.

    RuntimeError where a weight is missing, left over, of another shape or another kind.
    """
    complete = dict(weights)
    wanted: dict[str, Tensor] = model.state_dict(keep_vars=True)
    bare = any(tensor.is_meta for tensor in wanted.values())
    for names in _tied(wanted):
        stored = next((name for name in names if name in complete), None)
        if stored is not None:
            shared = complete[stored]
            tie = wanted[stored]
            if bare and isinstance(tie, nn.Parameter):
                shared = nn.Parameter(shared, requires_grad=tie.requires_grad and shared.is_floating_point())
            complete |= dict.fromkeys(names, shared)
    for name, tensor in complete.items():
        if name in wanted and tensor.dtype != wanted[name].dtype:
            raise RuntimeError(f"\n{name} holds numbers of kind {tensor.dtype}, not {wanted[name].dtype}.")
    model.load_state_dict(complete, assign=bare)


def _tied(wanted: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of each tensor that has more than one."""
    names: dict[int, list[str]] = {}
    for name, tensor in wanted.items():
        names.setdefault(id(tensor), []).append(name)
    return [several for several in names.values() if len(several) > 1]


def _is_matrix(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() >= 2
