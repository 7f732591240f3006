"""The model card of an exported model: training data and terms, training command, scores, limitations.

Everything except the limitations is written from the run's folder; a person who has read the model's captions writes
those. The headings follow Mitchell et al. 2019, "Model Cards for Model Reporting", section 4. The YAML header is the
Hugging Face Hub's (https://huggingface.co/docs/hub/model-cards), which reads license, task and scores from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from captioner.checkpoint.calibration import CalibrationRecord
from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.checkpoint.export import ExportedWeights
from captioner.config import DecodeConfig, TrainConfig
from captioner.config.data import DataCard
from captioner.decode.consensus import ConsensusRecord
from captioner.metrics.format import markdown_lines, printed_score, scale_note

_MOST_NAMES = 4  # of weights in 8 bits that are listed
NO_NOTES = "Not known: nobody has described this model's errors yet. Read its captions before you rely on them."
_OTHER_DATA = DataCard(
    "private data",
    "The images and captions of whoever trained the model: ask them about the terms of use.",
    "unknown",
)
_UNKNOWN_DATA = DataCard("unknown", "Unknown: the run's settings were not beside its checkpoint.", "unknown")

_HUB_METRICS = {"Bleu": "bleu", "ROUGE_L": "rouge", "CIDEr": "cider", "METEOR": "meteor", "SPICE": "spice"}
"""Prefix of a metric's name → the Hub's name for it."""


@dataclass(frozen=True)
class TrainingRecord:
    """What a run's folder tells about its training; None for what is unknown.

    settings: the run's settings; command: the `python train.py …` with these settings; metrics: its `metrics.json`.
    """

    settings: TrainConfig | None = None
    command: str | None = None
    metrics: Mapping[str, Any] | None = None

    @property
    def data(self) -> DataCard:
        """The data set, as the card describes it."""
        return _UNKNOWN_DATA if self.settings is None else self.settings.data.card or _OTHER_DATA

    @property
    def is_known_data(self) -> bool:
        """Whether the data set's settings have a `card`."""
        return self.settings is not None and self.settings.data.card is not None

    @property
    def scores(self) -> dict[str, float]:
        """The corpus scores in `metrics.json`, as fractions."""
        return {key: value for key, value in (self.metrics or {}).items() if isinstance(value, float)}


def model_card(
    name: str, loaded: LoadedCheckpoint, packed: ExportedWeights, record: TrainingRecord, notes: str | None
) -> str:
    """The card as Markdown with a YAML header; `notes`: the model's limitations, in Markdown."""
    sections = [
        _header(name, record),
        f"# {name}",
        "An image captioning model: it generates a caption for a photo. Exported by `python -m captioner export`.",
        _usage(name),
        "## Model\n\n" + "\n".join(f"- {line}" for line in _model(loaded, packed)),
        f"## Training data\n\n{record.data.description}",
        "## Training\n\n" + _training(record),
        "## Evaluation\n\n" + _scores(record, loaded.settings.decode),
        *([] if loaded.calibration is None else ["## Confidence\n\n" + _confidence(loaded.calibration.record)]),
        "## Limitations\n\n" + (notes.strip() if notes else NO_NOTES),
    ]
    return "\n\n".join(sections) + "\n"


def _confidence(record: CalibrationRecord) -> str:
    return (
        f"Measured on the {record.images:,} images of {record.data} {record.split}, each with a calibration that was "
        f"fitted on the others: a caption counts as good if its CIDEr-D is {record.good_at:.2f} or more, which three "
        f"of four reference captions reach. {record.good:.0%} of the captions are good. Expected calibration error "
        f"{record.calibration_error:.3f}; a good caption has a higher confidence than another in {record.auc:.0%} of "
        "pairs. Images unlike these have no confidence."
    )


def _header(name: str, record: TrainingRecord) -> str:
    """The Hub's metadata: https://huggingface.co/docs/hub/model-cards#model-card-metadata."""
    header: dict[str, Any] = {"language": "en"} if record.is_known_data else {}
    header["license"] = record.data.license
    if record.data.license == "other":
        header |= {"license_name": "see-training-data", "license_link": "#training-data"}
    header |= {"library_name": "captioner", "pipeline_tag": "image-to-text", "tags": ["image-captioning"]}
    if record.settings is not None and record.is_known_data:
        header["datasets"] = [record.settings.data.name]
    values = [(hub, key, value) for key, value in record.scores.items() if (hub := _hub_metric(key)) is not None]
    if values and record.metrics is not None:
        signature = record.metrics["signature"]
        header["metrics"] = list(dict.fromkeys(hub for hub, _, _ in values))
        result = {
            "task": {"type": "image-to-text", "name": "Image captioning"},
            "dataset": {"type": signature["data"], "name": record.data.name, "split": signature["split"]},
            "metrics": [{"type": hub, "name": key, "value": round(100 * value, 2)} for hub, key, value in values],
        }
        header["model-index"] = [{"name": name, "results": [result]}]
    text: str = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def _hub_metric(key: str) -> str | None:
    return next((hub for prefix, hub in _HUB_METRICS.items() if key.startswith(prefix)), None)


