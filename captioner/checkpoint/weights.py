"""`model.safetensors`: a model's weights in float32, or, in an export, in fewer bytes; in memory always float32.

    float32    what a run writes: the exact weights
    float16    what an export writes: matrices in float16, vectors (biases, BatchNorm's) in float32
    8 bits     the large matrices of the parts for which an export is asked to, and the largest ones of an export that
               would exceed its size limit otherwise

A matrix in 8 bits is stored as integers q in −127 … 127 and one scale s per row, an output channel of a convolution,
under the weight's name and the name + `.scale`: row = s · q with s = max |row| / 127, so no weight changes by more than
s / 2. s · q is one product in float32, so that torch, NumPy and onnxruntime restore the same bits.

Weights that share a tensor (tied embeddings) are stored under one of their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from captioner.errors import CheckpointError

_SCALE = ".scale"
_LEVELS = 127
_SHORTEST_ROW, _FEWEST_VALUES = 64, 4096  # of large matrices; a depthwise convolution has 9 or 25 values per row
_LARGEST_HALF = torch.finfo(torch.float16).max


def unique_weights(model: nn.Module) -> dict[str, Tensor]:
    """Name → tensor of all parameters and buffers; a shared tensor is under its first name only."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            unique[name] = tensor.detach()
        seen.add(id(tensor))
    return unique


def to_float16(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with matrices and kernels in float16; CheckpointError for values that float16 cannot represent."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()) or (_is_matrix(tensor) and float(tensor.abs().max()) > _LARGEST_HALF):
            raise CheckpointError(
                f"{name} has values that are not finite or too large for float16: train the model again."
            )
    return {name: tensor.half() if _is_matrix(tensor) else tensor for name, tensor in weights.items()}


def compress_to(
    weights: Mapping[str, Tensor], most: int | None = None, parts: Sequence[str] = ()
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in float16, some matrices in 8 bits; and the names of these.

    parts: of the model, decoder and encoder: their large matrices are in 8 bits, those of at least 4,096 values with at
    least 64 in a row. most: the limit in bytes; the largest other matrices are in 8 bits too where that is needed.
    Raises CheckpointError if the weights take more even then.
    """
    packed = to_float16(weights)
    in_8_bits = [
        name
        for name, tensor in weights.items()
        if _is_large(tensor) and any(name.startswith(f"{part}.") for part in parts)
    ]
    for name in in_8_bits:
        packed[name], packed[name + _SCALE] = quantize_to_8_bits(weights[name])
    others = [name for name in weights if _is_matrix(weights[name]) and name not in in_8_bits]
    for name in sorted(others, key=lambda name: -weights[name].numel()):
        if most is None or size_in_bytes(packed) <= most:
            break
        packed[name], packed[name + _SCALE] = quantize_to_8_bits(weights[name])
        in_8_bits.append(name)
    if most is not None and size_in_bytes(packed) > most:
        raise CheckpointError(
            f"The weights take at least {size_in_bytes(packed):,} bytes, and the limit leaves {most:,} for them."
        )
    return packed, in_8_bits


def quantize_to_8_bits(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(q, s): the matrix as 8-bit integers, and one scale per row, of shape (rows, 1, …)."""
    matrix = matrix.float()
    scale = matrix.abs().amax(tuple(range(1, matrix.dim())), keepdim=True) / _LEVELS
    quotient = matrix / torch.where(scale > 0, scale, 1.0)
    return quotient.round().clamp(-_LEVELS, _LEVELS).to(torch.int8), scale


def restore_from_8_bits(quotient: Tensor, scale: Tensor) -> Tensor:
    """s · q, in float32."""
    return quotient.float() * scale.float()


def size_in_bytes(weights: Mapping[str, Tensor]) -> int:
    """The bytes that the tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the tensors to a safetensors file in the precision that they have."""
    path.write_bytes(safetensors.torch.save({name: tensor.contiguous() for name, tensor in weights.items()}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name → tensor, in float32 whatever precision the file has; integer buffers keep their type.

    Raises RuntimeError or SafetensorError if the file is not one that `write_weights` writes.
    """
    stored = safetensors.torch.load_file(path)
    in_8_bits = _pairs(stored)
    weights = {}
    for name, tensor in stored.items():
        if name in in_8_bits:
            weights[name] = restore_from_8_bits(*in_8_bits[name])
        elif name.removesuffix(_SCALE) not in in_8_bits:
            # a copy: the file may change, and its alignment is not the best for arithmetic
            weights[name] = tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
    return weights


def read_8_bits(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Name → (q, s) of the weights that the file has in 8 bits. Raises what `read_weights` raises."""
    return _pairs(safetensors.torch.load_file(path))


def _pairs(stored: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    pairs = {}
    for name, tensor in stored.items():
        scale = stored.get(name + _SCALE) if tensor.dtype == torch.int8 else None
        if scale is None:
            continue
        rows = (*tensor.shape[:1], *(1 for _ in tensor.shape[1:]))
        if scale.shape != rows:  # otherwise broadcasting could make a tensor of any size
            raise RuntimeError(f"{name}{_SCALE} has the shape {tuple(scale.shape)}, not one value per row.")
        pairs[name] = (tensor, scale)
    return pairs


def load_into(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into `model`, or assign them if the model is on the meta device.

    Raises RuntimeError if a weight is missing, unknown, or of another shape or type.
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
            raise RuntimeError(f"\n{name} is of type {tensor.dtype}, not {wanted[name].dtype}.")
    model.load_state_dict(complete, assign=bare)


def _tied(wanted: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of each tensor that has more than one name."""
    names: dict[int, list[str]] = {}
    for name, tensor in wanted.items():
        names.setdefault(id(tensor), []).append(name)
    return [several for several in names.values() if len(several) > 1]


def _is_matrix(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() >= 2


def _is_large(tensor: Tensor) -> bool:
    return _is_matrix(tensor) and tensor.numel() >= max(_FEWEST_VALUES, _SHORTEST_ROW * len(tensor))
