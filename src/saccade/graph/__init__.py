"""Computational graphs: values and gradients of any computation, recorded, explained, drawn and checked."""

from saccade.graph.expressions import trace_expression
from saccade.graph.flow import Verdict, diagnose
from saccade.graph.gradients import GradientCheck, TensorGradient, check_gradients
from saccade.graph.numerical import Derivative, derivative, numerical_gradient
from saccade.graph.page import page, picture
from saccade.graph.records import Graph, Operation, Summary, Use, Wire
from saccade.graph.trace import trace

__all__ = [
    "Derivative",
    "GradientCheck",
    "Graph",
    "Operation",
    "Summary",
    "TensorGradient",
    "Use",
    "Verdict",
    "Wire",
    "check_gradients",
    "derivative",
    "diagnose",
    "numerical_gradient",
    "page",
    "picture",
    "trace",
    "trace_expression",
]
