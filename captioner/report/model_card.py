"""The card of an exported captioner: what it was trained on and how, how good it is, and what it gets wrong.

All but the last is written from what the run's folder says; what a model gets wrong only a person can tell who has
looked at its captions. The headings are of Mitchell et al. 2019, "Model Cards for Model Reporting", section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.checkpoint.export import Packed
from captioner.config import DecodeConfig, TrainConfig
from captioner.metrics.format import AS_PAPERS_PRINT, markdown_lines

NO_NOTES = "Nobody has written down yet what this captioner gets wrong: look at its captions before you rely on them."

_FLICKR = (
    "The photos belong to their authors on Flickr and come without a licence to pass them on; the captions were "
    "written for research by people paid for it. The data set is given for non-commercial research and education, and "
    "this model is meant for the same. No photo is part of it."
)
DATA = {
    "flickr8k": (
        "Flickr8k (Hodosh, Young & Hockenmaier 2013): 8,091 photos in all, five captions each; learnt from is its "
        f"training split. {_FLICKR}"
    ),
    "flickr30k": (f"Flickr30k (Young, Lai, Hodosh & Hockenmaier 2014): 31,783 photos, five captions each. {_FLICKR}"),
    "coco": (
        "MS COCO captions (Chen et al. 2015). The captions are under CC BY 4.0; the photos belong to their authors on "
        "Flickr, each under terms of its own. No photo is part of this model."
    ),
    "scenes": "Images drawn by captioner itself, with sentences made by its grammar: nobody's rights are touched.",
}
"""Data set → what it is and on which terms."""
_OWN_DATA = "The trainer's own images and captions: ask whoever trained it on which terms they may be used."


@dataclass(frozen=True)
class Trained:
    """What a run's folder says of its training: settings, the command for them, `metrics.json`; None: unknown."""

    settings: TrainConfig | None = None
    command: str | None = None
    metrics: Mapping[str, Any] | None = None


def model_card(name: str, loaded: LoadedCheckpoint, packed: Packed, trained: Trained, notes: str | None) -> str:
    """The card as Markdown; `notes`: what the captioner gets wrong, in Markdown."""
    sections = [
        f"# {name}",
        "Made by `python -m captioner export`. A photo in, one English sentence out.",
        _usage(name),
        "## Model\n\n" + "\n".join(f"- {line}" for line in _model(loaded, packed)),
        "## Training data\n\n" + _data(trained),
        "## Recipe\n\n" + _recipe(trained),
        "## Scores\n\n" + _scores(trained.metrics, loaded.settings.decode),
        "## What it gets wrong\n\n" + (notes.strip() if notes else NO_NOTES),
    ]
    return "\n\n".join(sections) + "\n"


def _usage(name: str) -> str:
    return (
        f"```bash\npython caption.py photo.jpg --checkpoint {name}\n```\n\n"
        f'```python\nfrom captioner import Captioner\n\nCaptioner.pretrained("{name}").caption("photo.jpg").text\n```'
    )


def _model(loaded: LoadedCheckpoint, packed: Packed) -> list[str]:
    settings, size = loaded.settings, loaded.settings.transform.size
    model, encoder = settings.model, settings.encoder
    learnt = f"fine-tuned from {encoder.fine_tune_from} on" if encoder.fine_tune_from else "frozen"
    return [
        f"Decoder: `model.name={model.name}`, {packed.numbers / 1e6:.1f} M numbers, {_sizes(model)}",
        f"Encoder: {encoder.name} ({learnt}), images of {size} × {size} pixels ({settings.transform.resize})",
        f"Vocabulary: {len(loaded.vocabulary):,} words, tokenizer {settings.tokenizer.name}",
        f"Weights: {_storage(packed, encoder.name)}",
    ]


def _sizes(model: Any) -> str:
    sizes = ("cell", "layers", "embedding_dim", "hidden_dim", "attention_dim")
    return ", ".join(f"`{key}={getattr(model, key)}`" for key in sizes if hasattr(model, key))


def _storage(packed: Packed, encoder: str) -> str:
    text = "float16 (vectors float32), computed with in float32" if packed.half else "float32"
    if packed.in_8_bits:
        text += (
            f"; in 8 bits a number, with a scale for each row: {', '.join(f'`{name}`' for name in packed.in_8_bits)}"
        )
    if packed.omitted_weights:
        text += (
            f"; left out, because everybody who has captioner has them: {encoder}'s "
            f"{len(packed.omitted_weights.blocks)} blocks that are as published "
            f"(SHA-256 {packed.omitted_weights.sha256[:16]}…, checked at load)"
        )
    return text


def _data(trained: Trained) -> str:
    if trained.settings is None:
        return "Unknown: the run's settings were not beside its checkpoint."
    return DATA.get(trained.settings.data.name, _OWN_DATA)


def _recipe(trained: Trained) -> str:
    if trained.settings is None or trained.command is None:
        return "Unknown: the run's settings were not beside its checkpoint."
    facts = (trained.metrics or {}).get("run", {})
    lines = [f"```bash\n{trained.command}\n```"]
    if "epochs" in facts:
        lines.append(
            f"{facts['epochs']} epochs, {facts['steps']:,} steps; these weights are those of step "
            f"{facts['best_step']:,}, the best by {trained.settings.trainer.monitor} on the validation split. "
            f"All settings: `config.yaml`."
        )
    return "\n\n".join(lines)


def _scores(metrics: Mapping[str, Any] | None, decode: DecodeConfig) -> str:
    figures = {key: value for key, value in (metrics or {}).items() if isinstance(value, float)}
    if metrics is None or not figures:
        return f"None were beside its checkpoint. It searches with {_search(decode)} unless told otherwise."
    intervals = metrics.get("intervals", {})
    rows = []
    for key, value in figures.items():
        factor = 100 if key.startswith(AS_PAPERS_PRINT) else 1
        low, high = intervals.get(key, (None, None))
        rows.append(
            [key, f"{factor * value:.1f}", f"{factor * low:.1f} – {factor * high:.1f}" if low is not None else ""]
        )
    signature = metrics["signature"]
    scored = _search(DecodeConfig(**signature["decode"])) if "decode" in signature else _search(decode)
    return "\n".join(
        [
            f"On the {signature['images']:,} images of {signature['data']} {signature['split']}, "
            f"{signature['references']:,} references, {scored}; before the weights were rounded. Times 100, as papers "
            "print them, with 95 % bootstrap intervals over images where they were measured.",
            "",
            *markdown_lines(["figure", "× 100", "95 %"], rows),
        ]
    )


def _search(decode: DecodeConfig) -> str:
    if decode.name != "beam":
        return f"`decode.name={decode.name}`"
    penalty = f", `length_penalty={decode.length_penalty:g}`" if decode.length_penalty else ""
    return f"beam search with `beam_width={decode.beam_width}`{penalty}"
