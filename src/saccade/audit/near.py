"""Near-duplicates: the same picture encoded anew, resized, mirrored, shifted, cropped or brightened.

The luminance of a 32 by 32 sketch goes through a cosine transform; its lowest frequencies, whitened over the
data set (lecture 6), are a vector whose cosine with an unrelated picture's is about normal with a standard
deviation of 1/√D: what many pictures have in common, such as a white background, does not make them alike.
Mirroring changes the sign of the odd horizontal frequencies, so that one product of the even and one of the
odd ones compare every pair as it is and mirrored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.sketch import SIDE
from saccade.events import Progress, emit

COARSE, FINE = 8, 10
"""Frequencies in each direction that candidates are found by, and confirmed by."""
CANDIDATE, ALIKE = 0.75, 0.9
"""Cosines of candidates, and of near-duplicates: on CIFAR-10 0.3 % of the pairs beyond 0.9 are of two classes."""
NOISE = 300.0
"""Variance below which a frequency counts for less: that of a strong JPEG's error, in squared grey levels."""
BLOCK = 768
MOST = 4_000_000
"""Candidates kept; where there are more, only those beyond ALIKE."""
A_SECOND = 200_000_000
"""Pairs that are compared in a second, on one core of some years ago."""
WINDOWED = 100_000
"""Pairs that could be compared in the time that one pair takes whose windows are compared."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Frame = tuple[float, float, float]
"""A window of a sketch: its side as a share, and how far its middle is moved right and down, in sketch pixels."""

WHOLE: Frame = (1.0, 0.0, 0.0)
FRAMES: tuple[Frame, ...] = (
    *((1.0, float(x), float(y)) for x in range(-3, 4) for y in range(-3, 4)),
    *((0.9, x, y) for x in (-1.5, 0.0, 1.5) for y in (-1.5, 0.0, 1.5)),
    *((0.8, x, y) for x in (-3.0, -1.5, 0.0, 1.5, 3.0) for y in (-3.0, -1.5, 0.0, 1.5, 3.0)),
)
"""Windows of one picture that are compared with the whole of the other."""
CROPS: tuple[Frame, ...] = ((0.9, 0.0, 0.0), (0.8, 0.0, 0.0))
"""Windows that candidates are found by too, where there is time."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that are alike, `first_P` < `second_P`, and the share of all pairs that were compared."""

    first_P: Indices
    second_P: Indices
    compared: float = 1.0


@dataclass(frozen=True)
class Whitening:
    """From the `count` lowest frequencies in each direction, the constant left out, to vectors of length 1."""

    count: int
    mean_D: Floats
    matrix_DD: Floats
    odd_D: NDArray[np.bool_]

    @classmethod
    def of(cls, grey_NHW: NDArray[np.uint8], count: int) -> "Whitening":
        """Measure mean and covariance of the images and their mirror images, which keeps even and odd ones apart."""
        c_ND = np.concatenate([_frequencies(block, count, WHOLE) for block in _blocks(grey_NHW)])
        odd_D = np.tile(np.arange(count) % 2 == 1, count)[1:]
        mean_D = np.where(odd_D, 0.0, c_ND.mean(0)).astype(np.float32)
        c_ND -= mean_D
        matrix_DD = np.zeros((len(mean_D), len(mean_D)), np.float32)
        for part in (np.flatnonzero(odd_D), np.flatnonzero(~odd_D)):
            variances, axes = np.linalg.eigh(c_ND[:, part].T.astype(np.float64) @ c_ND[:, part] / len(c_ND))
            matrix_DD[np.ix_(part, part)] = axes / np.sqrt(np.maximum(variances, 0) + NOISE)
        return cls(count, mean_D, matrix_DD, odd_D)

    def __call__(self, grey_NHW: NDArray[np.uint8], frame: Frame = WHOLE) -> Floats:
        """Return the vectors of a window of each sketch, (N, D)."""
        v_ND = np.empty((len(grey_NHW), len(self.mean_D)), np.float32)
        for start in range(0, len(grey_NHW), 4 * BLOCK):
            c_ND = _frequencies(grey_NHW[start : start + 4 * BLOCK], self.count, frame) - self.mean_D
            v_ND[start : start + 4 * BLOCK] = c_ND @ self.matrix_DD
        v_ND /= np.linalg.norm(v_ND, axis=1, keepdims=True) + 1e-6
        return v_ND


