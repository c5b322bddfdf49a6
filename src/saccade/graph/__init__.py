"""Computational graphs: values and gradients of any computation, recorded, explained and drawn."""

from saccade.graph.expressions import trace_expression
from saccade.graph.flow import Verdict, diagnose
from saccade.graph.page import page, picture
from saccade.graph.records import Graph, Operation, Summary, Use, Wire
from saccade.graph.trace import trace

__all__ = [
    "Graph", "Operation", "Summary", "Use", "Verdict", "Wire", "diagnose", "page", "picture", "trace",
    "trace_expression",
]  # fmt: skip
