"""ruotianluo/ImageCaptioning.pytorch: the models fc, newfc, show_tell, att2in2, updown and transformer.

    model.pth, model-best.pth, …    the decoder's state dict
    infos_ID.pkl, infos_ID-best.pkl the vocabulary, and the options as an argparse.Namespace

The project computes image features beforehand, so there is no encoder in its checkpoints. Id 0 is the start, the end
and the padding at once, words begin at 1, and the last one may be UNK: our <START> reads row 0, our <END> is predicted
by row 0, and our <PAD> and <START> are never predicted.

Each caption_model has a converter in `CONVERTERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from captioner.checkpoint.foreign.conversion import (
    ForeignEncoder,
    ForeignFiles,
    ForeignModel,
    Weights,
    WordRows,
    file_beside,
    own_vocabulary,
    state_dict_of,
    sum_of_biases,
)
from captioner.checkpoint.foreign.pickle_reader import Record
from captioner.checkpoint.foreign.torch_file import read_torch_file
from captioner.config import DecodeConfig, ModelConfig, RecurrentConfig
from captioner.errors import CheckpointError, near_misses

_IMAGE_SIZE, _GRID = 448, 14
_SIGNS = ("core.", "_core.", "model.decoder.", "logit.")


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


def recognizes(content: Any) -> bool:
    """Whether this is the content of one of the project's model or infos files."""
    if _is_infos(content):
        return True
    return isinstance(content, dict) and any(str(name).startswith(_SIGNS) for name in content)


def _is_infos(content: Any) -> bool:
    return isinstance(content, dict) and {"vocab", "opt"} <= content.keys()


def convert(files: ForeignFiles) -> ForeignModel:
    """The model in our terms; CheckpointError where the infos file is missing or something does not fit."""
    if _is_infos(files.content):
        raise CheckpointError(
            f"{files.path} has the options and the vocabulary: give the weights, model.pth; it finds this file."
        )
    infos_path = files.vocabulary or _infos_beside(files)
    infos = read_torch_file(infos_path)
    if not _is_infos(infos) or not isinstance(infos["vocab"], dict):
        raise CheckpointError(f"{infos_path} is no infos file of this project: it needs the keys vocab and opt.")
    stored = infos["opt"]
    options = Options(stored.attributes if isinstance(stored, Record) else {}, infos_path)
    name = str(options.values.get("caption_model", ""))
    if name not in CONVERTERS:
        raise CheckpointError(
            f"{infos_path} is of caption_model={name or 'unknown'}, which cannot be imported."
            f"{near_misses(name, CONVERTERS)} Can be: {', '.join(CONVERTERS)}."
        )
    _check_options(options)
    weights = Weights(files.path, state_dict_of(files.content, files.path))
    rows = _word_rows(infos["vocab"], infos_path)
    converted = CONVERTERS[name](weights, rows, options)
    weights.finish()
    iteration = infos.get("iter")
    return ForeignModel(
        about=f"{name} of ruotianluo{f', iteration {iteration}' if type(iteration) is int else ''}",
        model=converted.model,
        feature_dim=converted.grid_dim or converted.vector_dim,
        decoder=converted.weights,
        vocabulary=rows.vocabulary,
        encoder=ForeignEncoder(None, _IMAGE_SIZE, grid_size=_GRID if converted.grid_dim else None),
        decode=DecodeConfig(name="greedy", max_length=converted.max_length, allow_unknown=True),
        notes=[
            "The file has no encoder: it was trained on features computed beforehand. Photos are captioned well only "
            "with the encoder that computed them."
        ],
    )


def _infos_beside(files: ForeignFiles) -> Path:
    folder, suffix = files.path.parent, files.path.stem.partition("model")[2]  # model-best.pth: "-best"
    found = sorted(folder.glob(f"infos_*{suffix}.pkl"))
    found = found if suffix else [path for path in found if not path.stem.endswith("-best")] or found
    if len(found) > 1:
        raise CheckpointError(
            f"{folder} has several infos files ({', '.join(path.name for path in found[:4])}): name the one of "
            f"{files.path.name} with --vocabulary."
        )
    return file_beside(
        files,
        "the options and the vocabulary of its training",
        "--vocabulary",
        found or [folder / f"infos_ID{suffix}.pkl"],
        "the project's train.py wrote as infos_ID.pkl",
    )


def _check_options(options: Options) -> None:
    """CheckpointError for options that change the network or its features in ways that captioner does not have."""
    for name, default in (("use_bn", 0), ("logit_layers", 1), ("norm_att_feat", 0), ("use_box", 0)):
        if (value := options.integer(name, default)) != default:
            raise CheckpointError(
                f"{options.source}: the model was trained with --{name} {value}, which cannot be imported; only "
                f"--{name} {default} can."
            )


def _word_rows(vocab: dict[Any, Any], source: Path) -> WordRows:
    """`vocab`: id as text → word, from "1" on."""
    count = len(vocab)
    words = [vocab.get(str(number), vocab.get(number)) for number in range(1, count + 1)]
    if not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{source}: its vocab does not give a word for each id from 1 to {count}.")
    unknown = count if words and words[-1] == "UNK" else None
    known = [str(word) for word in words[: count - (unknown is not None)]]
    ids = range(1, len(known) + 1)
    return WordRows(own_vocabulary(known, source), [0, 0, 0, unknown, *ids], [None, None, 0, unknown, *ids])


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


CONVERTERS: dict[str, Converter] = {"fc": _fc, "newfc": _newfc, "show_tell": _convert_show_tell}
"""caption_model → converter."""
