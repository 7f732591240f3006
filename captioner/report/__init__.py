"""An HTML report on one or several systems on a split: scores, examples, caption statistics, attention maps.

The report is one file without network access: styles, plots and images are embedded.
"""

from captioner.report.html_report import ReportedSystem, choose_examples, example_groups, write_report

__all__ = ["ReportedSystem", "choose_examples", "example_groups", "write_report"]
