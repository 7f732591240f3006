"""sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning: Show, Attend and Tell with soft attention.

    BEST_checkpoint_DATA.pth.tar, checkpoint_DATA.pth.tar    the whole encoder and decoder modules, pickled
    WORDMAP_DATA.json                                        word → id

Its decoder, in the terms of `captioner.nn.decoders.show_attend_tell`:

    h_0, c_0 = f_init(mean_i a_i)                            initial_state=linear: without tanh
    α_t      = softmax over i of w·ReLU(W_a a_i + W_h h)     score=additive_relu
    z_t      = σ(f_β(h)) ∘ Σ_i α_ti a_i                      gate=vector
    p(y_t)   = softmax(L_h h_t)                              output=hidden

The encoder is a ResNet-101 for images of 256 × 256, whose last feature map is averaged to 14 × 14 regions.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.foreign.conversion import (
    ForeignEncoder,
    ForeignFiles,
    ForeignModel,
    Weights,
    WordRows,
    file_beside,
    own_vocabulary,
    resnet_weights,
    state_dict_of,
    sum_of_biases,
)
from captioner.checkpoint.foreign.pickle_reader import Record
from captioner.config import AttentionConfig, DecodeConfig
from captioner.errors import CheckpointError

_SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")  # in the order of our ids
_GRID, _IMAGE_SIZE = 14, 256


def recognizes(content: Any) -> bool:
    """Whether this is the content of one of the project's checkpoints."""
    return isinstance(content, dict) and "encoder" in content and "decoder" in content


def convert(files: ForeignFiles) -> ForeignModel:
    """The model in our terms; CheckpointError where the word map is missing or something does not fit."""
    content = files.content
    rows = _read_word_map(files)
    weights = Weights(files.path, state_dict_of(content["decoder"], files.path))
    model, decoder, feature_dim = _convert_decoder(weights, rows, _dropout(content["decoder"]))
    encoder = resnet_weights(state_dict_of(content["encoder"], files.path), files.path)
    epoch = content.get("epoch")
    return ForeignModel(
        about=f"Show, Attend and Tell of sgrvinod{f', epoch {epoch + 1}' if type(epoch) is int else ''}",
        model=model,
        feature_dim=feature_dim,
        decoder=decoder,
        vocabulary=rows.vocabulary,
        encoder=ForeignEncoder(encoder, _IMAGE_SIZE, grid_size=_GRID),
        decode=DecodeConfig(name="beam", beam_width=5, max_length=50, allow_unknown=True),
    )


def _read_word_map(files: ForeignFiles) -> WordRows:
    path = files.vocabulary
    if path is None:
        name = files.path.name.removesuffix(".pth.tar")
        data = name.partition("checkpoint_")[2] or "*"
        path = file_beside(
            files,
            f"the word map WORDMAP_{data}.json",
            "--vocabulary",
            sorted(files.path.parent.glob(f"WORDMAP_{data}.json")) or [files.path.parent / f"WORDMAP_{data}.json"],
            "the project's create_input_files.py wrote",
        )
    try:
        word_map = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as a word map ({error!s:.100}).") from error
    if not isinstance(word_map, dict) or sorted(map(str, word_map.values())) != sorted(map(str, range(len(word_map)))):
        raise CheckpointError(f"{path} is not a word map: expected one JSON object, word → id from 0 on.")
    if missing := [name for name in _SPECIAL if name not in word_map]:
        raise CheckpointError(f"{path} has no {missing[0]}: it is not a word map of this project.")
    words = sorted((word for word in word_map if word not in _SPECIAL), key=word_map.__getitem__)
    ids = [word_map[word] for word in (*_SPECIAL, *words)]
    return WordRows(own_vocabulary(words, path), ids, ids)


def _dropout(decoder: Any) -> float:
    """p of the pickled Dropout layer; the project's default where the file has only weights."""
    modules = decoder.attributes.get("_modules") if isinstance(decoder, Record) else None
    layer = modules.get("dropout") if isinstance(modules, dict) else None
    probability = layer.attributes.get("p") if isinstance(layer, Record) else None
    return float(probability) if isinstance(probability, (int, float)) and 0 <= probability <= 0.95 else 0.5


def _convert_decoder(
    weights: Weights, rows: WordRows, dropout: float
) -> tuple[AttentionConfig, dict[str, Tensor], int]:
    attention_dim, feature_dim = weights.shape("attention.encoder_att.weight", 2)
    words, embedding_dim = weights.shape("embedding.weight", 2)
    _, hidden_dim = weights.shape("decode_step.weight_hh", 2)
    if words != len(rows.vocabulary):
        raise CheckpointError(
            f"{weights.source} has a decoder of {words} words, and its word map has {len(rows.vocabulary)}: they "
            "belong to different trainings. Name the right one with --vocabulary."
        )
    take, gates = weights.take, 4 * hidden_dim
    output, output_bias = rows.output(take("fc.weight", words, hidden_dim), take("fc.bias", words))
    inputs = take("decode_step.weight_ih", gates, embedding_dim + feature_dim)
    initial, initial_bias = [], []
    for name in ("init_h", "init_c"):
        initial.append(take(f"{name}.weight", hidden_dim, feature_dim))
        initial_bias.append(take(f"{name}.bias", hidden_dim))
    key_bias = take("attention.encoder_att.bias", attention_dim)
    decoder = {
        "embedding.weight": rows.embedding(take("embedding.weight", words, embedding_dim)),
        "stack.inputs.0.weight": inputs[:, :embedding_dim],
        "stack.inputs.0.bias": sum_of_biases(weights, ["decode_step.bias_ih", "decode_step.bias_hh"], gates),
        "stack.cells.0.recurrent.weight": take("decode_step.weight_hh", gates, hidden_dim),
        "context_to_gates.weight": inputs[:, embedding_dim:],
        "attention.keys.weight": take("attention.encoder_att.weight", attention_dim, feature_dim),
        "attention.query.weight": take("attention.decoder_att.weight", attention_dim, hidden_dim),
        "attention.query.bias": take("attention.decoder_att.bias", attention_dim) + key_bias,
        "attention.score.weight": take("attention.full_att.weight", 1, attention_dim),
        "gate.weight": take("f_beta.weight", feature_dim, hidden_dim),
        "gate.bias": take("f_beta.bias", feature_dim),
        "init.weight": torch.cat(initial),
        "init.bias": torch.cat(initial_bias),
        "output.words.weight": output,
        "output.words.bias": output_bias,
    }
    weights.drop("attention.full_att.bias")  # it cancels in the softmax
    weights.finish()
    model = AttentionConfig(
        embedding_dim=embedding_dim,
        hidden_dim=hidden_dim,
        attention_dim=attention_dim,
        dropout=dropout,
        tie_embeddings=False,
        score="additive_relu",
        gate="vector",
        initial_state="linear",
        output="hidden",
    )
    return model, decoder, feature_dim
