"""The encoder: a convolutional network, cut at its last feature map, and what it needs to know of its images.

Every torchvision classification CNN is a row of blocks followed by a head (pooling, classifier). Dropping the head by
name and keeping the rest in order gives the feature map of all of them, so there is no code per architecture; the
parameters keep torchvision's names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import get_model, get_model_builder, list_models

from captioner.config import EncoderConfig, TransformConfig
from captioner.errors import ConfigError, near_misses
from captioner.nn.encoders import efficientnet_lite as lite
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.fuse_batch_norm import fuse_batch_norm
from captioner.nn.types import ImageFeatures

# Children of torchvision's classification networks that come after the last feature map, or beside it.
_HEAD = frozenset({"avgpool", "dropout", "fc", "classifier", "aux1", "aux2", "AuxLogits"})
# Children that only hold the blocks.
_WRAPPERS = frozenset({"features", "layers", "trunk_output"})
# They scale pixels to [-1, 1] themselves (`transform_input`); here the transform does it, in one step.
_SCALE_THEMSELVES = frozenset({"googlenet", "inception_v3"})
_TRANSFORMERS = ("vit_", "swin_", "maxvit_")

# On a CPU, the activations of this many images at once stay in its cache: 1.1 to 1.6 times as fast as 32 at once.
_CPU_BATCH = 8


class Encoder(nn.Module):
    """Images → a grid of feature vectors, and their mean.

    Attributes:
        name: the network's name in `EncoderConfig`.
        trunk: the network without its head, its children named as in torchvision.
        transform: the preprocessing that its images must have had.
        blocks: names of the blocks, first to last, from which one may fine-tune.
        fine_tuning_paused: True between `freeze` and `unfreeze`: every block is frozen, whatever the settings say.
        feature_dim: D, the channels of the last feature map.
        grid_size: (rows, columns) of the last feature map at `transform.size`.
    """

    def __init__(
        self,
        name: str,
        trunk: nn.Sequential,
        transform: TransformConfig,
        fine_tune_from: str | None = None,
        batch_norm_eval: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.trunk = trunk
        self.transform = transform
        self.blocks = _block_names(trunk)
        self.batch_norm_eval = batch_norm_eval
        self.gradient_checkpointing = gradient_checkpointing
        self._folded: tuple[nn.Module, ...] = ()  # in a tuple: no child of this module, so not in its state dict
        self.feature_dim, rows, columns = _feature_map_shape(name, trunk, transform.size)
        self.grid_size = (rows, columns)

        if fine_tune_from is not None and fine_tune_from not in self.blocks:
            raise ConfigError(
                f"encoder.fine_tune_from={fine_tune_from!r} is not a block of {name}."
                f"{near_misses(fine_tune_from, self.blocks)} Its blocks are: {', '.join(self.blocks)}."
            )
        self._fine_tuned_blocks = self.blocks[self.blocks.index(fine_tune_from) :] if fine_tune_from is not None else []
        self.unfreeze()

    @property
    def frozen(self) -> bool:
        """Whether no block learns now."""
        return len(self.frozen_blocks) == len(self.blocks)

    def freeze(self) -> None:
        """Freeze every block until `unfreeze` is called: the decoder is trained first, then both."""
        self.fine_tuning_paused = True
        self._set_trainable([])

    def unfreeze(self) -> None:
        """Make the blocks from `fine_tune_from` on trainable; the others stay frozen."""
        self.fine_tuning_paused = False
        self._set_trainable(self._fine_tuned_blocks)

    def _set_trainable(self, trainable: list[str]) -> None:
        self.frozen_blocks = [block for block in self.blocks if block not in trainable]
        for block in self.blocks:
            self.trunk.get_submodule(block).requires_grad_(block in trainable)
        self._folded = ()
        self.train(self.training)

    def train(self, mode: bool = True) -> Encoder:
        """As `nn.Module.train`, but frozen blocks stay in eval mode, and BatchNorm too where `batch_norm_eval`."""
        super().train(mode)
        for block in self.frozen_blocks:
            self.trunk.get_submodule(block).eval()
        if self.batch_norm_eval:
            for module in self.trunk.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """vector: (B, D), the mean of the grid; grid: (B, P, D), cells in reading order. No gradient where frozen."""
        frozen, learning = self._pieces()
        with torch.no_grad():
            features = self._frozen_feature_map(images.contiguous(memory_format=torch.channels_last), frozen)
        return self._learn(features, learning)

    def frozen_part(self) -> FrozenPart | None:
        """What comes before the first block that learns, as an encoder of its own; None where every block learns."""
        if not self.frozen_blocks:
            return None
        frozen, learning = self._pieces()
        name = f"{self.name}_before_{self.blocks[len(self.frozen_blocks)]}" if learning else self.name
        return FrozenPart(name, frozen, self.transform)

    def forward_trainable_part(self, part: Float[Tensor, "B Q C"], rows: int) -> ImageFeatures:
        """From what `frozen_part` gives for some images, `rows` rows of it, to what `forward` does."""
        images, cells, channels = part.shape
        features = part.view(images, rows, cells // rows, channels).permute(0, 3, 1, 2)  # channels last, no copy
        return self._learn(features, self._pieces()[1])

    def _learn(self, features: Float[Tensor, "B C h w"], learning: list[nn.Sequential]) -> ImageFeatures:
        """Through the blocks that learn, to the grid."""
        for block in learning:
            checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
            features = _checkpointed(block, features) if checkpointed else block(features)
        return _as_grid(features)

    def _pieces(self) -> tuple[nn.Sequential, list[nn.Sequential]]:
        """The trunk in order: what comes before the first block that learns, then block by block.

        What has no parameters (an activation, a pooling) belongs to the block before it.
        """
        frozen, learning = nn.Sequential(), list[nn.Sequential]()
        for name, child in self.trunk.named_children():
            inner = child.named_children() if name in _WRAPPERS else [("", child)]
            for part, module in inner:
                block = f"{name}.{part}".rstrip(".")
                if block in self.blocks and block not in self.frozen_blocks:
                    learning.append(nn.Sequential(module))
                else:
                    (learning[-1] if learning else frozen).append(module)
        return frozen, learning

    def _frozen_feature_map(self, images: Tensor, frozen: nn.Sequential) -> Tensor:
        """(B, 3, S, S) → (B, …) by a private copy of the frozen pieces without BatchNorm, made on first use."""
        if not self._folded:
            self._folded = (fuse_batch_norm(frozen),)
        return _in_portions(self._folded[0], images)

    # Whatever moves the trunk's tensors or loads others into them makes the folded copy out of date.

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Encoder:
        self._folded = ()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._folded = ()
        super()._load_from_state_dict(*args, **kwargs)


class FrozenPart(nn.Module):
    """The blocks of an encoder that stay as they are, before those that learn: what of it a cache can keep.

    Attributes as those of `Encoder`; `feature_dim` and `grid_size` are of the feature map between the two.
    """

    def __init__(self, name: str, blocks: nn.Sequential, transform: TransformConfig) -> None:
        super().__init__()
        self.name, self.transform = name, transform
        self.folded = fuse_batch_norm(blocks).requires_grad_(False)
        self.feature_dim, rows, columns = _feature_map_shape(name, self.folded, transform.size)
        self.grid_size = (rows, columns)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """As `Encoder.forward`."""
        return _as_grid(_in_portions(self.folded, images.contiguous(memory_format=torch.channels_last)))


def _in_portions(network: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, S, S) → (B, …), a few images at once on a CPU."""
    portion = _CPU_BATCH if images.device.type == "cpu" else max(1, len(images))
    return torch.cat([network(part) for part in torch.split(images, portion)])