def _usage(name: str) -> str:
    return (
        f"```bash\npython caption.py photo.jpg --checkpoint {name}\n```\n\n"
        f'```python\nfrom captioner import Captioner\n\nCaptioner.pretrained("{name}").caption("photo.jpg").text\n```'
    )


def _model(loaded: LoadedCheckpoint, packed: ExportedWeights) -> list[str]:
    settings, size = loaded.settings, loaded.settings.transform.size
    model, encoder = settings.model, settings.encoder
    training = f"fine-tuned from {encoder.fine_tune_from} on" if encoder.fine_tune_from else "frozen"
    return [
        f"Decoder: `model.name={model.name}`, {packed.decoder_parameters / 1e6:.1f} M parameters, {_sizes(model)}",
        f"Encoder: {encoder.name} ({training}), images of {size} × {size} pixels ({settings.transform.resize})"
        if encoder.feature_dim is None
        else f"Encoder: none; features made elsewhere, {encoder.feature_dim:,} values per region",
        f"Vocabulary: {len(loaded.vocabulary):,} tokens, tokenizer {settings.tokenizer.name}",
        f"Weights: {_storage(packed, encoder.name)}",
        *([] if loaded.consensus is None else [f"Consensus predictor: {_consensus(loaded.consensus.record)}"]),
    ]


def _consensus(record: ConsensusRecord) -> str:
    return (
        f"{record.ngrams:,} n-grams from {record.dimensions} features of an image, in {record.bits} bits, fitted to "
        f"{record.images:,} images of {record.data} {record.split} (docs/decoding.md#consensus-re-ranking)"
    )


def _sizes(model: Any) -> str:
    sizes = ("cell", "layers", "embedding_dim", "hidden_dim", "attention_dim")
    return ", ".join(f"`{key}={getattr(model, key)}`" for key in sizes if hasattr(model, key))


def _storage(packed: ExportedWeights, encoder: str) -> str:
    text = "stored as float16 (vectors as float32), loaded as float32" if packed.half else "float32"
    if packed.in_8_bits:
        text += f"; in 8 bits with one scale per row: {_names(packed.in_8_bits)}"
    if packed.omitted_weights:
        text += (
            f"; without the {len(packed.omitted_weights.blocks)} blocks of {encoder} that equal the published weights, "
            f"which come with captioner (SHA-256 {packed.omitted_weights.sha256[:16]}…, checked when loading)"
        )
    return text


def _names(weights: Sequence[str]) -> str:
    """A few weights by name, many by their number in each part of the model."""
    if len(weights) <= _MOST_NAMES:
        return ", ".join(f"`{name}`" for name in weights)
    parts = Counter(name.split(".")[0] for name in weights)
    (first, count), *others = parts.items()
    return " and ".join([f"{count} matrices of the {first}", *(f"{n} of the {part}" for part, n in others)])


def _training(record: TrainingRecord) -> str:
    if record.settings is None or record.command is None:
        return _UNKNOWN_DATA.description
    run = (record.metrics or {}).get("run", {})
    lines = [f"```bash\n{record.command}\n```"]
    if "epochs" in run:
        lines.append(
            f"{run['epochs']} epochs, {run['steps']:,} steps. The weights are those of step {run['best_step']:,}, with "
            f"the best {record.settings.trainer.monitor} on the validation split. All settings: `config.yaml`."
        )
    return "\n\n".join(lines)


def _scores(record: TrainingRecord, decode: DecodeConfig) -> str:
    if record.metrics is None or not record.scores:
        return f"No scores were stored beside the checkpoint. The model decodes with {_search(decode)} by default."
    intervals = record.metrics.get("intervals", {})
    rows = []
    for key, value in record.scores.items():
        bounds = [printed_score(key, bound) for bound in intervals.get(key, ())]
        rows.append([key, printed_score(key, value), " – ".join(bounds)])
    signature = record.metrics["signature"]
    scored = _search(DecodeConfig(**signature["decode"])) if "decode" in signature else _search(decode)
    return "\n".join(
        [
            f"On the {signature['images']:,} images of {signature['data']} {signature['split']} with "
            f"{signature['references']:,} reference captions, {scored}, measured before the weights were rounded. "
            f"{scale_note(record.scores)}, with 95 % bootstrap intervals over images; loss is in nats per token of the "
            "reference captions.",
            "",
            *markdown_lines(["metric", "score", "95 %"], rows),
        ]
    )


def _search(decode: DecodeConfig) -> str:
    name = "beam search" if decode.name == "beam" else f"`decode.name={decode.name}`"
    return f"{name} with {', '.join(f'`{setting}`' for setting in decode.described)}"
