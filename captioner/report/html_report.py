"""Build the HTML report from evaluations."""

from __future__ import annotations

import base64
import io
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.config import TokenizerConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import load_image
from captioner.errors import ImageError
from captioner.evaluation.evaluation import Evaluation
from captioner.files import write_atomically
from captioner.generated_caption import Caption
from captioner.metrics.bootstrap import Interval
from captioner.metrics.coco_results import ImageId
from captioner.metrics.format import printed_score, scale_note, signature_line
from captioner.plots.attention_sheet import CaptionLike, attention_maps, attention_overlay, boxes_of
from captioner.report.charts import COLORS, REFERENCES, Series, line_chart
from captioner.report.style import STYLE
from captioner.text.tokenizers import build_tokenizer

_THUMBNAIL, _PANEL = 260, 132  # pixels a side, at most
EXAMPLES = 8  # random, best and worst images each
_ORDER_BY = "CIDEr"
_MISSING_WORDS = 24  # how many frequent reference words that no system generates are listed


@dataclass(frozen=True)
class ReportedSystem:
    """One system on the split: its name in the report, its evaluation and the confidence intervals of its scores.

    attention: image id → caption with attention weights, for the images whose attention maps are shown.
    resize: how the encoder makes images square, "squash" or "crop" (`EncoderConfig.resize`).
    details: image id → caption, for the images that the report shows: its confidence, whether the image is unlike the
    training images, and its tags. confidence: what the confidence means, in a sentence; "" without a calibration.
    """

    name: str
    evaluation: Evaluation
    intervals: Mapping[str, Interval]
    attention: Mapping[ImageId, CaptionLike] = field(default_factory=dict)
    resize: str = "squash"
    details: Mapping[ImageId, Caption] = field(default_factory=dict)
    confidence: str = ""


def write_report(
    path: Path,
    systems: Sequence[ReportedSystem],
    dataset: CaptionDataset,
    tokenizer: TokenizerConfig,
    *,
    examples: int = EXAMPLES,
) -> None:
    """Write the report to `path`.

    examples: how many random images, best images and worst images are shown; best and worst by the first system's
    CIDEr per image, if it was computed. tokenizer: splits captions into words for the statistics. Raises OSError where
    `path` cannot be written, ImageError where an image cannot be read.
    """
    images = {image.image_id: image for image in dataset}
    title = f"{' · '.join(system.name for system in systems)} on {dataset.name} {dataset.split}"
    sections = [
        _scores(systems),
        *_examples(systems, images, examples),
        _words(systems, dataset, tokenizer),
        _attention(systems, images),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{''.join(sections)}</main></body></html>\n"
    )
    write_atomically(path, page.encode())


def choose_examples(image_ids: Sequence[ImageId], count: int) -> list[ImageId]:
    """`count` random images of a split (all, if there are fewer); the same ones in every report."""
    return random.Random(0).sample(sorted(image_ids, key=str), min(count, len(image_ids)))


def example_groups(evaluation: Evaluation, count: int = EXAMPLES) -> dict[str, list[ImageId]]:
    """Title → image ids of the examples in a report: `count` random, best and worst images each.

    Where CIDEr was not computed, no image is the best or the worst by it: random ones alone.
    """
    scored = evaluation.scores.per_image
    examples = {"Random examples": choose_examples(list(scored), count)}
    if not all(_ORDER_BY in of_image for of_image in scored.values()):
        return examples
    ranked = sorted(scored, key=lambda image_id: (scored[image_id][_ORDER_BY], str(image_id)))
    return examples | {
        f"Best by {_ORDER_BY}": ranked[: -count - 1 : -1],
        f"Worst by {_ORDER_BY}": ranked[:count],
    }


def _confidence(systems: Sequence[ReportedSystem]) -> str:
    """What each system's confidence means."""
    lines = [
        f"<p>{_badge(number)}{escape(system.confidence)}</p>"
        for number, system in enumerate(systems)
        if system.confidence
    ]
    return "".join(lines)


