"""What was found out about a data set, and how it is said in a page of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from captioner.data.datasets.annotation_files import join_names

SEVERITIES = ("error", "warning", "note")
BYTES_PER_IMAGE = 7 * 7 * 1280 * 2  # the grid of efficientnet_lite0 in float16
BAR = 40  # characters
ROWS = 16  # of the histogram, at most


@dataclass(frozen=True)
class Problem:
    """One finding: how bad it is, and a sentence with a count and examples.

    An *error* must be mended (or skipped: `data.on_bad_image`), a *warning* may spoil a result, a
    *note* is good to know.
    """

    severity: str
    text: str


@dataclass(frozen=True)
class VocabularyCheck:
    """Words of train seen `min_count` times or more. The shares are of val, and None where there is no val."""

    min_count: int
    size: int
    tokens_known: float | None
    captions_known: float | None  # whole captions without an unknown word


@dataclass
class Report:
    """What `captioner.data.check.check_dataset.check_dataset` found. `lengths`: number of tokens → captions."""

    name: str
    root: str | None
    tokenizer: str
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # split → images, captions
    problems: list[Problem] = field(default_factory=list)
    vocabulary: VocabularyCheck | None = None
    lengths: Counter[int] = field(default_factory=Counter)
    images: int = 0  # different files
    images_per_second: float = 0.0  # read, hashed and decoded, as measured in this run
    encoder_images_per_second: float | None = None  # as given
    bytes_per_image: int = BYTES_PER_IMAGE

    @property
    def errors(self) -> list[Problem]:
        """The problems that must be mended before training."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def format(self) -> str:
        """The report as text."""
        title = f"Data set {self.name}" + (f" at {self.root}" if self.root else "")
        parts = [title, _sizes(self), _problems(self), _vocabulary(self), _lengths(self), _cost(self)]
        return "\n\n".join(part for part in parts if part)


def found(severity: str, examples: Sequence[object], noun: str, what: str) -> list[Problem]:
    """[] for no examples; else their number, what they are and the first few: '3 images of val missing (a, b, c).'"""
    if not examples:
        return []
    things = noun if len(examples) == 1 else noun.replace(" ", "s ", 1) if " " in noun else f"{noun}s"
    return [Problem(severity, f"{len(examples):,} {things} {what} ({join_names(examples)}).")]


def _sizes(report: Report) -> str:
    lines = ["  split    images   captions  an image"]
    for split, (images, captions) in report.sizes.items():
        lines.append(f"  {split:<7} {images:9,} {captions:10,} {captions / max(images, 1):10.2f}")
    return "\n".join(lines)


def _problems(report: Report) -> str:
    if not report.problems:
        return "Nothing is wrong."
    counts = Counter(problem.severity for problem in report.problems)
    summary = ", ".join(f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in SEVERITIES if counts[kind])
    return "\n".join(
        [f"Found: {summary}", *(f"  {problem.severity:<7}  {problem.text}" for problem in report.problems)]
    )


def _vocabulary(report: Report) -> str:
    vocabulary = report.vocabulary
    if vocabulary is None:
        return ""
    text = (
        f"Vocabulary: {vocabulary.size:,} words of train are seen {vocabulary.min_count} times or more "
        f"(tokenizer {report.tokenizer})."
    )
    if vocabulary.tokens_known is not None and vocabulary.captions_known is not None:
        text += (
            f"\nThey are {vocabulary.tokens_known:.1%} of val's tokens; "
            f"{vocabulary.captions_known:.1%} of val's captions hold no other word."
        )
    return text


def _lengths(report: Report) -> str:
    """Captions by length, as bars; what is longer than 99.5 % of them shares the last."""
    lengths = sorted(report.lengths.elements())
    if not lengths:
        return ""
    middle, most, longest = lengths[len(lengths) // 2], lengths[int(0.995 * (len(lengths) - 1))], lengths[-1]
    width = -(-most // ROWS)
    bins = Counter(min((length - 1) // width, (most - 1) // width) for length in lengths)
    lines = [f"Caption lengths in tokens: median {middle}, 99.5% have {most} or fewer, the longest {longest}."]
    for place in range(max(bins) + 1):
        low, high = place * width + 1, (place + 1) * width
        label = f"{low}+" if place == max(bins) and longest > high else f"{low}" if width == 1 else f"{low}-{high}"
        bar = "#" * round(BAR * bins[place] / max(bins.values()))
        lines.append(f"  {label:>7}  {bar:<{BAR}} {bins[place]:9,}")
    return "\n".join(lines)


def _cost(report: Report) -> str:
    if not report.images:
        return ""
    disk = report.images * report.bytes_per_image
    text = (
        f"Features of a frozen encoder: {report.images:,} images of {report.bytes_per_image / 1e3:,.0f} kB each "
        f"take {disk / 1e9:.2f} GB.\n"
        f"Reading and decoding ran at {report.images_per_second:,.0f} images a second: "
        f"{_duration(report.images / report.images_per_second)} for all"
    )
    if report.encoder_images_per_second is None:
        return f"{text}, and the encoder's own time on top."
    slower = min(report.images_per_second, report.encoder_images_per_second)
    return (
        f"{text}; with an encoder of {report.encoder_images_per_second:,.0f} images a second beside it, "
        f"{_duration(report.images / slower)}."
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
