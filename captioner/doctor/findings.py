"""One check's answer: how bad, on what evidence, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SEVERITIES = ("serious", "warning", "healthy", "skipped")


@dataclass(frozen=True)
class Finding:
    """`serious`: scores mean little as it is; `warning`: it costs something; `skipped`: it could not be looked at."""

    check: str
    severity: str
    evidence: str  # a sentence with numbers
    remedy: str = ""  # what to change; empty where nothing is wrong
    figures: dict[str, float] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def judged(
    check: str, severity: str | None, evidence: str, remedy: str, figures: dict[str, float] | None = None
) -> Finding:
    """A finding; None as severity means that nothing is wrong, and then nothing is to be done."""
    return Finding(check, severity or "healthy", evidence, remedy if severity else "", figures or {})


def by_limits(value: float, warning: float, serious: float = float("inf")) -> str | None:
    """How bad a value is that should be small."""
    return "serious" if value > serious else "warning" if value > warning else None


def worst(*severities: str | None) -> str | None:
    """The worst of several."""
    return min((each for each in severities if each is not None), key=SEVERITIES.index, default=None)


def format_findings(findings: Sequence[Finding]) -> str:
    """All findings as text, the worst first."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)):
        lines.append(f"{finding.severity:<8} {finding.check:<{width}}  {finding.evidence}")
        if finding.remedy:
            lines.append(f"{'':<{width + 11}}→ {finding.remedy}")
    return "\n".join(lines)
