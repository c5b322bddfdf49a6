"""Expressions: SymPy agrees, the lecture's examples come out, and what cannot be read is pointed at."""

import random

import pytest
import sympy
import torch

from saccade.errors import GraphError
from saccade.graph import trace_expression
from saccade.graph.patterns import role
from saccade.graph.syntax import names, parse

NAMES = ("x", "y", "z")
MEANING = {
    "relu": lambda a: sympy.Max(0, a),
    "sigmoid": lambda a: 1 / (1 + sympy.exp(-a)),
    "max": sympy.Max,
    "min": sympy.Min,
    "abs": sympy.Abs,
}


def expression(rng: random.Random, depth: int) -> str:
    """Return a random expression that has a value at any x, y and z near 1."""
    if depth == 0:
        return rng.choice([*NAMES, *NAMES, str(rng.randint(1, 9)), f"{rng.uniform(0.1, 3):.3f}"])
    a, b = expression(rng, depth - 1), expression(rng, rng.randint(0, depth - 1))
    return rng.choice(
        [
            f"({a} + {b})", f"({a} - {b})", f"{a}*({b})", f"({a})/(2 + abs({b}))", f"-{a}", f"tanh({a})**3",
            f"exp(sin({a}))", f"log(1.5 + abs({a}))", f"sqrt(0.5 + ({a})**2)", f"sin({a})", f"cos({a})",
            f"sigmoid({a})", f"relu({a})", f"max({a}, {b})", f"min({a}, {b})", f"2**sin({a})",
        ]
    )  # fmt: skip


def test_two_hundred_random_expressions_agree_with_sympy() -> None:
    rng, symbols = random.Random(5), {name: sympy.Symbol(name, real=True) for name in NAMES}
    compared = 0
    while compared < 200:
        text = expression(rng, rng.randint(1, 3))
        needed = names(parse(text))
        if not needed:
            continue
        values = {name: repr(rng.uniform(0.2, 2.0)) for name in needed}
        graph = trace_expression(text, values)
        meant = sympy.sympify(text, locals={**symbols, **MEANING})
        at = {symbols[name]: sympy.Float(values[name], 30) for name in needed}
        assert graph.results[0].value.mean == pytest.approx(float(meant.evalf(25, subs=at)), rel=1e-10, abs=1e-10), text
        for name in needed:
            slope = float(sympy.diff(meant, symbols[name]).evalf(25, subs=at))
            assert float(graph.gradients[name]) == pytest.approx(slope, rel=1e-10, abs=1e-10), (text, name)
        assert graph.verified.worst < 1e-12
        compared += 1


def test_the_lecture_s_first_example() -> None:
    graph = trace_expression("(x+y)*z", {"x": "-2", "y": "5", "z": "-4"})
    assert [step.outputs[0].value.mean for step in graph.steps] == [3.0, -12.0]
    assert [float(graph.gradients[name]) for name in NAMES] == [-4.0, -4.0, 3.0]
    add, multiply = graph.steps
    assert role(add) == "add distributes it unchanged"
    assert role(multiply).startswith("multiply swaps")
    assert [float(use.local[0]) for use in multiply.uses] == [-4.0, 3.0]


def test_the_lecture_s_sigmoid_neuron() -> None:
    values = {"w0": "2", "x0": "-1", "w1": "-3", "x1": "-2", "w2": "-3"}
    graph = trace_expression("1/(1+exp(-(w0*x0+w1*x1+w2)))", values)
    assert graph.results[0].value.mean == pytest.approx(0.7311, abs=1e-4)
    s = float(torch.sigmoid(torch.tensor(1.0, dtype=torch.float64)))
    expected = {"w0": -1.0, "x0": 2.0, "w1": -2.0, "x1": -3.0, "w2": 1.0}
    for name, factor in expected.items():
        assert float(graph.gradients[name]) == pytest.approx(factor * s * (1 - s), rel=1e-12)


def test_a_vector_example() -> None:
    graph = trace_expression("norm(W@x)**2", {"W": "[0.1, 0.5; -0.3, 0.8]", "x": "[0.2, 0.4]"})
    W, x = torch.tensor([[0.1, 0.5], [-0.3, 0.8]], dtype=torch.float64), torch.tensor([0.2, 0.4], dtype=torch.float64)
    q = W @ x
    assert torch.allclose(graph.gradients["W"], 2 * torch.outer(q, x), atol=1e-14)
    assert torch.allclose(graph.gradients["x"], 2 * W.T @ q, atol=1e-14)
    assert graph["W"].value.shape == (2, 2)
    assert graph["W"].gradient.values.tolist() == graph.gradients["W"].tolist()  # type: ignore[union-attr]


def test_a_max_gate_names_who_gets_the_gradient() -> None:
    graph = trace_expression("2*max(x, y)", {"x": "3", "y": "-4"})
    assert role(graph.steps[0]) == "max routes all of it to x"
    assert [float(graph.gradients[name]) for name in "xy"] == [2.0, 0.0]
    graph = trace_expression("sum(relu(x))", {"x": "[1, -2, 3, -4]"})
    assert role(graph.steps[0]) == "ReLU gates: open at 50 % of 4 entries"


@pytest.mark.parametrize(
    ("text", "values", "value"),
    [
        ("-x**2", "3", -9.0),
        ("2**-x", "1", 0.5),
        ("2**x**2", "2", 16.0),
        ("6/x/3", "2", 1.0),
        ("1-2-x", "3", -4.0),
        ("x × 2 − 1", "4", 7.0),
        ("sum(matmul([1,2;3,4], x))", "[1;1]", 10.0),
        ("mean([x, 2*x, 3])", "1", 2.0),
        ("max([1, x, 3])", "7", 7.0),
    ],
)
def test_values(text: str, values: str, value: float) -> None:
    assert trace_expression(text, {"x": values}).results[0].value.mean == value


