"""The image encoders of timm (`pip install 'captioner[timm]'`): vision transformers, CLIP's image towers, and CNNs.

A vision transformer's patch tokens are the regions of the grid, in reading order, and what timm's own head would read
(the class token, or pooled tokens) is the vector. Its trunk passes tokens as a feature map (B, D, Q, 1), so that a part
of it can be frozen and cached as for a CNN. BatchNorm is not fused: values are timm's,
up to the rounding of products, which on some processors depends on the layout of the tokens.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.config import EncoderConfig, TransformConfig
from captioner.errors import ConfigError, WeightsError, near_misses
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.trunk import EncoderNetwork, TokenLayout

CONTAINERS = frozenset({"blocks", "stages", "features"})  # children that only contain blocks
_AFTER_FEATURES = frozenset({"global_pool", "head", "fc", "classifier", "last_linear", "head_drop", "pre_logits"})
_CHECKED_SIZE = 128  # pixels; of the random image with which a CNN without its head is compared with timm's


def timm_network(config: EncoderConfig) -> EncoderNetwork:
    """The network that timm calls `config.name`, without its classifier, and its preprocessing.

    ConfigError for a name or a size that is not possible, or where timm is not installed.
    """
    model = _create(config)
    settings = _timm().data.resolve_data_config({}, model=model)
    size = config.image_size or int(settings["input_size"][-1])
    transform = TransformConfig(
        size=size,
        resize=config.resize,
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
        mean=_three(settings["mean"]),
        std=_three(settings["std"]),
    )
    try:
        trunk, tokens = _cut(model, size)
    except AssertionError as error:  # by timm, for a size that is no multiple of the patches
        raise _wrong_size(config, error) from error
    return EncoderNetwork(trunk, transform, partial(_read_weights, config, size), tokens, CONTAINERS, fuses=False)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


class _PatchTokens(nn.Module):
    """Images → the tokens before the first block, as a map (B, D, Q, 1)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.network = _only(model, ("patch_embed", "pos_drop", "patch_drop", "norm_pre"), with_parameters=True)

    def forward(self, images: Tensor) -> Tensor:
        network: Any = self.network
        tokens = network._pos_embed(network.patch_embed(images))
        return _as_map(network.norm_pre(network.patch_drop(tokens)))


class _TokenBlock(nn.Module):
    """A transformer block that reads and writes a map (B, D, Q, 1)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        return _as_map(self.block(_as_tokens(tokens)))


class _PooledTokens(nn.Module):
    """After the last block: the final norm, and before the tokens the one that timm's head would read."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.norm = model.norm
        self.head = _only(model, ("attn_pool", "fc_norm", "head_drop"), with_parameters=False)

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm(_as_tokens(tokens))
        head: Any = self.head
        return _as_map(torch.cat([head.forward_head(normed, pre_logits=True).unsqueeze(1), normed], dim=1))


class _WholeNetwork(nn.Module):
    """A network that is no sequence of its children: one block. Images → its map, or its tokens as `_PooledTokens`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.reset_classifier(0)
        self.network = model

    def forward(self, images: Tensor) -> Tensor:
        network: Any = self.network
        features = network.forward_features(images)
        if features.ndim == 3:
            pooled = network.forward_head(features, pre_logits=True)
            return _as_map(torch.cat([pooled.unsqueeze(1), features], dim=1))
        feature_map: Tensor = features.permute(0, 3, 1, 2) if _is_channels_last(network) else features
        return feature_map


def _cut(model: Any, size: int) -> tuple[nn.Sequential, TokenLayout | None]:
    """(the trunk, how its tokens are read, or None for a CNN's feature map)."""
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(model, VisionTransformer):
        blocks = nn.Sequential(*map(_TokenBlock, model.blocks))
        trunk = nn.Sequential()
        trunk.add_module("stem", _PatchTokens(model))
        trunk.add_module("blocks", blocks)
        trunk.add_module("norm", _PooledTokens(model))
        model.patch_embed(torch.zeros(1, 3, size, size))  # AssertionError where the size does not fit
        rows, columns = model.patch_embed.grid_size
        return trunk, TokenLayout(1 + int(model.num_prefix_tokens), int(rows), int(columns))
    trunk = _children_before_head(model)
    image = torch.randn(1, 3, size, size) if _has_fixed_size(model) else torch.randn(1, 3, _CHECKED_SIZE, _CHECKED_SIZE)
    with torch.no_grad():
        expected = model.forward_features(image)
        if not isinstance(expected, Tensor):
            raise _no_grid(model, f"its features are a {type(expected).__name__}")
        if expected.ndim == 4 and not _is_channels_last(model) and _gives(trunk, image, expected):
            return trunk, None
    whole = nn.Sequential()
    whole.add_module("network", _WholeNetwork(model))
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    side = math.isqrt(max(expected.shape[1] - prefix, 0)) if expected.ndim == 3 else 0
    if expected.ndim == 3 and side * side + prefix == expected.shape[1]:
        return whole, TokenLayout(1 + prefix, side, side)
    if expected.ndim == 4:
        return whole, None
    raise _no_grid(model, f"its features have the shape {tuple(expected.shape)}")


def _no_grid(model: Any, why: str) -> ConfigError:
    return ConfigError(
        f"encoder.name={model.pretrained_cfg['architecture']!r} has no square grid of regions: {why}. "
        "Choose a CNN or a vision transformer."
    )


def _children_before_head(model: nn.Module) -> nn.Sequential:
    trunk = nn.Sequential()
    for name, child in model.named_children():
        if name in _AFTER_FEATURES:
            break
        trunk.add_module(name, child)
    return trunk


def _gives(trunk: nn.Module, image: Tensor, expected: Tensor) -> bool:
    """Whether the trunk computes what the network's `forward_features` does."""
    try:
        return torch.equal(trunk(image), expected)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):  # children that are not called in this order
        return False


