"""The models of ruotianluo/ImageCaptioning.pytorch in our terms, one converter per caption_model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from captioner.checkpoint.foreign.conversion import Weights, WordRows, sum_of_biases
from captioner.config import Att2inConfig, ModelConfig, RecurrentConfig, TransformerConfig, UpDownConfig
from captioner.errors import CheckpointError


@dataclass(frozen=True)
class Converted:
    """A decoder in our terms; `grid_dim` and `vector_dim`: what it reads of the regions and of the image vector, 0 for
    nothing."""

    model: ModelConfig
    weights: dict[str, Tensor]
    grid_dim: int
    vector_dim: int
    max_length: int


@dataclass(frozen=True)
class Options:
    """The options of a training (opt), with the project's defaults for those that an older file lacks."""

    values: Mapping[str, Any]
    source: Path

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        value = self.values.get(name, default)
        return int(value) if isinstance(value, (bool, int, float)) else default

    def dropout(self, name: str = "drop_prob_lm") -> float:
        """A probability."""
        value = self.values.get(name, 0.5)
        return float(value) if isinstance(value, (int, float)) and 0 <= value <= 0.95 else 0.5


Converter = Callable[[Weights, WordRows, Options], Converted]


def _check_words(weights: Weights, rows: WordRows, count: int) -> None:
    expected = 1 + max(row or 0 for row in rows.predicted)
    if count != expected:
        raise CheckpointError(
            f"{weights.source} has a decoder of {count} rows of words, and its infos file has {expected - 1} words: "
            "they belong to different trainings. Name the right one with --vocabulary."
        )


def word_layers(
    weights: Weights, rows: WordRows, embedding: str, output: str, hidden_dim: int
) -> tuple[int, dict[str, Tensor]]:
    """E, and the word embedding and the output layer, of which nearly every model has the same."""
    count, embedding_dim = weights.shape(f"{embedding}.weight", 2)
    _check_words(weights, rows, count)
    matrix, bias = rows.output(
        weights.take(f"{output}.weight", count, hidden_dim), weights.take(f"{output}.bias", count)
    )
    return embedding_dim, {
        "embedding.weight": rows.embedding(weights.take(f"{embedding}.weight", count, embedding_dim)),
        "output.words.weight": matrix,
        "output.words.bias": bias,
    }


def _convert_image_first(weights: Weights, rows: WordRows, options: Options, *, core: str, image: str) -> Converted:
    """fc and newfc: an LSTM with a maxout candidate that reads the image, then the words."""
    columns, hidden_dim = weights.shape(f"{core}.h2h.weight", 2)
    embedding_dim, words = word_layers(weights, rows, "embed", "logit", hidden_dim)
    _, vector_dim = weights.shape(f"{image}.weight", 2)
    biases = (f"{core}.i2h.bias", f"{core}.h2h.bias")
    decoder = words | {
        "stack.inputs.0.weight": weights.take(f"{core}.i2h.weight", 5 * hidden_dim, embedding_dim),
        "stack.inputs.0.bias": sum_of_biases(weights, biases, 5 * hidden_dim),
        "stack.cells.0.recurrent.weight": weights.take(f"{core}.h2h.weight", columns, hidden_dim),
        "image.weight": weights.take(f"{image}.weight", embedding_dim, vector_dim),
        "image.bias": weights.take(f"{image}.bias", embedding_dim),
    }
    model = _image_first_settings("lstm_maxout", embedding_dim, hidden_dim, 1, options.dropout())
    longest = options.integer("max_length", 20) if image == "fc_embed" else options.integer("seq_length", 16)
    return Converted(model, decoder, 0, vector_dim, longest)


def _convert_show_tell(weights: Weights, rows: WordRows, options: Options) -> Converted:
    """show_tell: torch's LSTM without biases, which reads the image, then the words."""
    _, hidden_dim = weights.shape("core.weight_hh_l0", 2)
    embedding_dim, decoder = word_layers(weights, rows, "embed", "logit", hidden_dim)
    _, vector_dim = weights.shape("img_embed.weight", 2)
    layers = 0
    while f"core.weight_ih_l{layers}" in weights:
        columns = hidden_dim if layers else embedding_dim
        inputs = weights.take(f"core.weight_ih_l{layers}", 4 * hidden_dim, columns)
        decoder |= {
            f"stack.inputs.{layers}.weight": inputs,
            f"stack.inputs.{layers}.bias": inputs.new_zeros(4 * hidden_dim),
            f"stack.cells.{layers}.recurrent.weight": weights.take(
                f"core.weight_hh_l{layers}", 4 * hidden_dim, hidden_dim
            ),
        }
        layers += 1
    decoder |= {
        "image.weight": weights.take("img_embed.weight", embedding_dim, vector_dim),
        "image.bias": weights.take("img_embed.bias", embedding_dim),
    }
    model = _image_first_settings("lstm", embedding_dim, hidden_dim, layers, options.dropout())
    return Converted(model, decoder, 0, vector_dim, options.integer("seq_length", 16))


