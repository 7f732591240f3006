"""ruotianluo/ImageCaptioning.pytorch: the models fc, newfc, show_tell, att2in2, updown and transformer.

    model.pth, model-best.pth, …    the decoder's state dict
    infos_ID.pkl, infos_ID-best.pkl the vocabulary, and the options as an argparse.Namespace

The project computes image features beforehand, so there is no encoder in its checkpoints. Id 0 is the start, the end
and the padding at once, words begin at 1, and the last one may be UNK: our <START> reads row 0, our <END> is predicted
by row 0, and our <PAD> and <START> are never predicted. `ruotianluo_models` converts each caption_model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captioner.checkpoint.foreign.conversion import (
    ForeignEncoder,
    ForeignFiles,
    ForeignModel,
    Weights,
    WordRows,
    file_beside,
    own_vocabulary,
    state_dict_of,
)
from captioner.checkpoint.foreign.pickle_reader import Record
from captioner.checkpoint.foreign.ruotianluo_models import CONVERTERS, Options
from captioner.checkpoint.foreign.torch_file import read_torch_file
from captioner.config import DecodeConfig
from captioner.errors import CheckpointError, near_misses

_IMAGE_SIZE, _GRID = 448, 14
_SIGNS = ("core.", "_core.", "model.decoder.", "logit.")


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
    notes = []
    if converted.grid_dim and converted.vector_dim not in (0, converted.grid_dim):
        notes.append(
            f"Its regions have {converted.grid_dim} features and its image vector {converted.vector_dim}, which no "
            "encoder gives: it can caption no photo, only such features."
        )
    iteration = infos.get("iter")
    return ForeignModel(
        about=f"{name} of ruotianluo{f', iteration {iteration}' if type(iteration) is int else ''}",
        model=converted.model,
        feature_dim=converted.grid_dim or converted.vector_dim,
        decoder=converted.weights,
        vocabulary=rows.vocabulary,
        encoder=ForeignEncoder(None, _IMAGE_SIZE, grid_size=_GRID if converted.grid_dim else None),
        decode=DecodeConfig(name="greedy", max_length=converted.max_length, allow_unknown=True),
        notes=notes,
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
