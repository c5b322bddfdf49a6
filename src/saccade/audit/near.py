"""Near-duplicates: the same picture encoded anew, resized, mirrored, shifted, cropped or brightened.

The luminance of a 32 by 32 sketch goes through a cosine transform; its lowest frequencies, whitened over the
data set (lecture 6), are a vector whose cosine with an unrelated picture's is about normal with a standard
deviation of 1/√D: what many pictures have in common, such as a white background, does not make them alike.
Mirroring changes the sign of the odd horizontal frequencies, so that one product of the even and one of the
odd ones compare every pair as it is and mirrored. Pairs alike in this sense are copies where their tones and colours
agree (`audit.agreement`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra

from saccade.audit.agreement import Looks, agree
from saccade.audit.windows import CROPS, FRAMES, WHOLE, WINDOWS, Floats, Frame, cosines
from saccade.events import Progress, emit

COARSE, FINE = 8, 10
"""Frequencies in each direction that candidates are found by, and confirmed by."""
CANDIDATE, ALIKE = 0.75, 0.9
"""Cosines of candidates, and the least of near-duplicates: on CIFAR-10 0.3 % of the pairs there are of two classes."""
SURELY, CHANCE = 0.97, 0.1
"""The cosine that is always enough, and is asked where a window was moved to fit; pairs called alike by mistake."""
SAMPLE, FEWEST_PAIRS = 1_000, 5_000
"""Images whose pairs show what is usual, and the pairs below which nothing can be said of them."""
NOISE = 300.0
"""Variance below which a frequency counts for less: that of a strong JPEG's error, in squared grey levels."""
BLOCK = 768
FEW = 100
"""One in so many pairs whose cosines are worth computing: fewer are computed one by one, more by the block."""
MOST = 4_000_000
"""Candidates kept; where there are more, only those beyond ALIKE."""
A_SECOND = 200_000_000
"""Pairs that are compared in a second, on one core of some years ago."""
WINDOWED, AT_LEAST = 50_000, 0.1
"""Pairs that could be compared in the time that one pair takes whose windows are compared; their share of the work."""
TRIED = 2
"""Ways to lay one picture on the other, of four, that are refined: the likeliest."""
CLOUD, BROAD = 50, 2.0
"""Images and breadth, in neighbours, from which a group of images like one another is a cloud."""

Indices = NDArray[np.int64]
STEPS, HOPE = (0.05, 0.75, 0.75), 0.6
"""Steps by which a window is refined, and the cosine from which that is worth it."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that are alike, `first_P` < `second_P`, and the share of all pairs that were compared.

    `mirrored_P` are those alike only when one of the two is mirrored.
    """

    first_P: Indices
    second_P: Indices
    mirrored_P: NDArray[np.bool_]
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
        """Return the vectors of a window of each sketch, (N, D): the same window, or each its own."""
        v_ND = np.empty((len(grey_NHW), len(self.mean_D)), np.float32)
        for start in range(0, len(grey_NHW), 4 * BLOCK):
            part = slice(start, start + 4 * BLOCK)
            size, right, down = (each[part] if isinstance(each, np.ndarray) else each for each in frame)
            c_ND = _frequencies(grey_NHW[part], self.count, (size, right, down)) - self.mean_D
            v_ND[part] = c_ND @ self.matrix_DD
        v_ND /= np.linalg.norm(v_ND, axis=1, keepdims=True) + 1e-6
        return v_ND


