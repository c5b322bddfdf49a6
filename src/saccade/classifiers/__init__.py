"""Classifiers of images as scikit-learn estimators, and the model that is saved around one."""

from saccade.classifiers.featured import FeatureClassifier as FeatureClassifier
from saccade.classifiers.linear import LinearClassifier as LinearClassifier
from saccade.classifiers.neighbors import KNearestNeighbors as KNearestNeighbors
from saccade.classifiers.network import NetworkClassifier as NetworkClassifier
from saccade.classifiers.saved import Member as Member
from saccade.classifiers.saved import Model as Model
from saccade.classifiers.saved import Prediction as Prediction
from saccade.classifiers.solvers import Descent as Descent
from saccade.classifiers.solvers import Optimum as Optimum