def _image_first_settings(
    cell: str, embedding_dim: int, hidden_dim: int, layers: int, dropout: float
) -> RecurrentConfig:
    return RecurrentConfig(
        cell=cell,
        layers=layers,
        embedding_dim=embedding_dim,
        hidden_dim=hidden_dim,
        dropout=dropout,
        injection="pre",
        image_projection="affine",
    )


def _fc(weights: Weights, rows: WordRows, options: Options) -> Converted:
    return _convert_image_first(weights, rows, options, core="core", image="img_embed")


def _newfc(weights: Weights, rows: WordRows, options: Options) -> Converted:
    return _convert_image_first(weights, rows, options, core="_core", image="fc_embed")


def _attention(weights: Weights, grid_dim: int, hidden_dim: int) -> tuple[int, dict[str, Tensor]]:
    """A, and additive attention: ctx2att of the regions, h2att of h, alpha_net. The bias of the last one cancels."""
    attention_dim, _ = weights.shape("ctx2att.weight", 2)
    key_bias = weights.take("ctx2att.bias", attention_dim)
    weights.drop("core.attention.alpha_net.bias")
    return attention_dim, {
        "attention.keys.weight": weights.take("ctx2att.weight", attention_dim, grid_dim),
        "attention.query.weight": weights.take("core.attention.h2att.weight", attention_dim, hidden_dim),
        "attention.query.bias": weights.take("core.attention.h2att.bias", attention_dim) + key_bias,
        "attention.score.weight": weights.take("core.attention.alpha_net.weight", 1, attention_dim),
    }


def _linear(weights: Weights, theirs: str, ours: str, outputs: int, inputs: int) -> dict[str, Tensor]:
    """A linear layer with a bias."""
    return {
        f"{ours}.weight": weights.take(f"{theirs}.weight", outputs, inputs),
        f"{ours}.bias": weights.take(f"{theirs}.bias", outputs),
    }


def _att2in2(weights: Weights, rows: WordRows, options: Options) -> Converted:
    """att2in2: its a2c adds the context to both candidates; its bias is one of theirs."""
    columns, hidden_dim = weights.shape("core.h2h.weight", 2)
    embedding_dim, decoder = word_layers(weights, rows, "embed.0", "logit", hidden_dim)
    grid_dim, feature_dim = weights.shape("att_embed.0.weight", 2)
    attention_dim, attention = _attention(weights, grid_dim, hidden_dim)
    bias = sum_of_biases(weights, ("core.i2h.bias", "core.h2h.bias"), 5 * hidden_dim)
    bias[3 * hidden_dim :] += weights.take("core.a2c.bias", 2 * hidden_dim)
    decoder |= attention | _linear(weights, "att_embed.0", "grid", grid_dim, feature_dim)
    decoder |= {
        "stack.inputs.0.weight": weights.take("core.i2h.weight", 5 * hidden_dim, embedding_dim),
        "stack.inputs.0.bias": bias,
        "stack.cells.0.recurrent.weight": weights.take("core.h2h.weight", columns, hidden_dim),
        "context_to_candidate.weight": weights.take("core.a2c.weight", 2 * hidden_dim, grid_dim),
    }
    model = Att2inConfig(
        embedding_dim=embedding_dim,
        hidden_dim=hidden_dim,
        attention_dim=attention_dim,
        grid_dim=grid_dim,
        dropout=options.dropout(),
        word_activation="relu",
    )
    return Converted(model, decoder, feature_dim, 0, options.integer("max_length", 20))


def _updown(weights: Weights, rows: WordRows, options: Options) -> Converted:
    """updown (topdown): the attention LSTM reads (h of the language LSTM, v, word), the language LSTM (context, h)."""
    gates, hidden_dim = weights.shape("core.att_lstm.weight_hh", 2)
    embedding_dim, decoder = word_layers(weights, rows, "embed.0", "logit", hidden_dim)
    grid_dim, feature_dim = weights.shape("att_embed.0.weight", 2)
    _, vector_dim = weights.shape("fc_embed.0.weight", 2)
    attention_dim, attention = _attention(weights, grid_dim, hidden_dim)
    decoder |= attention | _linear(weights, "att_embed.0", "grid", grid_dim, feature_dim)
    decoder |= _linear(weights, "fc_embed.0", "vector", grid_dim, vector_dim)
    first = weights.take("core.att_lstm.weight_ih", gates, hidden_dim + grid_dim + embedding_dim)
    second = weights.take("core.lang_lstm.weight_ih", gates, grid_dim + hidden_dim)
    for theirs, ours, inputs in (
        ("core.att_lstm", "attention_lstm", first[:, hidden_dim + grid_dim :]),
        ("core.lang_lstm", "language_lstm", second[:, grid_dim:]),
    ):
        decoder |= {
            f"{ours}.inputs.0.weight": inputs,
            f"{ours}.inputs.0.bias": sum_of_biases(weights, (f"{theirs}.bias_ih", f"{theirs}.bias_hh"), gates),
            f"{ours}.cells.0.recurrent.weight": weights.take(f"{theirs}.weight_hh", gates, hidden_dim),
        }
    decoder |= {
        "language_to_gates.weight": first[:, :hidden_dim],
        "image_to_gates.weight": first[:, hidden_dim : hidden_dim + grid_dim],
        "context_to_gates.weight": second[:, :grid_dim],
    }
    model = UpDownConfig(
        embedding_dim=embedding_dim,
        hidden_dim=hidden_dim,
        attention_dim=attention_dim,
        grid_dim=grid_dim,
        vector_dim=vector_dim if vector_dim != feature_dim else None,
        dropout=options.dropout(),
        word_activation="relu",
    )
    return Converted(model, decoder, feature_dim, vector_dim, options.integer("max_length", 20))