def _details(caption: Caption | None) -> str:
    """How sure the system is, and what its encoder sees, in a line; "" where nothing is known."""
    if caption is None:
        return ""
    parts = []
    if caption.confidence is not None:
        parts.append(f"confidence {100 * caption.confidence:.0f} %")
    if caption.unlike_training:
        parts.append("unlike the photos that the model was trained on")
    if caption.tags:
        parts.append("sees " + ", ".join(f"{tag.word} {100 * tag.probability:.0f} %" for tag in caption.tags))
    return f"<p class='details'><small>{escape(' · '.join(parts))}</small></p>" if parts else ""


def _scores(systems: Sequence[ReportedSystem]) -> str:
    """The table of corpus scores, one row per system."""
    names = list(dict.fromkeys(name for system in systems for name in system.evaluation.table_row))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = ""
    for number, system in enumerate(systems):
        cells = ""
        for name in names:
            value, interval = system.evaluation.table_row.get(name), system.intervals.get(name)
            spread = ""
            if interval is not None:
                low, high = (printed_score(name, bound) for bound in (interval.low, interval.high))
                spread = f"<small>{low} – {high}</small>"
            cells += "<td>–</td>" if value is None else f"<td>{printed_score(name, value)}{spread}</td>"
        rows += f"<tr><th>{_badge(number)}{escape(system.name)}</th>{cells}</tr>"
    unavailable = {name: why for system in systems for name, why in system.evaluation.scores.unavailable.items()}
    notes = "".join(f"<p>{escape(name)} unavailable: {escape(why)}</p>" for name, why in unavailable.items())
    return (
        f'<section><h2>Scores</h2><div class="wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'
        f"<p>{scale_note(names)}; loss is in nats per token of the reference captions. "
        "Small: 95 % bootstrap intervals over images.</p>"
        f"{notes}{_confidence(systems)}<p><small>{escape(signature_line(systems[0].evaluation.scores))}</small></p></section>"
    )


def _examples(systems: Sequence[ReportedSystem], images: Mapping[ImageId, CaptionedImage], count: int) -> list[str]:
    """Sections with random, best and worst images."""
    groups = example_groups(systems[0].evaluation, count)
    return [
        f"<section><h2>{escape(title)}</h2><div class='cards'>"
        + "".join(_card(systems, images[image_id]) for image_id in chosen)
        + "</div></section>"
        for title, chosen in groups.items()
    ]


def _card(systems: Sequence[ReportedSystem], image: CaptionedImage) -> str:
    """One image with every system's caption and the reference captions."""
    captions = ""
    for number, system in enumerate(systems):
        caption = system.evaluation.captions.get(image.image_id, "")
        score = system.evaluation.scores.per_image.get(image.image_id, {}).get(_ORDER_BY)
        printed = "" if score is None else f" <small>{_ORDER_BY} {100 * score:.0f}</small>"
        captions += f"<p class='caption'>{_badge(number)}{escape(caption)}{printed}</p>"
        captions += _details(system.details.get(image.image_id))
    references = "".join(f"<li>{escape(caption)}</li>" for caption in image.captions)
    try:
        embedded = _embedded(load_image(image.path, at_least=_THUMBNAIL), _THUMBNAIL, f"image {image.image_id}")
    except ImageError as error:  # with data.features a data set needs no images
        embedded = f"<p><small>image {escape(str(image.image_id))}: {escape(str(error))}</small></p>"
    details = f"<details><summary>reference captions</summary><ul>{references}</ul></details>"
    return f"<article>{embedded}{captions}{details}</article>"


