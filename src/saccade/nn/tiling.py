"""How windows of F x F pixels at every S-th, with P pixels of padding, tile an image (lecture 5)."""

from dataclasses import dataclass
from itertools import product

from saccade.errors import ModelError

REACH = 3
"""How far from F, S and P others are looked for that tile."""


@dataclass(frozen=True)
class Window:
    """F (kernel), S (stride) and P (padding) of a convolution or a pooling.

    >>> Window(11, 4).side(227), Window(2, 2).side(7), Window(2, 2).left_over(7)
    (55, 3, 1)
    """

    kernel: int
    stride: int = 1
    padding: int = 0

    def side(self, side: int) -> int:
        """Return the output's side, ⌊(W - F + 2P) / S⌋ + 1; below 1 where the window is larger than the input."""
        return (side - self.kernel + 2 * self.padding) // self.stride + 1

    def left_over(self, side: int) -> int:
        """Return how many rows and columns, of image or padding, no window reaches."""
        return (side - self.kernel + 2 * self.padding) % self.stride

    def tiles(self, side: int) -> bool:
        """Return whether the windows cover the padded input exactly."""
        return self.side(side) >= 1 and not self.left_over(side)

    def tiled(self, side: int, layer: str) -> int:
        """Return the output's side; raises ModelError, with the nearest settings that tile, where these do not."""
        if self.tiles(side):
            return self.side(side)
        nearest = [f"{window} → {window.side(side)} x {window.side(side)}" for window in self.nearest(side)]
        shown = f"({side} - {self.kernel} + 2·{self.padding}) / {self.stride} + 1"
        value = (side - self.kernel + 2 * self.padding) / self.stride + 1
        sides = " or ".join(map(str, self.nearest_sides(side)))
        raise ModelError(
            f'The layer "{layer}" does not tile its input of {side} x {side}: {shown} = {value:.4g}. '
            f"The nearest that do: {', '.join(nearest)}; or inputs of {sides}."
        )

    def nearest(self, side: int, most: int = 3) -> list["Window"]:
        """Return the windows that tile a side and differ the least in F, S and P together, the nearest first."""
        changes = sorted(product(range(-REACH, REACH + 1), repeat=3), key=lambda c: (sum(map(abs, c)), abs(c[0]), c))
        others = (Window(self.kernel + f, self.stride + s, self.padding + p) for f, s, p in changes)
        possible = [
            each
            for each in others
            if each.kernel >= 1 and each.stride >= 1 and 0 <= 2 * each.padding <= each.kernel and each.tiles(side)
        ]
        return possible[:most] or [Window(side, 1)]

    def nearest_sides(self, side: int) -> list[int]:
        """Return the next smaller and the next larger side that these windows tile."""
        around = sorted(range(max(1, side - self.stride - self.kernel), side + self.stride + self.kernel + 1))
        fitting = [each for each in around if self.tiles(each)]
        below, above = [each for each in fitting if each < side], [each for each in fitting if each > side]
        return [*below[-1:], *above[:1]]

    def fraction(self, side: int) -> int:
        """Return the side that fractional max pooling gives in place of these windows."""
        kernel = min(self.kernel, side)
        return max(1, min(int(side * self.stride**-0.5), side - kernel + 1))

    def __str__(self) -> str:
        return f"f{self.kernel}s{self.stride}p{self.padding}"
