"""Export a captioning model as three ONNX graphs: the encoder, the decoder's initial state, and one of its steps.

    encoder.onnx      images (N, 3, S, S)                       → vector (N, D), grid (N, P, D), shared (N, C, h, w)
    init_state.onnx   vector, grid                              → image_0 …, row_0 …
    step.onnx         tokens (N,), image_0 …, row_0 …           → logits (N, V), attention (N, P), next_row_0 …

image_i and row_i are the tensors of `DecoderState`, in order. A search repeats and selects them; in `step` every row
has its own entry of image_i. N is free everywhere, P too, and so is every other length that grows with the caption.
Which lengths do is measured: the decoder runs with two batch sizes, numbers of regions and caption lengths.
`shared` is there for the classifier (`captioner.checkpoint.onnx.class_graphs`), where the encoder has one.

`torch.export` checks that no free length was fixed to the example's; where one was, the export is an error.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captioner.checkpoint.onnx.scale_weights import scale_weights
from captioner.errors import CaptionerError, ConfigError
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.encoders.trunk import grid_features
from captioner.nn.types import DecoderState, ImageFeatures

if TYPE_CHECKING:
    import onnx

OPSET = 18  # of the operators; every onnxruntime from 1.14 on has them


@dataclass(frozen=True)
class DecoderGraphs:
    """init_state, step: the graphs; image, rows: how many tensors of the state there are; attends: see `Decoder`."""

    init_state: onnx.ModelProto
    step: onnx.ModelProto
    image: int
    rows: int
    attends: bool


def import_onnx() -> Any:
    """The module `onnx`; CaptionerError where it or what torch needs to export is not installed."""
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise CaptionerError(
            f"The export to ONNX needs {error.name}: pip install 'captioner[onnx]' (in a checkout: pip install -e "
            "'.[onnx]')."
        ) from error
    return onnx


def export_encoder(encoder: Encoder, *, with_shared: bool = False) -> onnx.ModelProto:
    """The graph of the encoder, BatchNorm not fused, so that its weights are the checkpoint's.

    with_shared: whether `shared` is an output: the feature map of the frozen blocks, which a class head reads.
    """
    if not encoder.encodes_images:
        raise ConfigError(
            "This captioner has encoder=none: its features are made elsewhere, so there is no encoder to export."
        )
    size = encoder.transform.size
    images = torch.zeros(2, 3, size, size)
    batch = torch.export.Dim("N", max=_MOST)
    outputs = ["vector", "grid", *(["shared"] if with_shared else [])]
    graph = _EncoderGraph(encoder, with_shared=with_shared)
    exported = export_graph(graph, (images,), ({0: batch},), ["images"], outputs, optimize=False)
    drop_constant_casts(exported)
    return exported


def export_decoder(decoder: Decoder[Any], feature_dim: int, regions: int) -> DecoderGraphs:
    """The graphs of the decoder. ConfigError, with the decoder's own reason, for one that cannot be exported."""
    if decoder.not_exportable is not None:
        raise ConfigError(f"This decoder cannot be exported to ONNX: {decoder.not_exportable}")
    features = _features(decoder, 3, regions, feature_dim)
    state = _state_after(decoder, features, 0)
    image, rows = len(_flat(state.image)), len(_flat(state.rows))
    names = [*(f"image_{i}" for i in range(image)), *(f"row_{i}" for i in range(rows))]
    batch = torch.export.Dim("N", max=_MOST)
    shapes: list[dict[int, Any]] = [{0: batch}]
    inputs = [features.vector]
    if features.grid is not None:
        inputs.append(features.grid)
        shapes.append({0: batch, 1: torch.export.Dim("P", max=_MOST)})
    given = ["vector", "grid"][: len(inputs)]
    init_state = export_graph(_InitGraph(decoder), tuple(inputs), tuple(shapes), given, names, optimize=False)
    before = _state_after(decoder, features, 2)
    free = _free_lengths(decoder, feature_dim, regions)
    step = _StepGraph(decoder, before)
    arguments = (torch.ones(3, dtype=torch.int64), *_flat(before.image), *_flat(before.rows))
    outputs = ["logits", *(["attention"] if decoder.attends else []), *(f"next_row_{i}" for i in range(rows))]
    return DecoderGraphs(
        init_state,
        export_graph(step, arguments, ({0: batch}, *free), ["tokens", *names], outputs, "arguments"),
        image,
        rows,
        decoder.attends,
    )


_MOST = 1 << 20


class _EncoderGraph(nn.Module):
    def __init__(self, encoder: Encoder, *, with_shared: bool) -> None:
        super().__init__()
        frozen, trainable = encoder.split_trunk()
        upper = nn.Sequential(*(module for block in trainable for module in block))
        parts = [frozen, upper] if with_shared else [nn.Sequential(*frozen, *upper)]
        self.parts = nn.ModuleList(scale_weights(part) if encoder.fuses else part for part in parts)
        self.with_shared, self.tokens = with_shared, encoder.token_layout

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        shared = self.parts[0](images)
        features = grid_features(self.parts[1](shared) if self.with_shared else shared, self.tokens)
        assert features.grid is not None
        return (features.vector, features.grid, *((shared.clone(),) if self.with_shared else ()))