def find(grey_NHW: NDArray[np.uint8], work: float) -> Pairs:
    """Return which sketches (N, 32, 32) are near-duplicates, for the work of comparing so many pairs at the most.

    All are compared with all, the first ones first; then cropped ones are looked for where there is work left.
    No clock is asked, so the answer repeats.
    """
    coarse, fine = Whitening.of(grey_NHW, COARSE), Whitening.of(grey_NHW, FINE)
    v_ND = coarse(grey_NHW)
    found = _candidates(v_ND, v_ND, coarse.odd_D, work, told=True)
    left = work - found.compared * len(v_ND) ** 2 / 2
    for frame in CROPS:
        if (left := left - len(v_ND) ** 2) > 0:
            found = found.with_(_candidates(coarse(grey_NHW, frame), v_ND, coarse.odd_D, work))
    pairs_P2 = found.pairs_P2
    alike_P = _alike_whole(fine(grey_NHW), fine.odd_D, pairs_P2)
    open_P = np.flatnonzero(~alike_P)
    open_P = open_P[np.argsort(-found.cosines_P[open_P], kind="stable")[: int(work // WINDOWED)]]
    for start in range(0, len(open_P), 4 * BLOCK):
        part = open_P[start : start + 4 * BLOCK]
        alike_P[part] = _alike_in_windows(grey_NHW, pairs_P2[part], coarse, fine)
    return Pairs(pairs_P2[alike_P, 0], pairs_P2[alike_P, 1], found.compared)


def _frequencies(grey_NHW: NDArray[np.uint8], count: int, frame: Frame) -> Floats:
    """Return the lowest frequencies (N, D) of a window of each sketch: rows vertical, the constant left out."""
    size, right, down = frame
    c_NKK = _cosines(count, size, down) @ grey_NHW.astype(np.float32) @ _cosines(count, size, right).T
    return c_NKK.reshape(len(grey_NHW), -1)[:, 1:]


def _cosines(count: int, size: float, shift: float) -> Floats:
    """Return the matrix (count, SIDE) from a line of pixels to the lowest frequencies of a window of it.

    The window is sampled SIDE times, linearly, its ends repeated; the transform is the orthonormal DCT-II.
    """
    places = (np.arange(SIDE) + 0.5) / SIDE
    at = np.clip((places - 0.5) * size * SIDE + SIDE / 2 + shift - 0.5, 0, SIDE - 1)
    left = np.minimum(at.astype(int), SIDE - 2)
    sampled = np.zeros((SIDE, SIDE))
    sampled[np.arange(SIDE), left] = 1 - (at - left)
    sampled[np.arange(SIDE), left + 1] = at - left
    cosines = np.cos(np.pi * np.arange(count)[:, None] * places) * np.sqrt(2 / SIDE)
    cosines[0] /= np.sqrt(2)
    return np.asarray(cosines @ sampled, np.float32)


@dataclass(frozen=True)
class _Candidates:
    """Pairs (P, 2) that may be alike with their cosines, each pair once, and the share of all pairs compared."""

    pairs_P2: Indices
    cosines_P: Floats
    compared: float

    def with_(self, others: "_Candidates") -> "_Candidates":
        """Return these and those of `others` that are not among them."""
        ordered_P2 = np.sort(others.pairs_P2, axis=1)
        both_P2 = np.concatenate([self.pairs_P2, ordered_P2])
        cosines_P = np.concatenate([self.cosines_P, others.cosines_P])
        _, first_P = np.unique(both_P2, axis=0, return_index=True)
        first_P.sort()
        return _Candidates(both_P2[first_P], cosines_P[first_P], self.compared)


def _candidates(
    queries_ND: Floats, v_ND: Floats, odd_D: NDArray[np.bool_], work: float, *, told: bool = False
) -> _Candidates:
    """Return pairs whose cosine, as they are or mirrored, is beyond CANDIDATE."""
    same, images, level = queries_ND is v_ND, len(v_ND), CANDIDATE
    q_even, q_odd = (np.ascontiguousarray(queries_ND[:, part]) for part in (~odd_D, odd_D))
    even, odd = (np.ascontiguousarray(v_ND[:, part]) for part in (~odd_D, odd_D))
    pairs, cosines = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    done, total = 0, images * (images + 1) // 2 if same else images**2
    for start in range(0, images, BLOCK):
        for other in range(start if same else 0, images, BLOCK):
            rows, columns = slice(start, start + BLOCK), slice(other, other + BLOCK)
            block = q_odd[rows] @ odd[columns].T
            np.abs(block, out=block)
            block += q_even[rows] @ even[columns].T  # the larger of the two cosines
            places = np.flatnonzero(block.ravel() > level)
            found_P2 = np.stack([places // block.shape[1] + start, places % block.shape[1] + other], 1)
            real_P = found_P2[:, 0] < found_P2[:, 1] if same else found_P2[:, 0] != found_P2[:, 1]
            pairs.append(found_P2[real_P])
            cosines.append(block.ravel()[places[real_P]])
            done += block.size
        if sum(map(len, cosines)) > MOST:
            level = ALIKE
            pairs = [found[values > level] for found, values in zip(pairs, cosines, strict=True)]
            cosines = [values[values > level] for values in cosines]
        if told:
            emit(Progress(task="near-duplicates", done=min(done, total), total=total, unit="pairs"))
        if (sum(map(len, cosines)) > MOST or done > work) and start + BLOCK < images:
            return _Candidates(np.concatenate(pairs), np.concatenate(cosines), min(done / total, 0.999))
    return _Candidates(np.concatenate(pairs), np.concatenate(cosines), 1.0)


def _alike_whole(v_ND: Floats, odd_D: NDArray[np.bool_], pairs_P2: Indices) -> NDArray[np.bool_]:
    """Return which pairs are alike as they are, or mirrored."""
    alike_P = np.zeros(len(pairs_P2), bool)
    for start in range(0, len(pairs_P2), 16 * BLOCK):
        part = pairs_P2[start : start + 16 * BLOCK]
        products_PD = v_ND[part[:, 0]] * v_ND[part[:, 1]]
        cosines_P = products_PD[:, ~odd_D].sum(1) + np.abs(products_PD[:, odd_D].sum(1))
        alike_P[start : start + 16 * BLOCK] = cosines_P > ALIKE
    return alike_P


def _alike_in_windows(
    grey_NHW: NDArray[np.uint8], pairs_P2: Indices, coarse: Whitening, fine: Whitening
) -> NDArray[np.bool_]:
    """Return which pairs are alike where a window of either, mirrored or not, is compared with the other."""
    one, other = grey_NHW[pairs_P2[:, 0]], grey_NHW[pairs_P2[:, 1]]
    alike_P = np.zeros(len(pairs_P2), bool)
    for seen in (other, other[:, :, ::-1]):
        for whole, part in ((one, seen), (seen, one)):
            left = np.flatnonzero(~alike_P)
            if not len(left):
                return alike_P
            frames = _best_frames(whole[left], part[left], coarse)
            for number in np.unique(frames):
                mine = left[frames == number]
                cosines = np.einsum("pd,pd->p", fine(whole[mine]), fine(part[mine], FRAMES[number]))
                alike_P[mine[cosines > ALIKE]] = True
    return alike_P


def _best_frames(whole_PHW: NDArray[np.uint8], part_PHW: NDArray[np.uint8], coarse: Whitening) -> Indices:
    """Return for each pair the number of the window of the second that is most like the whole first."""
    best_P, number_P = np.full(len(whole_PHW), -np.inf, np.float32), np.zeros(len(whole_PHW), np.int64)
    v_PD = coarse(whole_PHW)
    for number, frame in enumerate(FRAMES):
        cosines = np.einsum("pd,pd->p", v_PD, coarse(part_PHW, frame))
        better = cosines > best_P
        best_P[better], number_P[better] = cosines[better], number
    return number_P


def _blocks(grey_NHW: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, max(len(grey_NHW), 1), 4 * BLOCK):
        yield grey_NHW[start : start + 4 * BLOCK]
