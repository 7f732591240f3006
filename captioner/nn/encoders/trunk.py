"""An encoder's trunk: a convolutional network up to its last feature map.

Every torchvision classification CNN is a sequence of blocks followed by a head (pooling, classifier). Removing the head
by name and keeping the other children in order gives the feature map of all of them, so no architecture needs its own
code, and the parameters keep torchvision's names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captioner.config import TransformConfig
from captioner.errors import ConfigError
from captioner.nn.types import ImageFeatures

# Children of torchvision's classification networks after the last feature map, or auxiliary classifiers.
HEAD = frozenset({"avgpool", "dropout", "fc", "classifier", "aux1", "aux2", "AuxLogits"})
# Children that only contain blocks.
WRAPPERS = frozenset({"features", "layers", "trunk_output"})

# On a CPU, the activations of this many images fit into the cache: 1.1 to 1.6 times as fast as 32 images at once.
_CPU_BATCH = 8

# Of large images fewer, but at least 4: the largest activations of EfficientNet-Lite are then less than 32 MiB, and
# glibc uses their memory again. Larger ones it would get from the system, and return, for every layer.
_CPU_PIXELS = 6 * 224**2
_FEWEST = 4

# Functions of which the shape of the first argument is that of the result.
_KEEP_SHAPE = (F.batch_norm, F.hardtanh, Tensor.add_)

# The results of `feature_map_shape`, by all that they depend on.
_FEATURE_MAP_SHAPES: dict[tuple[object, ...], tuple[int, int, int]] = {}

WeightsReader = Callable[[str], tuple[dict[str, Tensor], str]]
"""The value of `encoder.weights` → a state dict with the trunk's names, and its source for messages."""


@dataclass(frozen=True)
class TokenLayout:
    """How the Q tokens of a vision transformer are read: the first one is the vector.

    prefix: the number of tokens that are no regions; the others are the regions, rows × columns in reading order.
    """

    prefix: int
    rows: int
    columns: int


@dataclass(frozen=True)
class EncoderNetwork:
    """What an entry of `captioner.config.ENCODERS` returns for its settings (an `EncoderConfig`).

    trunk: images (B, 3, S, S) → the last feature map (B, D, rows, columns). Its children with parameters are the
        blocks that `encoder.fine_tune_from` may name.
    transform: the preprocessing of its images.
    read_weights: reads published weights by name, such as "DEFAULT". None: only a state-dict file or null is possible.
    tokens: for a vision transformer, whose trunk returns Q tokens as a map (B, D, Q, 1). The vector of a map is its
        mean.
    containers: the children of the trunk that only contain blocks.
    fuses: whether BatchNorm may be fused into the convolution registered before it, which is 1.1 times as fast.
    whole: the classification network that the trunk was cut from, with the trunk's modules in it; None where there is
        none. Its head gives the probabilities of ImageNet's classes (`captioner.nn.encoders.class_head`).
    """

    trunk: nn.Sequential
    transform: TransformConfig
    read_weights: WeightsReader | None = None
    tokens: TokenLayout | None = None
    containers: frozenset[str] = WRAPPERS
    fuses: bool = True
    whole: nn.Module | None = None


def cut_head(network: nn.Module) -> nn.Sequential:
    """The children of `network` up to its last feature map, under their own names."""
    trunk = nn.Sequential()
    for name, child in network.named_children():
        if name not in HEAD:
            trunk.add_module(name, child)
    return trunk


def block_names(trunk: nn.Sequential, containers: frozenset[str] = WRAPPERS) -> list[str]:
    """The children with parameters, in order: `layer1`, or `features.0` where a child only contains blocks."""
    names = []
    for name, child in trunk.named_children():
        if name in containers:
            names += [f"{name}.{inner}" for inner, block in child.named_children() if _has_parameters(block)]
        elif _has_parameters(child):
            names.append(name)
    return names


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def feature_map_shape(name: str, trunk: nn.Module, size: int) -> tuple[int, int, int]:
    """(D, rows, columns) of the last feature map for images of `size`, computed from shapes alone.

    Once in a process for each network: a tenth of a second with EfficientNet, at every loading of a checkpoint.
    ConfigError where the feature map would be empty; `name` is the encoder's, for the message.
    """
    trunk.eval()
    tensors = [*trunk.named_parameters(), *trunk.named_buffers()]  # a state dict lacks some buffers
    network = (size, *((key, value.shape) for key, value in tensors), *map(_structure, trunk.modules()))
    if network not in _FEATURE_MAP_SHAPES:
        _FEATURE_MAP_SHAPES[network] = _compute_feature_map_shape(name, trunk, size, tensors)
    return _FEATURE_MAP_SHAPES[network]


def _structure(module: nn.Module) -> tuple[object, ...]:
    """The module's class, children and settings, such as a stride: all but its weights."""
    settings = {key: value for key, value in vars(module).items() if isinstance(value, (int, float, str, tuple))}
    return type(module), str(settings), *(name for name, _ in module.named_children())


def _compute_feature_map_shape(
    name: str, trunk: nn.Module, size: int, tensors: list[tuple[str, Tensor]]
) -> tuple[int, int, int]:
    on_meta = {key: value.to("meta") for key, value in tensors}
    try:
        with torch.no_grad(), _ShapesOnly():
            features = torch.func.functional_call(trunk, on_meta, torch.empty(1, 3, size, size, device="meta"))
    except RuntimeError as error:
        raise ConfigError(
            f"encoder.image_size={size} is too small for {name}: its last feature map would be empty. "
            "Leave it null for the size its weights were made for."
        ) from error
    _, channels, rows, columns = features.shape
    return channels, rows, columns


class _ShapesOnly(TorchFunctionMode):
    """A context in which convolutions, BatchNorm, ReLU6 and `+=` return a tensor of the right shape.

    On the device "meta" PyTorch does the same by code in Python that imports SymPy and torch.compile.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _KEEP_SHAPE:
            return args[0]
        if func is F.conv2d and not kwargs and len(args) == 7 and not isinstance(args[4], str):
            return _convolved(*args)
        return func(*args, **(kwargs or {}))


def _convolved(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """A tensor of the shape of `F.conv2d` with these arguments; RuntimeError where that would be empty."""
    images, _, *sizes = maps.shape
    outputs, _, *kernel = weight.shape
    reach = [step * (width - 1) + 1 for step, width in zip(dilation, kernel, strict=True)]
    spaces = [size + 2 * zeros - width for size, zeros, width in zip(sizes, padding, reach, strict=True)]
    if min(spaces) < 0:
        raise RuntimeError(f"a kernel of {kernel} does not fit into maps of {sizes}")
    return maps.new_empty(images, outputs, *(space // step + 1 for space, step in zip(spaces, stride, strict=True)))


def run_in_chunks(network: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, S, S) → (B, …); on a CPU a few images at a time."""
    parts = 1
    if images.device.type == "cpu" and len(images):
        at_once = min(_CPU_BATCH, max(_FEWEST, _CPU_PIXELS // images[0, 0].numel()))
        parts = math.ceil(len(images) / at_once)
    return torch.cat([network(chunk) for chunk in images.tensor_split(parts)])


def grid_features(feature_map: Float[Tensor, "B D h w"], tokens: TokenLayout | None = None) -> ImageFeatures:
    """The regions of a feature map in reading order, and their mean; or those of a map of tokens."""
    grid = feature_map.flatten(2).transpose(1, 2).contiguous()
    if tokens is None:
        return ImageFeatures(grid.mean(1), grid)
    return ImageFeatures(grid[:, 0].contiguous(), grid[:, tokens.prefix :].contiguous())
