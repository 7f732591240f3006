"""yunjey/pytorch-tutorial, image_captioning: Show and Tell with a batch-normalized image embedding.

    decoder-EPOCH-STEP.ckpt (.pkl)    the decoder's state dict
    encoder-EPOCH-STEP.ckpt (.pkl)    the encoder's: a ResNet-152, and the image embedding
    vocab.pkl                         a pickled object with word2idx

In the terms of `captioner.nn.decoders.recurrent`: an LSTM of one layer or more, injection=pre, and
image_projection=batch_norm, W v normalized over the batch. The bias of the project's embedding cancels in the
normalization, so it is subtracted from the running mean. The image step predicts <start> there, and here it predicts
nothing; then <start> is read in both.
"""

from __future__ import annotations

from pathlib import Path
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
from captioner.checkpoint.foreign.torch_file import read_torch_file
from captioner.config import DecodeConfig, RecurrentConfig
from captioner.errors import CheckpointError

_SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")  # in the order of our ids
_IMAGE_SIZE = 224
_LONGEST = 19  # its 20 ids begin with <start>


def recognizes(content: Any) -> bool:
    """Whether this is the content of one of the project's decoders, or encoders."""
    return isinstance(content, dict) and (
        {"embed.weight", "lstm.weight_ih_l0", "linear.weight"} <= content.keys() or _is_encoder(content)
    )


def _is_encoder(content: dict[Any, Any]) -> bool:
    return {"resnet.0.weight", "linear.weight", "bn.running_mean"} <= content.keys()


def convert(files: ForeignFiles) -> ForeignModel:
    """The model in our terms; CheckpointError where a file is missing or something does not fit."""
    if _is_encoder(files.content):
        raise CheckpointError(
            f"{files.path} is the project's encoder: give the decoder, decoder-….ckpt; the encoder beside it is found."
        )
    rows = _read_vocabulary(files)
    encoder_path = files.encoder or _encoder_beside(files)
    content = read_torch_file(encoder_path)
    if not isinstance(content, dict) or not _is_encoder(content):
        raise CheckpointError(f"{encoder_path} is no encoder of this project: expected encoder-….ckpt.")
    image = Weights(encoder_path, state_dict_of(content, encoder_path))
    weights = Weights(files.path, state_dict_of(files.content, files.path))
    model, decoder = _convert_decoder(weights, rows)
    feature_dim, projection = _convert_projection(image, model.embedding_dim)
    return ForeignModel(
        about="Show and Tell of yunjey",
        model=model,
        feature_dim=feature_dim,
        decoder=decoder | projection,
        vocabulary=rows.vocabulary,
        encoder=ForeignEncoder(resnet_weights(image.rest(), encoder_path), _IMAGE_SIZE, interpolation="lanczos"),
        decode=DecodeConfig(name="greedy", max_length=_LONGEST, allow_unknown=True),
    )


def _encoder_beside(files: ForeignFiles) -> Path:
    name = files.path.name
    beside = files.path.with_name(name.replace("decoder", "encoder", 1) if "decoder" in name else f"encoder-{name}")
    return file_beside(
        files, "the encoder of the same training", "--encoder-weights", [beside], "the project's train.py wrote"
    )


def _read_vocabulary(files: ForeignFiles) -> WordRows:
    folder = files.path.absolute().parent
    path = files.vocabulary or file_beside(
        files,
        "the vocabulary vocab.pkl",
        "--vocabulary",
        [folder / "vocab.pkl", folder.parent / "data" / "vocab.pkl"],
        "the project's build_vocab.py wrote",
    )
    content = read_torch_file(path)
    ids = content.attributes.get("word2idx") if isinstance(content, Record) else None
    if not isinstance(ids, dict) or not all(isinstance(word, str) and type(ids[word]) is int for word in ids):
        raise CheckpointError(f"{path} is not a vocabulary of this project: expected an object with word2idx.")
    if missing := [name for name in _SPECIAL if name not in ids]:
        raise CheckpointError(f"{path} has no {missing[0]}: it is not a vocabulary of this project.")
    words = sorted((word for word in ids if word not in _SPECIAL), key=ids.__getitem__)
    order = [ids[word] for word in (*_SPECIAL, *words)]
    if sorted(order) != list(range(len(order))):
        raise CheckpointError(f"{path} does not give each word an id from 0 on: it was altered.")
    return WordRows(own_vocabulary(words, path), order, order)


def _convert_decoder(weights: Weights, rows: WordRows) -> tuple[RecurrentConfig, dict[str, Tensor]]:
    words, embedding_dim = weights.shape("embed.weight", 2)
    _, hidden_dim = weights.shape("lstm.weight_hh_l0", 2)
    if words != len(rows.vocabulary):
        raise CheckpointError(
            f"{weights.source} has a decoder of {words} words, and its vocabulary has {len(rows.vocabulary)}: they "
            "belong to different trainings. Name the right one with --vocabulary."
        )
    take, gates, layers = weights.take, 4 * hidden_dim, 0
    decoder = {"embedding.weight": rows.embedding(take("embed.weight", words, embedding_dim))}
    while f"lstm.weight_ih_l{layers}" in weights:
        inputs = hidden_dim if layers else embedding_dim
        biases = [f"lstm.bias_ih_l{layers}", f"lstm.bias_hh_l{layers}"]
        decoder |= {
            f"stack.inputs.{layers}.weight": take(f"lstm.weight_ih_l{layers}", gates, inputs),
            f"stack.inputs.{layers}.bias": sum_of_biases(weights, biases, gates),
            f"stack.cells.{layers}.recurrent.weight": take(f"lstm.weight_hh_l{layers}", gates, hidden_dim),
        }
        layers += 1
    output, bias = rows.output(take("linear.weight", words, hidden_dim), take("linear.bias", words))
    decoder |= {"output.words.weight": output, "output.words.bias": bias}
    weights.finish()
    model = RecurrentConfig(
        cell="lstm",
        layers=layers,
        embedding_dim=embedding_dim,
        hidden_dim=hidden_dim,
        dropout=0.0,
        injection="pre",
        image_projection="batch_norm",
    )
    return model, decoder


def _convert_projection(image: Weights, embedding_dim: int) -> tuple[int, dict[str, Tensor]]:
    """D, and the weights of W v and its normalization."""
    _, feature_dim = image.shape("linear.weight", 2)
    projection = {
        "image.weight": image.take("linear.weight", embedding_dim, feature_dim),
        "image.batch_norm.weight": image.take("bn.weight", embedding_dim),
        "image.batch_norm.bias": image.take("bn.bias", embedding_dim),
        "image.batch_norm.running_var": image.take("bn.running_var", embedding_dim),
    }
    mean, bias = image.take("bn.running_mean", embedding_dim), image.take("linear.bias", embedding_dim)
    projection["image.batch_norm.running_mean"] = mean - bias
    projection["image.batch_norm.num_batches_tracked"] = image.take("bn.num_batches_tracked").to(torch.int64)
    return feature_dim, projection