def _only(model: Any, children: Sequence[str], *, with_parameters: bool) -> nn.Module:
    """A shallow copy of `model`, for its methods, with these children only and with or without its own parameters."""
    part = copy.copy(model)
    part.__dict__["_modules"] = {
        name: child if name in children else None if child is None else nn.Identity()
        for name, child in model._modules.items()
    }
    part.__dict__["_parameters"] = dict(model._parameters) if with_parameters else dict.fromkeys(model._parameters)
    part.__dict__["_buffers"] = dict(model._buffers) if with_parameters else dict.fromkeys(model._buffers)
    kept: nn.Module = part
    return kept


def _as_map(tokens: Float[Tensor, "B Q D"]) -> Float[Tensor, "B D Q 1"]:
    return tokens.transpose(1, 2).unsqueeze(3)


def _as_tokens(feature_map: Float[Tensor, "B D Q 1"]) -> Float[Tensor, "B Q D"]:
    return feature_map.squeeze(3).transpose(1, 2)


def _timm() -> Any:
    """timm with its data functions; ConfigError where it is not installed."""
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise ConfigError(
            "encoder.library=timm needs a package that is not installed: pip install 'captioner[timm]'."
        ) from error
    return timm


def _create(config: EncoderConfig, **options: Any) -> Any:
    """timm's model in eval mode. ConfigError for a name that timm does not have, or a size that does not fit."""
    timm = _timm()
    if not timm.is_model(config.name):
        known = timm.list_models()
        raise ConfigError(
            f"encoder.name={config.name!r} does not exist in timm {timm.__version__}.{near_misses(config.name, known)} "
            f"It has {len(known):,} names: python -c \"import timm; print(timm.list_models('vit*'))\"."
        )
    architecture, _, tag = config.name.partition(".")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"encoder.name={config.name!r}: timm has no weights {tag!r} of {architecture}.{near_misses(tag, tags)} "
            f"Expected one of: {', '.join(tags)}."
        )
    if config.image_size is not None and timm.get_pretrained_cfg(config.name).fixed_input_size:
        options["img_size"] = config.image_size
    try:
        return timm.create_model(config.name, **options).eval()
    except AssertionError as error:
        raise _wrong_size(config, error) from error


def _wrong_size(config: EncoderConfig, error: AssertionError) -> ConfigError:
    return ConfigError(
        f"encoder.image_size={config.image_size} does not fit {config.name} ({_first_line(error)}). Leave it null for "
        "the size its weights were made for."
    )


def _is_channels_last(model: Any) -> bool:
    """Whether a feature map of the network is (B, rows, columns, D)."""
    return str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")


def _has_fixed_size(model: Any) -> bool:
    return bool(model.pretrained_cfg.get("fixed_input_size", False))


def _read_weights(config: EncoderConfig, size: int, wanted: str) -> tuple[dict[str, Tensor], str]:
    """The trunk's tensors with the weights `wanted` ("DEFAULT" or a file), and their source."""
    if encoder_weights.looks_like_file(wanted):
        path = Path(wanted).expanduser()
        state_dict = _with_classifier(_create(config), encoder_weights.read_state_dict(path))
        model, source = _load(config, f"encoder.weights={path}", {"state_dict": state_dict}), str(path)
    elif wanted == "DEFAULT":
        model, source = _download(config), f"timm/{config.name}"
    else:
        raise ConfigError(
            f"encoder.weights={wanted!r} does not exist for {config.name}: expected DEFAULT (other weights of timm "
            "have names of their own, such as vit_base_patch16_224.dino), a state-dict file, or null (random)."
        )
    return _cut(model, size)[0].state_dict(), source


def _with_classifier(model: Any, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state_dict`, completed with the classifier of `model` if it has none: nothing reads it, and timm wants it."""
    classifiers = model.pretrained_cfg.get("classifier") or ()
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    own = {
        key: value for key, value in model.state_dict().items() if key.startswith(tuple(f"{name}." for name in names))
    }
    kept = {key: value for key, value in state_dict.items() if key not in own or own[key].shape == value.shape}
    return {**own, **kept}


def _load(config: EncoderConfig, what: str, overlay: dict[str, Any]) -> Any:
    """timm's model with weights, which timm renames and resizes as its architecture needs. WeightsError otherwise."""
    try:
        return _create(config, pretrained=True, pretrained_cfg_overlay=overlay)
    except ConfigError:
        raise
    except Exception as error:  # the converters of timm expect tensors of their networks and may raise anything
        raise WeightsError(
            f"{what} does not fit {config.name} ({_first_line(error)}). Expected a state dict of this network, as timm "
            "or its authors publish it."
        ) from error


def _download(config: EncoderConfig) -> Any:
    described = _timm().get_pretrained_cfg(config.name)
    if not described.has_weights:
        raise WeightsError(
            f"timm has no weights of {config.name}: choose a name with weights, such as vit_base_patch16_224, give a "
            "file as encoder.weights, or encoder.weights=null for random weights."
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries would be printed between our lines
    try:
        return _create(config, pretrained=True)
    except Exception as error:  # the network, the disk, or a damaged file in the cache, which may raise anything
        page = f"https://huggingface.co/{described.hf_hub_id}" if described.hf_hub_id else described.url
        raise WeightsError(
            f"The weights of encoder.name={config.name} could not be downloaded ({_first_line(error)}). Either "
            f"download model.safetensors from {page} elsewhere and give it as "
            "encoder.weights=/path/to/model.safetensors; or use encoder=efficientnet_lite0, which works offline; or "
            "encoder.weights=null for random weights."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__
