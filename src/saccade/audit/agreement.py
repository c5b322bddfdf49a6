"""Whether pictures alike by their whitened frequencies also agree in colour and in plain tones, as copies do.

Whitened vectors leave out the mean, the contrast and what most images have in common: the same letter in other
colours, or two small shapes at different places on white, may point in one direction. So pixels are compared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.audit.windows import WHOLE, Floats, Frame, sampled

CORRELATION, CONTRAST = 0.85, 2.0
"""The least correlation of two copies' luminance, and how many times the contrast of one may be the other's."""
COLOURLESS, GREY_COPY = 1.0, 0.95
"""Root mean square of chroma, in levels, of a grey picture; the correlation with a coloured one it is a copy of."""
CHROMA, SATURATION = 10.0, 2.0
"""Root mean square by which copies' chroma may differ, in levels, and how many times one's saturation the other's."""
NEUTRAL = 128.0
_TOGETHER = 2048


@dataclass(frozen=True)
class Looks:
    """Sketches (`data.sketch`) of N images: luminance (N, 32, 32), and Cb and Cr of cells, (N, 8, 8, 2), all bytes."""

    grey_NHW: NDArray[np.uint8]
    chroma_NHWC: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.grey_NHW)

    def at(self, places: NDArray[np.int64] | slice) -> "Looks":
        """Return the sketches of some images."""
        return Looks(self.grey_NHW[places], self.chroma_NHWC[places])

    def mirrored(self) -> "Looks":
        """Return the sketches of the mirror images."""
        return Looks(self.grey_NHW[:, :, ::-1], self.chroma_NHWC[:, :, ::-1])


def agree(whole: Looks, part: Looks, frame: Frame = WHOLE) -> NDArray[np.bool_]:
    """Return which of P pairs may be copies by tones and colours: each whole with a window of its part.

    Tones must correlate, and have about the same contrast. Chroma must be the same but for its saturation, which
    brightness changes too; a grey picture is compared with a coloured one by tones alone, more strictly.
    """
    agree_P = np.zeros(len(whole), bool)
    for start in range(0, len(whole), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        size, right, down = (each[some] if isinstance(each, np.ndarray) else each for each in frame)
        agree_P[some] = _agree(whole.at(some), part.at(some), (size, right, down))
    return agree_P


def _agree(whole: Looks, part: Looks, frame: Frame) -> NDArray[np.bool_]:
    one_PT = _tones(whole.grey_NHW, WHOLE)
    other_PT = _tones(part.grey_NHW, frame)
    lengths_P, others_P = _rms(one_PT), _rms(other_PT)
    correlation_P = (one_PT * other_PT).mean(1) / np.maximum(lengths_P * others_P, 1e-6)
    even_P = np.maximum(lengths_P, others_P) <= CONTRAST * np.minimum(lengths_P, others_P)
    one_PC, other_PC = _chroma(whole.chroma_NHWC, WHOLE), _chroma(part.chroma_NHWC, frame)
    grey_P = (_rms(one_PC) < COLOURLESS) != (_rms(other_PC) < COLOURLESS)
    same_P = np.where(grey_P, correlation_P > GREY_COPY, _chroma_distance(one_PC, other_PC) < CHROMA)
    return np.asarray((correlation_P > CORRELATION) & even_P & same_P)


def _tones(grey_PHW: NDArray[np.uint8], frame: Frame) -> Floats:
    tones_PT = _window(grey_PHW.astype(np.float32), frame)
    return np.asarray(tones_PT - tones_PT.mean(1, keepdims=True))


def _chroma(chroma_PHWC: NDArray[np.uint8], frame: Frame) -> Floats:
    centred_PHWC = chroma_PHWC.astype(np.float32) - np.float32(NEUTRAL)
    return np.concatenate([_window(centred_PHWC[..., channel], frame) for channel in (0, 1)], axis=1)


def _window(x_PHW: Floats, frame: Frame) -> Floats:
    """Return a window of each of P small pictures, sampled as often as these are, as rows (P, H W)."""
    size, right, down = frame
    side = x_PHW.shape[1]
    seen_PHW = sampled(side, size, down) @ x_PHW @ sampled(side, size, right).swapaxes(-1, -2)
    return np.asarray(seen_PHW.reshape(len(x_PHW), -1))


def _chroma_distance(one_PC: Floats, other_PC: Floats) -> Floats:
    """Return by how much chroma differs, root mean square, once the saturation of the other is the likeliest."""
    likeliest_P = (one_PC * other_PC).sum(1) / np.maximum((other_PC**2).sum(1), 1e-6)
    saturation_P = np.clip(likeliest_P, np.float32(1 / SATURATION), np.float32(SATURATION))
    return _rms(one_PC - saturation_P[:, None] * other_PC)


def _rms(x_PD: Floats) -> Floats:
    return np.asarray(np.sqrt((x_PD**2).mean(1)))