class _InitGraph(nn.Module):
    def __init__(self, decoder: Decoder[Any]) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, vector: Tensor, grid: Tensor | None = None) -> tuple[Tensor, ...]:
        state = self.decoder.init_state(ImageFeatures(vector, grid))
        return tuple(part.clone() for part in (*_flat(state.image), *_flat(state.rows)))


class _StepGraph(nn.Module):
    """A step of the decoder, from the tensors of a state of the same form as `like`."""

    def __init__(self, decoder: Decoder[Any], like: DecoderState[Any, Any]) -> None:
        super().__init__()
        self.decoder = decoder
        self._like = like

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        tokens, *parts = arguments
        remaining = iter(parts)
        image, rows = (_filled(like, remaining) for like in (self._like.image, self._like.rows))
        logits, state, attention = self.decoder.step(tokens, DecoderState(image, rows))
        weights = () if attention is None else (attention,)
        return (logits, *weights, *(part.clone() for part in _flat(state.rows)))


def _flat(parts: Sequence[Any]) -> list[Tensor]:
    """The tensors of a part of a state, in order."""
    found: list[Tensor] = []
    for part in parts:
        if part is not None:
            found += [part] if isinstance(part, Tensor) else _flat(part)
    return found


def _filled(like: Any, tensors: Iterator[Tensor]) -> Any:
    """`like` with `tensors` in the place of its own."""
    parts = [
        part if part is None else next(tensors) if isinstance(part, Tensor) else _filled(part, tensors) for part in like
    ]
    kind: Any = type(like)
    return kind._make(parts) if hasattr(kind, "_make") else kind(parts)


def _features(decoder: Decoder[Any], images: int, regions: int, feature_dim: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(images, regions, feature_dim, generator=generator)
    return ImageFeatures(grid.mean(1), grid if decoder.needs_grid else None)


@torch.no_grad()
def _state_after(decoder: Decoder[Any], features: ImageFeatures, steps: int) -> DecoderState[Any, Any]:
    state: DecoderState[Any, Any] = decoder.init_state(features)
    for _ in range(steps):
        state = decoder.step(torch.ones(len(features.vector), dtype=torch.int64), state).state
    return state


def _free_lengths(decoder: Decoder[Any], feature_dim: int, regions: int) -> list[dict[int, Any]]:
    """For each tensor of a state, its free dimensions: those that differ between two states."""

    def shapes(images: int, regions: int, steps: int) -> list[torch.Size]:
        state = _state_after(decoder, _features(decoder, images, regions, feature_dim), steps)
        return [part.shape for part in (*_flat(state.image), *_flat(state.rows))]

    usual = shapes(3, regions, 2)
    longer = {
        torch.export.Dim("N", max=_MOST): (3, shapes(4, regions, 2)),
        torch.export.Dim("P", max=_MOST): (regions, shapes(3, regions + 1, 2)),
        torch.export.Dim("T", max=_MOST): (2, shapes(3, regions, 3)),
    }
    free: list[dict[int, Any]] = [{} for _ in usual]
    for length, (at, others) in longer.items():
        for dimensions, shape, other in zip(free, usual, others, strict=True):
            for dimension, (small, large) in enumerate(zip(shape, other, strict=True)):
                factor, rest = large - small, small - (large - small) * at
                if factor:
                    scaled = length if factor == 1 else factor * length
                    dimensions[dimension] = scaled + rest if rest else scaled
    return free


def export_graph(
    graph: nn.Module,
    arguments: tuple[Tensor, ...],
    shapes: tuple[dict[int, Any], ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    variadic: str | None = None,
    optimize: bool = True,
) -> onnx.ModelProto:
    """The graph as ONNX, checked. CaptionerError with the reason where torch cannot export it."""
    import_onnx()
    dynamic: Any = shapes if variadic is None else {variadic: shapes}
    try:
        with _quietly():
            program = torch.export.export(graph.eval(), arguments, dynamic_shapes=dynamic, strict=False)
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
                optimize=optimize,
            )
    except Exception as error:  # torch raises many kinds, with long explanations
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise CaptionerError(
            f"This model cannot be exported to ONNX with torch {torch.__version__}: {reason[0]}"
        ) from error
    assert exported is not None
    model: onnx.ModelProto = exported.model_proto
    for node in model.graph.node:  # where in torch's code it comes from
        del node.metadata_props[:]
        node.doc_string = ""
    return model


def drop_constant_casts(model: onnx.ModelProto) -> None:
    """Use constants of type float directly, not through a CastLike, in a graph whose values are all float32.

    onnxruntime cannot see that the bounds of a ReLU6 are constant otherwise, and does not fuse it into a convolution.
    """
    constants = {
        name
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value_float"
        for name in node.output
    }
    casts = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "CastLike" and node.input[0] in constants
    }
    kept = [node for node in model.graph.node if not set(node.output) & set(casts)]
    for node in kept:
        node.input[:] = [casts.get(name, name) for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(kept)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's progress and its warnings about torch's own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
