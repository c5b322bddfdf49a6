"""Features of images as scikit-learn transformers: colours, edges, visual words, deep features, stacked and cached."""

from saccade.features.base import ImageFeatures as ImageFeatures
from saccade.features.choice import handmade as handmade
from saccade.features.clusters import kmeans as kmeans
from saccade.features.colour import ColourHistogram as ColourHistogram
from saccade.features.deep import DeepFeatures as DeepFeatures
from saccade.features.hog import HOG as HOG
from saccade.features.stacked import Stacked as Stacked
from saccade.features.words import VisualWords as VisualWords