def _as_grid(features: Float[Tensor, "B D h w"]) -> ImageFeatures:
    """A feature map's cells in reading order, and their mean."""
    grid = features.flatten(2).transpose(1, 2).contiguous()
    return ImageFeatures(grid.mean(1), grid)


def _checkpointed(block: nn.Module, features: Tensor) -> Tensor:
    """The block's output; what lies inside it is computed again in the backward pass (Chen et al. 2016)."""
    output: Tensor = checkpoint(
        block, features, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_untouched(block))
    )
    return output


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm normalises as ever but its running statistics do not move: a batch counts once."""
    momenta = [(layer, layer.momentum) for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)]
    counts = [(count, count.clone()) for name, count in block.named_buffers() if name.endswith("num_batches_tracked")]
    for layer, _ in momenta:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in momenta:
            layer.momentum = momentum
        for count, before in counts:
            count.copy_(before)


def build_encoder(config: EncoderConfig, *, load_weights: bool = True) -> Encoder:
    """The encoder that `config` describes.

    `load_weights=False` builds the bare network, for a checkpoint's weights to be loaded into: same shapes, same
    names, same transform, and nothing is read or downloaded.

    Raises ConfigError for a name, block or size that cannot be, WeightsError for weights that cannot be had.
    """
    describe = _describe_lite if config.name in lite.VARIANTS else _describe_torchvision
    network, transform = describe(config)
    encoder = Encoder(
        config.name,
        _cut_head(network),
        transform,
        config.fine_tune_from,
        config.batch_norm_eval,
        config.gradient_checkpointing,
    )
    if load_weights and config.weights is not None:
        encoder.trunk.load_state_dict(published_weights(encoder, config.weights), strict=False)
    return encoder


def published_weights(encoder: Encoder, wanted: str) -> dict[str, Tensor]:
    """The trunk's weights that `encoder.weights` = `wanted` names, under the trunk's own names.

    Raises ConfigError for weights that do not exist, WeightsError for those that cannot be had or do not fit.
    """
    state_dict, source = _find_weights(encoder.name, wanted)
    return encoder_weights.fit_to_trunk(encoder.trunk, state_dict, _HEAD, source)


def available_encoders() -> list[str]:
    """Every name that `encoder.name` may take."""
    classifiers = list_models(module=torchvision.models)
    return sorted([*lite.VARIANTS, *(name for name in classifiers if not name.startswith(_TRANSFORMERS))])


def _describe_lite(config: EncoderConfig) -> tuple[nn.Module, TransformConfig]:
    if config.weights not in (None, "DEFAULT") and not encoder_weights.looks_like_file(config.weights):
        raise ConfigError(
            f"encoder.weights={config.weights!r} does not exist for {config.name}: "
            "expected DEFAULT, a state-dict file, or null (random)."
        )
    transform = TransformConfig(
        size=config.image_size or lite.VARIANTS[config.name].image_size,
        resize=config.resize,
        interpolation="bicubic",
        mean=(lite.MEAN, lite.MEAN, lite.MEAN),
        std=(lite.STD, lite.STD, lite.STD),
    )
    return lite.efficientnet_lite(config.name), transform


def _describe_torchvision(config: EncoderConfig) -> tuple[nn.Module, TransformConfig]:
    _check_torchvision_name(config.name)
    preset = encoder_weights.torchvision_entry(config.name, config.weights).transforms()
    scales_itself = config.name in _SCALE_THEMSELVES
    transform = TransformConfig(
        size=config.image_size or preset.crop_size[0],
        resize=config.resize,
        interpolation=preset.interpolation.value,
        mean=(0.5, 0.5, 0.5) if scales_itself else tuple(preset.mean),
        std=(0.5, 0.5, 0.5) if scales_itself else tuple(preset.std),
    )
    options = {"aux_logits": False, "init_weights": False} if scales_itself else {}
    return get_model(config.name, weights=None, **options), transform


def _find_weights(name: str, wanted: str) -> tuple[dict[str, Tensor], str]:
    """The state dict that `encoder.weights` names, under torchvision's keys, and where it is from."""
    if name not in lite.VARIANTS and not encoder_weights.looks_like_file(wanted):
        entry = encoder_weights.torchvision_entry(name, wanted)
        return encoder_weights.download(name, entry), entry.url
    path = Path(wanted).expanduser() if encoder_weights.looks_like_file(wanted) else lite.weights_file(name)
    state_dict = encoder_weights.read_state_dict(path)
    if name in lite.VARIANTS:
        state_dict = lite.with_torchvision_keys(name, state_dict)
    return state_dict, str(path)