def _words(systems: Sequence[ReportedSystem], dataset: CaptionDataset, tokenizer: TokenizerConfig) -> str:
    """Caption lengths and word frequencies of the systems and of the reference captions."""
    tokenize = build_tokenizer(tokenizer)
    references = tokenize.tokenize_all([caption for image in dataset for caption in image.captions])
    generated = [tokenize.tokenize_all(list(system.evaluation.captions.values())) for system in systems]
    sources = [("references", references, REFERENCES)] + [
        (system.name, words, COLORS[number % len(COLORS)])
        for number, (system, words) in enumerate(zip(systems, generated, strict=True))
    ]
    lengths, ranks, rows = [], [], ""
    for name, captions, color in sources:
        share = Counter(len(words) for words in captions)
        longest = max(share, default=0)
        shares = [(float(n), 100 * share[n] / max(1, len(captions))) for n in range(longest + 1)]
        counts = Counter(word for words in captions for word in words)
        total = max(1, counts.total())
        usage = [(rank, 100 * count / total) for rank, (_, count) in enumerate(counts.most_common(), start=1)]
        lengths.append(Series(name, shares, color, color == REFERENCES))
        ranks.append(Series(name, usage, color, color == REFERENCES))
        mean = total / max(1, len(captions))
        distinct = len({tuple(words) for words in captions})
        rows += (
            f"<tr><th>{escape(name)}</th><td>{len(captions):,}</td><td>{mean:.1f}</td>"
            f"<td>{len(counts):,}</td><td>{100 * distinct / max(1, len(captions)):.0f} %</td></tr>"
        )
    used = {word for captions in generated for words in captions for word in words}
    frequent = Counter(word for words in references for word in words).most_common()
    missing = [f"{word} ({count})" for word, count in frequent if word not in used][:_MISSING_WORDS]
    return (
        "<section><h2>Caption statistics</h2><div class='wide'><table><tr><th></th><th>captions</th>"
        "<th>words per caption</th><th>distinct words</th>"
        f"<th>distinct captions</th></tr>{rows}</table></div><div class='charts'>"
        + line_chart(lengths, "words per caption", "% of captions")
        + line_chart(ranks, "frequency rank of a word", "% of all words", logarithmic=True)
        + "</div><p>Most frequent words of the references that no system generates (with their counts): "
        + f"{escape(', '.join(missing) or 'none')}.</p></section>"
    )


def _attention(systems: Sequence[ReportedSystem], images: Mapping[ImageId, CaptionedImage]) -> str:
    """The attention maps, one row per caption; empty where no system has any."""
    rows = ""
    for number, system in enumerate(systems):
        for image_id, caption in system.attention.items():
            maps = attention_maps(caption)
            if maps is None or image_id not in images:
                continue
            try:
                photo = load_image(images[image_id].path, at_least=_PANEL)
            except ImageError:  # with data.features a data set needs no images; its card says so
                continue
            resize = "squash" if isinstance(images[image_id].path, ImageViews) else system.resize
            photo.thumbnail((_PANEL, _PANEL))
            pixels = np.asarray(photo, np.float32) / np.float32(255)
            largest = float(maps.max())  # one scale for all words of a caption
            panels = f"<figure>{_embedded(photo, _PANEL, f'image {image_id}')}</figure>"
            for word, weights in zip(caption.tokens, maps, strict=False):
                over = attention_overlay(pixels, weights, largest, resize, boxes_of(caption))
                panel = Image.fromarray((255 * np.clip(over, 0, 1)).astype(np.uint8))
                label = f"attention at the word {word}"
                panels += f"<figure>{_embedded(panel, _PANEL, label)}<figcaption>{escape(word)}</figcaption></figure>"
            rows += f"<h3>{_badge(number)}{escape(caption.text)}</h3><div class='panels'>{panels}</div>"
    if not rows:
        return ""
    return (
        "<section><h2>Attention maps</h2><p>Regions with more attention than uniform are bright, regions with less are "
        f"dark. All words of a caption share one color scale.</p>{rows}</section>"
    )


def _badge(number: int) -> str:
    """The colored dot of a system, by its index."""
    return f"<span class='badge' style='background: {COLORS[number % len(COLORS)]}'></span>"


def _embedded(image: Image.Image, side: int, description: str) -> str:
    """An <img> element with the image embedded as JPEG, at most `side` pixels wide and high."""
    small = image.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    data = base64.b64encode(stream.getvalue()).decode()
    size = f"width='{small.width}' height='{small.height}'"
    return f"<img src='data:image/jpeg;base64,{data}' {size} alt='{escape(description, quote=True)}'>"
