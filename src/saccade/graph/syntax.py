"""The language of expressions: text becomes a tree by a parser of our own, which executes nothing."""

import re
from dataclasses import dataclass, replace

from saccade.errors import GraphError

DEEPEST = 100
LONGEST = 4000
MOST_PARTS = 400

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([^\W\d]\w*)|(\*\*|[-+*/@^(),;\[\]]))")
_ALIASES = {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"}
_BINDING = {"+": 10, "-": 10, "*": 20, "/": 20, "@": 20, "**": 40, "^": 40}
_UNARY = 30
_RIGHT = ("**", "^")


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression: `kind` and `word` say what, `parts` of what, `start` and `end` where in the text.

    Kinds: number, name, call (word: function), unary and binary (word: sign), row (a vector), matrix (of rows).
    """

    kind: str
    word: str
    parts: tuple["Node", ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    word: str
    start: int
    end: int


def parse(text: str) -> Node:
    """Return the tree of an expression.

    `**` and `^` bind tightest and to the right, then the sign, then `* / @`, then `+ -`; `[1,2;3,4]` is a
    matrix, `[1,2]` a vector. Raises GraphError that points at the character where the text cannot be read.

    >>> parse("(x+y)*z").word
    '*'
    >>> parse("(x+y*z")
    Traceback (most recent call last):
    saccade.errors.GraphError: The "(" at character 1 of "(x+y*z" is never closed.
    """
    if len(text) > LONGEST:
        raise GraphError(f"The expression has {len(text):,} characters; up to {LONGEST:,} can be drawn.")
    if not text.strip():
        raise GraphError('The expression is empty; give one such as "(x+y)*z".')
    parser = _Parser(text)
    if parser.parts > MOST_PARTS:
        raise GraphError(
            f"The expression has {parser.parts:,} numbers, names and signs; up to {MOST_PARTS} can be drawn."
        )
    return parser.whole()


def names(node: Node) -> list[str]:
    """Return the names that a tree needs values for, in the order of their first use.

    >>> names(parse("w*x + w"))
    ['w', 'x']
    """
    own = [node.word] if node.kind == "name" else []
    return list(dict.fromkeys([*own, *(name for part in node.parts for name in names(part))]))


class _Parser:
    """Top-down operator precedence (Pratt, 1973): each sign binds its neighbours with a strength."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0

    @property
    def parts(self) -> int:
        return len(self._tokens) - 1

    def whole(self) -> Node:
        node = self._expression(0)
        token = self._next
        if token.kind == "end":
            return node
        if token.word in (")", "]"):
            raise self._refusal(token, f'There is a "{token.word}" too many at')
        if token.word in (",", ";"):
            raise self._refusal(token, f'A "{token.word}" stands outside of any list, at')
        raise self._refusal(token, f'An operator (such as *) is missing before "{token.word}" at')

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place += 1
        return token

    def _expression(self, strength: int) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._refusal(self._next, f"The expression is nested more than {DEEPEST} deep at")
        left = self._value()
        while _BINDING.get(self._next.word, -1) > strength:
            sign = self._take()
            right = self._expression(_BINDING[sign.word] - (1 if sign.word in _RIGHT else 0))
            left = Node("binary", "**" if sign.word == "^" else sign.word, (left, right), left.start, right.end)
        self._depth -= 1
        return left

    def _value(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return Node("number", token.word, (), token.start, token.end)
        if token.kind == "name":
            return self._call(token) if self._next.word == "(" else Node("name", token.word, (), token.start, token.end)
        if token.word in ("-", "+"):
            part = self._expression(_UNARY - 1)
            return part if token.word == "+" else Node("unary", "-", (part,), token.start, part.end)
        if token.word == "(":
            inner = self._expression(0)
            return replace(inner, start=token.start, end=self._close(token, ")").end)
        if token.word == "[":
            return self._matrix(token)
        if token.kind == "end":
            raise self._refusal(token, "A value is missing at")
        raise self._refusal(token, f'A value is missing before "{token.word}" at')

    def _call(self, name: _Token) -> Node:
        opening, arguments = self._take(), list[Node]()
        while self._next.word != ")":
            arguments.append(self._expression(0))
            if self._next.word != ",":
                break
            self._take()
        closing = self._close(opening, ")")
        return Node("call", name.word, tuple(arguments), name.start, closing.end)

    def _matrix(self, opening: _Token) -> Node:
        rows: list[list[Node]] = [[]]
        while True:
            rows[-1].append(self._expression(0))
            if self._next.word not in (",", ";"):
                break
            if self._take().word == ";":
                rows.append([])
        end = self._close(opening, "]").end
        lines = tuple(Node("row", "", tuple(row), row[0].start, row[-1].end) for row in rows)
        if len({len(row) for row in rows}) > 1:
            lengths = ", ".join(str(len(row)) for row in rows)
            raise self._refusal(opening, f"The rows have different lengths ({lengths}) in the matrix at")
        return (
            Node("matrix", "", lines, opening.start, end)
            if len(rows) > 1
            else Node("row", "", lines[0].parts, opening.start, end)
        )

    def _close(self, opening: _Token, word: str) -> _Token:
        token = self._take()
        if token.word == word:
            return token
        if token.kind == "end":
            raise GraphError(
                f'The "{opening.word}" at character {opening.start + 1} of "{self._text}" is never closed.'
            )
        if token.kind in ("number", "name") or token.word in ("(", "["):
            raise self._refusal(token, f'An operator (such as *) is missing before "{token.word}" at')
        raise self._refusal(token, f'"{word}" is expected instead of "{token.word}" at')

    def _refusal(self, token: _Token, complaint: str) -> GraphError:
        return GraphError(f"{complaint} {position(self._text, token.start)}.")


def position(text: str, start: int) -> str:
    """Return where a character stands: its number, and what is before it.

    >>> position("x+*y", 2)
    'character 3 of "x+*y"'
    """
    return f'{"the end" if start >= len(text) else f"character {start + 1}"} of "{text}"'


def _tokens(text: str) -> list[_Token]:
    plain = "".join(_ALIASES.get(letter, letter) for letter in text)
    tokens, place = list[_Token](), 0
    while plain[place:].strip():
        match = _TOKEN.match(plain, place)
        if match is None:
            wrong = place + len(plain[place:]) - len(plain[place:].lstrip())
            hint = " (give values after the expression, as x=2)" if plain[wrong] == "=" else ""
            raise GraphError(f'"{text[wrong]}" is no part of the language{hint}, at {position(text, wrong)}.')
        kind = ("number", "name", "sign")[match.lastindex - 1] if match.lastindex else ""
        word = match[match.lastindex or 0]
        tokens.append(_Token(kind, word, match.end() - len(word), match.end()))
        place = match.end()
    return [*tokens, _Token("end", "", len(text), len(text))]