def _multihead(weights: Weights, theirs: str, ours: str, size: int) -> dict[str, Tensor]:
    """The four linear maps of multi-head attention."""
    layers: dict[str, Tensor] = {}
    for number, name in enumerate(("query", "key", "value", "out")):
        layers |= _linear(weights, f"{theirs}.linears.{number}", f"{ours}.{name}", size, size)
    return layers


def _norm(weights: Weights, theirs: str, ours: str, size: int) -> dict[str, Tensor]:
    return {f"{ours}.weight": weights.take(f"{theirs}.a_2", size), f"{ours}.bias": weights.take(f"{theirs}.b_2", size)}


def _transformer_layers(
    weights: Weights, stack: str, attentions: dict[str, str], size: int
) -> tuple[int, dict[str, Tensor]]:
    """The number of layers of the encoder or the decoder, and the layers; `attentions`: theirs → ours, in order."""
    layers: dict[str, Tensor] = {}
    count = 0
    while f"model.{stack}.layers.{count}.feed_forward.w_1.weight" in weights:
        theirs, ours = f"model.{stack}.layers.{count}", f"{stack}.{count}"
        inner, _ = weights.shape(f"{theirs}.feed_forward.w_1.weight", 2)
        for name, own in attentions.items():
            layers |= _multihead(weights, f"{theirs}.{name}", f"{ours}.{own}", size)
        layers |= _linear(weights, f"{theirs}.feed_forward.w_1", f"{ours}.feed_forward.0", inner, size)
        layers |= _linear(weights, f"{theirs}.feed_forward.w_2", f"{ours}.feed_forward.3", size, inner)
        for norm in range(len(attentions) + 1):
            layers |= _norm(weights, f"{theirs}.sublayer.{norm}.norm", f"{ours}.norms.{norm}", size)
        count += 1
    return count, layers


def _transformer(weights: Weights, rows: WordRows, options: Options) -> Converted:
    """transformer: pre-norm, sinusoidal positions of words, none of regions. The number of heads is in the options."""
    _, size = weights.shape("model.tgt_embed.0.lut.weight", 2)
    _, decoder = word_layers(weights, rows, "model.tgt_embed.0.lut", "model.generator.proj", size)
    _, feature_dim = weights.shape("att_embed.0.weight", 2)
    inner, _ = weights.shape("model.decoder.layers.0.feed_forward.w_1.weight", 2)
    decoder |= _linear(weights, "att_embed.0", "grid", size, feature_dim)
    own = {"self_attn": "self_attention", "src_attn": "memory_attention"}
    encoder_layers, encoder = _transformer_layers(weights, "encoder", {"self_attn": "self_attention"}, size)
    layers, words = _transformer_layers(weights, "decoder", own, size)
    decoder |= encoder | words
    decoder |= _norm(weights, "model.encoder.norm", "memory_norm", size)
    decoder |= _norm(weights, "model.decoder.norm", "output_norm", size)
    weights.drop("model.tgt_embed.1.pe")  # the sinusoids, which are computed
    model = TransformerConfig(
        layers=layers,
        encoder_layers=encoder_layers,
        embedding_dim=size,
        hidden_dim=size,
        heads=options.integer("num_att_heads", 8),
        feed_forward_dim=inner,
        dropout=options.dropout("dropout"),
        layer_norm="unbiased",
    )
    return Converted(model, decoder, feature_dim, 0, options.integer("max_length", 20))


CONVERTERS: dict[str, Converter] = {
    "fc": _fc,
    "newfc": _newfc,
    "show_tell": _convert_show_tell,
    "att2in2": _att2in2,
    "updown": _updown,
    "topdown": _updown,
    "transformer": _transformer,
}
"""caption_model → converter."""
