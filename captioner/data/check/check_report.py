"""The result of checking a data set, and its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from captioner.data.caption_advice import UNITS
from captioner.data.datasets.annotation_files import join_names

SEVERITIES = ("error", "warning", "note")
BYTES_PER_IMAGE = 7 * 7 * 1280 * 2  # the grid of efficientnet_lite0 in float16
BAR = 40  # characters of the longest bar of the histogram
ROWS = 16  # maximum bins of the histogram


@dataclass(frozen=True)
class Problem:
    """A finding: its severity, and a message with a count and examples.

    An error must be fixed (or skipped with `data.on_bad_image`), a warning may distort results, a note is information.
    """

    severity: str  # one of SEVERITIES
    text: str
    count: int = 1  # rows of a table that the message stands for


@dataclass(frozen=True)
class VocabularyCheck:
    """The words that occur at least `min_count` times in train, and how much of val they cover (None without val)."""

    min_count: int
    size: int  # words
    tokens_known: float | None  # fraction of val's tokens in the vocabulary
    captions_known: float | None  # fraction of val's captions without an unknown word


@dataclass
class DatasetReport:
    """The result of `captioner.data.check.check_dataset.check_dataset`."""

    name: str
    root: str | None
    tokenizer: str
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # split → images, captions
    problems: list[Problem] = field(default_factory=list)
    vocabulary: VocabularyCheck | None = None
    lengths: Counter[int] = field(default_factory=Counter)  # number of tokens → number of captions
    images: int = 0  # distinct files
    images_per_second: float = 0.0  # measured speed of reading, hashing and decoding
    encoder_images_per_second: float | None = None  # speed of the encoder, if known
    bytes_per_image: int = BYTES_PER_IMAGE

    @property
    def errors(self) -> list[Problem]:
        """The problems that must be fixed before training."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def format(self) -> str:
        """The report as text."""
        title = f"Data set {self.name}" + (f" at {self.root}" if self.root else "")
        parts = [title, _sizes(self), _problems(self), _vocabulary(self), _lengths(self), _cost(self)]
        return "\n\n".join(part for part in parts if part)


def problem(severity: str, examples: Sequence[object], noun: str, what: str) -> list[Problem]:
    """A list with one problem, such as '3 images of val missing (a, b, c).'; empty if there are no examples."""
    if not examples:
        return []
    subject = noun if len(examples) == 1 else noun.replace(" ", "s ", 1) if " " in noun else f"{noun}s"
    return [Problem(severity, f"{len(examples):,} {subject} {what} ({join_names(examples)}).")]


def _sizes(report: DatasetReport) -> str:
    if not report.sizes:
        return ""
    lines = ["  split    images   captions per image"]
    for split, (images, captions) in report.sizes.items():
        lines.append(f"  {split:<7} {images:9,} {captions:10,} {captions / max(images, 1):10.2f}")
    return "\n".join(lines)


def _problems(report: DatasetReport) -> str:
    if not report.problems:
        return "No problems found."
    counts = Counter[str]()
    for found in report.problems:
        counts[found.severity] += found.count
    summary = ", ".join(f"{counts[kind]:,} {kind}{'s' * (counts[kind] != 1)}" for kind in SEVERITIES if counts[kind])
    return "\n".join(
        [f"Found: {summary}", *(f"  {problem.severity:<7}  {problem.text}" for problem in report.problems)]
    )


def _vocabulary(report: DatasetReport) -> str:
    vocabulary = report.vocabulary
    if vocabulary is None:
        return ""
    units = UNITS.get(report.tokenizer, "words")
    text = (
        f"Vocabulary: {vocabulary.size:,} {units} occur at least {vocabulary.min_count} times in train "
        f"(tokenizer {report.tokenizer})."
    )
    if vocabulary.tokens_known is not None and vocabulary.captions_known is not None:
        unknown, known = 100 * (1 - vocabulary.tokens_known), 100 * vocabulary.captions_known
        text += (
            f"\nOf 100 {units} of val's captions, {_count(unknown)} unknown to it; of 100 captions of val, "
            f"{_count(known)} without an unknown one."
        )
    return text


def _count(number: float) -> str:
    """A number with its verb: "0.4 are", "1 is", "12 are"."""
    shown = f"{number:.1f}" if 0 < number < 1 else f"{number:.0f}"
    return f"{shown} {'is' if shown == '1' else 'are'}"


def _lengths(report: DatasetReport) -> str:
    """A histogram of caption lengths. Its last bin also holds the longest 0.5 % of the captions."""
    lengths = sorted(report.lengths.elements())
    if not lengths:
        return ""
    median, percentile, longest = lengths[len(lengths) // 2], lengths[int(0.995 * (len(lengths) - 1))], lengths[-1]
    width = -(-percentile // ROWS)
    bins = Counter(min((length - 1) // width, (percentile - 1) // width) for length in lengths)
    lines = [f"Caption lengths in tokens: median {median}, 99.5% have at most {percentile}, maximum {longest}."]
    for index in range(max(bins) + 1):
        low, high = index * width + 1, (index + 1) * width
        label = f"{low}+" if index == max(bins) and longest > high else f"{low}" if width == 1 else f"{low}-{high}"
        bar = "#" * round(BAR * bins[index] / max(bins.values()))
        lines.append(f"  {label:>7}  {bar:<{BAR}} {bins[index]:9,}")
    return "\n".join(lines)


def _cost(report: DatasetReport) -> str:
    if not report.images:
        return ""
    disk = report.images * report.bytes_per_image
    text = (
        f"Features of a frozen encoder: {report.images:,} images of {report.bytes_per_image / 1e3:,.0f} kB each "
        f"take {disk / 1e9:.2f} GB.\n"
        f"Reading and decoding: {report.images_per_second:,.0f} images per second, "
        f"{_duration(report.images / report.images_per_second)} in total"
    )
    if report.encoder_images_per_second is None:
        return f"{text}, plus the time of the encoder."
    slower = min(report.images_per_second, report.encoder_images_per_second)
    return (
        f"{text}; with an encoder of {report.encoder_images_per_second:,.0f} images per second in parallel, "
        f"{_duration(report.images / slower)}."
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
