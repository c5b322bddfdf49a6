"""The report: one self-contained HTML file from a run's folder."""

from saccade.report.comparison import render_comparison, write_comparison
from saccade.report.page import curvature_page, render, write
from saccade.report.verdict import Verdict, verdict

__all__ = [
    "Verdict",
    "curvature_page",
    "render",
    "render_comparison",
    "verdict",
    "write",
    "write_comparison",
]
