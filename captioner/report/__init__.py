"""One HTML file about one or several systems on a split: scores, captions beside their images, plots, attention.

It opens from disk and asks no network for anything: styles, plots and images are inside.
"""

from captioner.report.html_report import ReportedSystem, choose_examples, write_report

__all__ = ["ReportedSystem", "choose_examples", "write_report"]
