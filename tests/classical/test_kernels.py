"""The byte kernels against integer arithmetic, in every form this processor can run."""

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
import pytest

from saccade.classifiers.kernels import Metric, kernel

FORMS = [
    ("l1", set()),
    ("l1", {"sse2"}),
    ("l1", {"avx2"}),
    ("l1", {"avx512bw"}),
    ("l2", set()),
    ("l2", {"avxvnni"}),
    ("l2", {"avx512vnni"}),
]


@pytest.mark.parametrize(("metric", "features"), FORMS)
def test_sums_are_those_of_integers(metric: Metric, features: set[str]) -> None:
    if not all(llvm.get_host_cpu_features().get(name) for name in features):
        pytest.skip(f"this processor has no {features}")
    rng = np.random.default_rng(0)
    queries_QD, rows_ND = rng.integers(0, 256, (8, 192), np.uint8), rng.integers(0, 256, (12, 256), np.uint8)
    queries_QD[0], rows_ND[0], rows_ND[1] = 255, 0, 255
    add_N, out_QN = np.arange(12, dtype=np.int32), np.full((8, 20), -7, np.int32)
    run = kernel(metric, frozenset(features))
    run(queries_QD.ctypes.data, 8, rows_ND.ctypes.data, 12, 256, 192, add_N.ctypes.data, -2, out_QN.ctypes.data, 20)
    q, x = queries_QD.astype(np.int64)[:, None], rows_ND[:, :192].astype(np.int64)[None]
    expected = (np.abs(q - x) if metric == "l1" else q * (x - 128)).sum(2)
    np.testing.assert_array_equal(out_QN[:, :12], add_N - 2 * expected)
    assert (out_QN[:, 12:] == -7).all()
