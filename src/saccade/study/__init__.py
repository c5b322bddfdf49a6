"""Studies: baselines, checks, symmetry, transfer, search, averages, learning curves, comparison, evaluation."""

from saccade.study.baselines import Baseline as Baseline
from saccade.study.baselines import baselines as baselines
from saccade.study.check import Check as Check
from saccade.study.checks import Verdict as Verdict
from saccade.study.checks import checks as checks
from saccade.study.checks import gradient_verdict as gradient_verdict
from saccade.study.checks import verdict as verdict
from saccade.study.curves import learning_curve as learning_curve
from saccade.study.ensemble import ensemble as ensemble
from saccade.study.evaluate import evaluate as evaluate
from saccade.study.faults import labels_in_place as labels_in_place
from saccade.study.faults import parts_apart as parts_apart
from saccade.study.invariance import Invariance as Invariance
from saccade.study.invariance import invariances as invariances
from saccade.study.rates import RangeTest as RangeTest
from saccade.study.rates import range_test as range_test
from saccade.study.rates import span as span
from saccade.study.symmetry import SymmetryResult as SymmetryResult
from saccade.study.symmetry import mirror_symmetric as mirror_symmetric
from saccade.study.transfer import Probe as Probe
from saccade.study.transfer import features as features
from saccade.study.transfer import log_probabilities as log_probabilities
from saccade.study.transfer import probe as probe
from saccade.study.transfer import probe_of as probe_of