def _check_torchvision_name(name: str) -> None:
    """Raise a ConfigError that says why, unless `name` is a classification CNN of torchvision."""
    if name in available_encoders():
        return
    if name not in list_models():
        raise ConfigError(
            f"encoder.name={name!r} does not exist.{near_misses(name, available_encoders())} "
            f"Expected {', '.join(lite.VARIANTS)}, or a classification CNN of torchvision such as resnet50."
        )
    if name.startswith(_TRANSFORMERS):
        kind = "a vision transformer"
    else:  # torchvision.models.<task>.<architecture>
        task = get_model_builder(name).__module__.split(".")[2].replace("_", " ")
        kind = f"{'an' if task[0] in 'aeiou' else 'a'} {task} model"
    raise ConfigError(
        f"encoder.name={name!r} is {kind}: expected a classification CNN, whose last feature map "
        "is a grid over one image, such as efficientnet_lite0 or resnet50."
    )


def _cut_head(network: nn.Module) -> nn.Sequential:
    """The children of `network` up to its last feature map, under their own names."""
    trunk = nn.Sequential()
    for name, child in network.named_children():
        if name not in _HEAD:
            trunk.add_module(name, child)
    if isinstance(network, torchvision.models.DenseNet):
        trunk.add_module("relu", nn.ReLU(inplace=True))  # DenseNet has it in forward()
    return trunk


def _block_names(trunk: nn.Sequential) -> list[str]:
    """The children that have parameters, first to last: `layer1`, or `features.0` where a child only holds others."""
    names = []
    for name, child in trunk.named_children():
        if name in _WRAPPERS:
            names += [
                f"{name}.{inner}" for inner, block in child.named_children() if any(True for _ in block.parameters())
            ]
        elif any(True for _ in child.parameters()):
            names.append(name)
    return names


def _feature_map_shape(name: str, trunk: nn.Module, size: int) -> tuple[int, int, int]:
    """(D, rows, columns) of the last feature map for images of `size`, by arithmetic on shapes alone."""
    on_meta = {key: value.to("meta") for key, value in trunk.state_dict().items()}
    trunk.eval()
    try:
        with torch.no_grad():
            features = torch.func.functional_call(trunk, on_meta, torch.empty(1, 3, size, size, device="meta"))
    except RuntimeError as error:
        raise ConfigError(
            f"encoder.image_size={size} is too small for {name}: its last feature map would be empty. "
            "Leave it null for the size its weights were made for."
        ) from error
    _, channels, rows, columns = features.shape
    return channels, rows, columns