def find(looks: Looks, work: float, later: int = 0) -> Pairs:
    """Return which sketches are near-duplicates, for the work of comparing so many pairs at the most.

    All are compared with all, the first ones first; then cropped ones are looked for where there is work left:
    where there is not enough for all, and the first `later` lie in later given parts, among pairs with one of these,
    which may be leaks.
    No clock is asked, so the answer repeats.
    """
    grey_NHW = looks.grey_NHW
    coarse, fine = Whitening.of(grey_NHW, COARSE), Whitening.of(grey_NHW, FINE)
    v_ND = coarse(grey_NHW)
    whole, left = len(v_ND) ** 2 / 2, work - len(v_ND) ** 2 / 2
    sides = [(slice(None), slice(None))]
    if later and len(CROPS) * len(v_ND) ** 2 > left:
        sides = [(slice(0, later), slice(None)), (slice(later, None), slice(0, later))]
    a_frame = sum(len(v_ND[cropped]) * len(v_ND[others]) for cropped, others in sides)
    frames = [frame for number, frame in enumerate(CROPS, 1) if number * a_frame < left]
    tell = _Teller(whole + len(frames) * a_frame)
    found = _candidates(v_ND, v_ND, coarse.odd_D, work, tell)
    for frame in frames:
        for cropped, others in sides:
            seen_ND, first = coarse(grey_NHW[cropped], frame), cropped.start or 0
            found = found.with_(_candidates(seen_ND, v_ND[others], coarse.odd_D, work, tell, offset=first))
    pairs_P2, v_ND = found.pairs_P2, fine(grey_NHW)
    usual, cosines_P2 = usual_likeness(v_ND, fine.odd_D, 1.0), _whole_cosines(v_ND, fine.odd_D, pairs_P2)
    likely_P2 = cosines_P2 > min(usual, SURELY)
    alike_P2 = _agreeing(looks, pairs_P2, likely_P2)
    left = max(work - whole - len(frames) * a_frame, AT_LEAST * work)
    open_P = np.flatnonzero(~likely_P2.any(1))
    open_P = open_P[np.argsort(-found.cosines_P[open_P], kind="stable")[: int(left // WINDOWED)]]
    for start in range(0, len(open_P), BLOCK):
        part = open_P[start : start + BLOCK]
        alike_P2[part] = _alike_in_windows(looks, pairs_P2[part], coarse, fine)
    alike_P = np.asarray(alike_P2.any(1))
    if usual > SURELY:
        alike_P[alike_P] = (cosines_P2[alike_P].max(1) > usual) | ~_in_clouds(pairs_P2[alike_P], len(v_ND))
    return Pairs(pairs_P2[alike_P, 0], pairs_P2[alike_P, 1], ~alike_P2[alike_P, 0], found.compared)


def usual_likeness(v_ND: Floats, odd_D: NDArray[np.bool_], most: float = SURELY) -> float:
    """Return the cosine beyond which a pair is alike here: ALIKE, or more where different images are that alike too.

    Of the pairs of a sample, the z = artanh(cosine) that one in ten and one in a hundred exceed are known; beyond,
    their share falls by ten for each such step in z or faster, as it does for photos, and for small pictures of few
    shapes such as digits. The level is where so few would be left that CHANCE different pairs were called alike in
    all, but at `most`: where many images are true copies, they are what makes others look usual.
    """
    sample_N = np.random.default_rng(0).permutation(len(v_ND))[:SAMPLE]
    even_ND, odd_ND = v_ND[np.ix_(sample_N, ~odd_D)], v_ND[np.ix_(sample_N, odd_D)]
    cosines_P = (even_ND @ even_ND.T + np.abs(odd_ND @ odd_ND.T))[np.triu_indices(len(sample_N), 1)]
    if len(cosines_P) < FEWEST_PAIRS:
        return ALIKE
    tenth, hundredth = np.arctanh(np.clip(np.quantile(cosines_P, (0.9, 0.99)), 0, 0.999))
    pairs = len(v_ND) * (len(v_ND) - 1) / 2
    decades = np.log10(pairs / CHANCE) - 2
    return float(np.clip(np.tanh(hundredth + decades * (hundredth - tenth)), ALIKE, most))


def _frequencies(grey_NHW: NDArray[np.uint8], count: int, frame: Frame) -> Floats:
    """Return the lowest frequencies (N, D) of a window of each sketch: rows vertical, the constant left out."""
    size, right, down = frame
    across = cosines(count, size, right).swapaxes(-1, -2)
    c_NKK = cosines(count, size, down) @ grey_NHW.astype(np.float32) @ across
    return c_NKK.reshape(len(grey_NHW), -1)[:, 1:]


@dataclass
class _Teller:
    """How many of all pairs were compared so far, told as Progress."""

    total: float
    done: float = 0

    def __call__(self, pairs: float) -> None:
        self.done = min(self.done + pairs, self.total)
        emit(Progress(task="near-duplicates", done=self.done, total=self.total, unit="pairs"))


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
    queries_ND: Floats, v_ND: Floats, odd_D: NDArray[np.bool_], work: float, tell: _Teller, *, offset: int = 0
) -> _Candidates:
    """Return pairs whose cosine, as they are or mirrored, is beyond CANDIDATE; the first query is image `offset`."""
    same, queries, images, level = queries_ND is v_ND, len(queries_ND), len(v_ND), CANDIDATE
    q_bound, q_odd, q_lengths = _bounding(queries_ND, odd_D)
    bound, odd, lengths = _bounding(v_ND, odd_D)
    pairs, cosines = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    done, total = 0, images * (images + 1) // 2 if same else queries * images
    for start in range(0, queries, BLOCK):
        before = done
        for other in range(start if same else 0, images, BLOCK):
            rows, columns = slice(start, start + BLOCK), slice(other, other + BLOCK)
            block = q_bound[rows] @ bound[columns].T  # no cosine is larger
            places = np.flatnonzero(block.ravel() > level)
            one_P, other_P = places // block.shape[1] + start, places % block.shape[1] + other
            if len(places) < block.size // FEW:
                odd_P = np.einsum("pd,pd->p", q_odd[one_P], odd[other_P])
            else:
                odd_P = (q_odd[rows] @ odd[columns].T).ravel()[places]
            most_P = np.einsum("pd,pd->p", q_lengths[one_P], lengths[other_P])
            cosines_P = block.ravel()[places] - most_P + np.abs(odd_P)
            one_P += offset
            real_P = (one_P < other_P if same else one_P != other_P) & (cosines_P > level)
            pairs.append(np.stack([one_P[real_P], other_P[real_P]], 1))
            cosines.append(cosines_P[real_P])
            done += block.size
        if sum(map(len, cosines)) > MOST:
            level = ALIKE
            pairs = [found[values > level] for found, values in zip(pairs, cosines, strict=True)]
            cosines = [values[values > level] for values in cosines]
        tell(done - before)
        if (sum(map(len, cosines)) > MOST or done > work) and start + BLOCK < queries:
            return _Candidates(np.concatenate(pairs), np.concatenate(cosines), min(done / total, 0.999))
    return _Candidates(np.concatenate(pairs), np.concatenate(cosines), 1.0)


def _bounding(v_ND: Floats, odd_D: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return the even frequencies with the lengths of the odd ones row by row, the odd ones, and the lengths.

    A product of the first bounds both cosines, as an image is and mirrored, from above: the sum over odd ones is at
    most that of the products of lengths (Cauchy and Schwarz). It costs half of the two, and leaves few pairs.
    """
    odd_ND = np.ascontiguousarray(v_ND[:, odd_D])
    lengths_NR = np.linalg.norm(odd_ND.reshape(len(odd_ND), COARSE, -1), axis=2)
    return np.column_stack([v_ND[:, ~odd_D], lengths_NR]), odd_ND, lengths_NR


def _whole_cosines(v_ND: Floats, odd_D: NDArray[np.bool_], pairs_P2: Indices) -> Floats:
    """Return the cosines (P, 2) of pairs as they are, and mirrored."""
    cosines_P2 = np.empty((len(pairs_P2), 2), np.float32)
    for start in range(0, len(pairs_P2), 16 * BLOCK):
        part = pairs_P2[start : start + 16 * BLOCK]
        products_PD = v_ND[part[:, 0]] * v_ND[part[:, 1]]
        even_P, odd_P = products_PD[:, ~odd_D].sum(1), products_PD[:, odd_D].sum(1)
        cosines_P2[start : start + 16 * BLOCK] = np.stack([even_P + odd_P, even_P - odd_P], 1)
    return cosines_P2


def _agreeing(looks: Looks, pairs_P2: Indices, likely_P2: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the likely pairs, as they are and mirrored (P, 2), agree in tones and colours too."""
    alike_P2 = likely_P2.copy()
    for start in range(0, len(pairs_P2), 16 * BLOCK):
        for mirrored in (0, 1):
            likely_P = start + np.flatnonzero(likely_P2[start : start + 16 * BLOCK, mirrored])
            one, other = (looks.at(pairs_P2[likely_P, side]) for side in (0, 1))
            alike_P2[likely_P, mirrored] = agree(one.mirrored() if mirrored else one, other)
    return alike_P2


def _alike_in_windows(looks: Looks, pairs_P2: Indices, coarse: Whitening, fine: Whitening) -> NDArray[np.bool_]:
    """Return which pairs are alike, a window of either compared with the other, as it is and mirrored: (P, 2)."""
    one, other = (looks.grey_NHW[pairs_P2[:, side]] for side in (0, 1))
    cosines_4P, numbers_4P = zip(*_best_windows(one, other, coarse), *_best_windows(other, one, coarse), strict=True)
    alike_P2, order_P4 = np.zeros((len(pairs_P2), 2), bool), np.argsort(-np.stack(cosines_4P, 1), axis=1)
    for best_P in order_P4.T[:TRIED]:
        for way in range(4):
            mine = np.flatnonzero((best_P == way) & ~alike_P2[:, 0])
            turned, mirrored = divmod(way, 2)
            whole, part = (looks.at(pairs_P2[mine, side]) for side in ((1, 0) if turned else (0, 1)))
            whole = whole.mirrored() if mirrored else whole
            cosines_P, frame_P3 = _refined(fine(whole.grey_NHW), part.grey_NHW, FRAMES[numbers_4P[way][mine]], fine)
            surely_P = np.flatnonzero(cosines_P > SURELY)
            size_P, right_P, down_P = frame_P3[surely_P].T
            agree_P = agree(whole.at(surely_P), part.at(surely_P), (size_P, right_P, down_P))
            alike_P2[mine[surely_P], mirrored] |= agree_P
    return alike_P2


def _best_windows(
    whole_PHW: NDArray[np.uint8], part_PHW: NDArray[np.uint8], coarse: Whitening
) -> list[tuple[Floats, Indices]]:
    """Return the largest cosine of each whole with a window of its part, and which: as it is, and mirrored."""
    products_PFD = _window_vectors(part_PHW, coarse) * coarse(whole_PHW)[:, None]
    even_PF, odd_PF = products_PFD @ ~coarse.odd_D, products_PFD @ coarse.odd_D
    return [(each.max(1), each.argmax(1)) for each in (even_PF + odd_PF, even_PF - odd_PF)]


def _window_vectors(grey_PHW: NDArray[np.uint8], whitening: Whitening) -> Floats:
    """Return the vectors (P, F, D) of all FRAMES of each sketch: lines and columns of windows share their products."""
    pixels_PHW, count, found = grey_PHW.astype(np.float32), whitening.count, []
    for size, shifts in WINDOWS:
        lines_LH = np.concatenate([cosines(count, size, shift) for shift in shifts])
        c_PLL = lines_LH @ (pixels_PHW @ lines_LH.T)
        c_PSKSK = c_PLL.reshape(-1, len(shifts), count, len(shifts), count)
        found.append(c_PSKSK.swapaxes(2, 3).reshape(len(c_PLL), -1, count**2)[..., 1:])
    v_PFD = (np.concatenate(found, axis=1) - whitening.mean_D) @ whitening.matrix_DD
    v_PFD /= np.linalg.norm(v_PFD, axis=2, keepdims=True) + 1e-6
    return np.asarray(v_PFD)


def _in_clouds(pairs_P2: Indices, images: int) -> NDArray[np.bool_]:
    """Return which pairs lie in a cloud: a large group of which few are alike, as handwritten ones are.

    Copies of a picture are alike one and all, and a film's frames are a chain, each like those before and after it:
    along the longest way through such a group lie, a step, hardly more images than one has neighbours. Through a
    cloud lie more.
    """
    ones = np.ones(len(pairs_P2), np.int8)
    links = coo_array((ones, (pairs_P2[:, 0], pairs_P2[:, 1])), shape=(images, images)).tocsr()
    _, group_N = connected_components(links, directed=False)
    cloudy_G = np.zeros(group_N.max() + 1, bool)
    for group in np.flatnonzero(np.bincount(group_N) > CLOUD):
        members = np.flatnonzero(group_N == group)
        inner = links[members][:, members]
        steps_N = dijkstra(inner, directed=False, unweighted=True, indices=0)
        longest = dijkstra(inner, directed=False, unweighted=True, indices=int(steps_N.argmax())).max()
        neighbours = 2 * inner.nnz / len(members)
        cloudy_G[group] = len(members) / longest > BROAD * neighbours
    return np.asarray(cloudy_G[group_N[pairs_P2[:, 0]]])


def _refined(
    v_PD: Floats, part_PHW: NDArray[np.uint8], frame_P3: NDArray[np.float64], fine: Whitening
) -> tuple[Floats, NDArray[np.float64]]:
    """Return the cosines (P,) of vectors with windows of sketches where these are largest, and those windows (P, 3).

    From each pair's window on, one of its three numbers after the other is changed by a step, up and down, and by
    half that step: windows that are wrong by a pixel lose the finer frequencies. Pairs below HOPE are left.
    """

    def likeness(places_P: Indices, frame_P3: NDArray[np.float64]) -> Floats:
        size_P, right_P, down_P = frame_P3.T
        return np.asarray(np.einsum("pd,pd->p", v_PD[places_P], fine(part_PHW[places_P], (size_P, right_P, down_P))))

    cosine_P, frame_P3 = likeness(np.arange(len(v_PD)), frame_P3), frame_P3.copy()
    hopeful_P = np.flatnonzero(cosine_P > HOPE)
    for share in (1.0, 0.5):
        for step in np.diag(STEPS) * share:
            for moved in (step, -step):
                tried = likeness(hopeful_P, frame_P3[hopeful_P] + moved)
                better = tried > cosine_P[hopeful_P]
                cosine_P[hopeful_P[better]] = tried[better]
                frame_P3[hopeful_P[better]] += moved
    return cosine_P, frame_P3


def _blocks(grey_NHW: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, max(len(grey_NHW), 1), 4 * BLOCK):
        yield grey_NHW[start : start + 4 * BLOCK]