REFUSED = [
    ("(x+y*z", {}, 'The "(" at character 1 of "(x+y*z" is never closed'),
    ("x+", {}, 'A value is missing at the end of "x+"'),
    ("x+*y", {}, 'A value is missing before "*" at character 3'),
    ("2x", {}, 'An operator (such as *) is missing before "x" at character 2'),
    ("sin(x 2)", {}, 'An operator (such as *) is missing before "2" at character 7'),
    ("x#y", {}, '"#" is no part of the language, at character 2'),
    ("x=3", {}, "give values after the expression"),
    ("x)", {}, 'There is a ")" too many at character 2'),
    ("x,y", {}, 'A "," stands outside of any list, at character 2'),
    ("(x,y)", {}, '")" is expected instead of "," at character 3'),
    ("x+" * 3000, {}, "6,000 characters"),
    ("(" * 200 + "x", {}, "nested more than 100 deep at character 101"),
    ("[1,2;3]", {}, "different lengths (2, 1) in the matrix at character 1"),
    (" ", {}, "The expression is empty"),
    ("x*y", {"x": "1"}, 'There is no value for "y". Add y=…'),
    ("x", {"x": "1", "q": "2"}, '"q" has a value but does not occur in "x"'),
    ("exp*x", {"exp": "1", "x": "1"}, '"exp" is a function'),
    ("sinn(x)", {"x": "1"}, 'There is no function "sinn", at character 1 of "sinn(x)". Did you mean "sin"?'),
    ("exp(x, x)", {"x": "1"}, "exp takes 1 argument, not 2, at character 1"),
    ("x", {"x": "1+y"}, 'x=1+y cannot be read: it names "y"'),
    ("x", {"x": "1e999"}, "x=1e999 cannot be read: it is too large for a number."),
    ("x" + "+x" * 400, {}, "The expression has 801 numbers, names and signs; up to 400 can be drawn."),
    ("2+3", {}, "no name in it"),
    ("x*2", {"x": "[1,2]"}, "is a vector of 2, and a gradient is that of one number"),
    ("sum(x*y)", {"x": "[1,2]", "y": "[1,2,3]"}, 'The shapes do not fit for "*": a vector of 2 and a vector of 3'),
    ("sum(x@y)", {"x": "[1,2]", "y": "[1,2,3]"}, "as many columns on the left as rows on the right"),
    ("2@3*x", {"x": "1"}, "@ multiplies matrices and vectors, not two numbers"),
    ("[x, 1]", {"x": "[1,2]"}, "An entry of a matrix must be one number, not a vector of 2, at character 2"),
    ("1/0*x", {"x": "1"}, '"1/0" at character 1 divides by zero'),
    ("10**9**9*x", {"x": "1"}, "is too large for a number"),
    ("(-8)**(1/3)*x", {"x": "1"}, '"(-8)**(1/3)" at character 1 is not a real number'),
    ("2*log(x)", {"x": "-1"}, '"log(x)" at character 3 is not a real number: its input is -1'),
    ("1/x", {"x": "0"}, "is infinite or too large for a number: its inputs are 1 and 0"),
    ("x**y", {"x": "0", "y": "0"}, '"x**y" at character 1 has no slope in its exponent: 0 to a power jumps at 0, and'),
    ("1+0**x", {"x": "0"}, '"0**x" at character 3 has no slope in its exponent: 0 to a power jumps at 0, and its'),
    ("sum([2, 0]**y)", {"y": "[0, 0]"}, '"[2, 0]**y" at character 5 has no slope in its exponent'),
    ("sqrt(x)", {"x": "0"}, "not differentiable at these values: the slope of sqrt is infinite"),
]


@pytest.mark.parametrize(("text", "values", "words"), REFUSED, ids=[str(place) for place in range(len(REFUSED))])
def test_refusals_say_what_and_where(text: str, values: dict[str, str], words: str) -> None:
    with pytest.raises(GraphError) as refused:
        trace_expression(text, values)
    assert words in str(refused.value)


@pytest.mark.parametrize(("text", "gradient"), [("x**0", 0.0), ("x**1", 1.0), ("0**(x+1)", 0.0)])
def test_powers_of_zero_that_have_a_slope_are_not_refused(text: str, gradient: float) -> None:
    assert float(trace_expression(text, {"x": "0"}).gradients["x"]) == gradient


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x**3", "scales by p·xᵖ⁻¹"),
        ("3**x", "scales by aˣ·ln a"),
        ("x**x", "power: p·xᵖ⁻¹ to the base, xᵖ·ln x to the exponent"),
    ],
)
def test_a_power_tells_the_rule_of_each_side(text: str, words: str) -> None:
    assert role(trace_expression(text, {"x": "2"}).steps[-1]) == words


@pytest.mark.parametrize(
    ("text", "values", "gradient"),
    [
        ("relu(x)", {"x": "0"}, 0.0),
        ("abs(x)", {"x": "0"}, 0.0),
        ("norm(x)", {"x": "[0]"}, 0.0),
        ("max(x, 1)", {"x": "1"}, 0.5),
        ("min([x, 2])", {"x": "2"}, 0.5),
    ],
)
def test_a_kink_is_told_and_not_refused(text: str, values: dict[str, str], gradient: float) -> None:
    graph = trace_expression(text, values)
    assert "not differentiable there" in graph.notes[0]
    assert float(graph.gradients["x"]) == gradient


def test_nothing_is_executed() -> None:
    for text in ("__import__('os')", "x.__class__", "lambda: x", "open(x)"):
        with pytest.raises(GraphError):
            trace_expression(text, {"x": "1"})
