"""Studies: baselines, checks before training, symmetry, evaluation."""

from saccade.study.baselines import Baseline as Baseline
from saccade.study.baselines import baselines as baselines
from saccade.study.checks import Check as Check
from saccade.study.checks import checks as checks
from saccade.study.evaluate import evaluate as evaluate
from saccade.study.symmetry import SymmetryResult as SymmetryResult
from saccade.study.symmetry import mirror_symmetric as mirror_symmetric
