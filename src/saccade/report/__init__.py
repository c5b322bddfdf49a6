"""The report: one self-contained HTML file from a run's folder."""

from saccade.report.augmentations import render_augmentations
from saccade.report.checking import write_checks
from saccade.report.comparison import render_comparison, write_comparison
from saccade.report.kinds import KINDS
from saccade.report.page import curvature_page, render, write
from saccade.report.pictures import Picture, picture
from saccade.report.verdict import Verdict, verdict

__all__ = [
    "KINDS",
    "Picture",
    "Verdict",
    "curvature_page",
    "picture",
    "render",
    "render_augmentations",
    "render_comparison",
    "verdict",
    "write",
    "write_checks",
    "write_comparison",
]
