"""The result of a check: severity, evidence and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SEVERITIES = ("serious", "warning", "healthy", "skipped")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    severity: "serious" (the scores are not reliable), "warning" (they could be better), "healthy", or "skipped" (the
    check does not apply). evidence: what was measured. remedy: what to change; empty unless something is wrong.
    values: the measured values by name.
    """

    check: str
    severity: str
    evidence: str
    remedy: str = ""
    values: dict[str, float] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """The finding as plain values, for a JSON file."""
        return asdict(self)


def make_finding(
    check: str, severity: str | None, evidence: str, remedy: str, values: dict[str, float] | None = None
) -> Finding:
    """A finding; a severity of None means healthy, and drops the remedy."""
    return Finding(check, severity or "healthy", evidence, remedy if severity else "", values or {})


def severity_by_limits(value: float, warning: float, serious: float = float("inf")) -> str | None:
    """The severity of a value that should be small: None, or that of the limit that it exceeds."""
    return "serious" if value > serious else "warning" if value > warning else None


def worst_severity(*severities: str | None) -> str | None:
    """The most severe of several severities, None if all are None."""
    return min((severity for severity in severities if severity is not None), key=SEVERITIES.index, default=None)


def format_findings(findings: Sequence[Finding]) -> str:
    """All findings as text, the most severe first."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)):
        lines.append(f"{finding.severity:<8} {finding.check:<{width}}  {finding.evidence}")
        if finding.remedy:
            lines.append(f"{'':<{width + 11}}→ {finding.remedy}")
    return "\n".join(lines)
