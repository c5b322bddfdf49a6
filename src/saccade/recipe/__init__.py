"""The recipe: the main path from a source of images to a trusted classifier."""

from saccade.recipe.augmentations import preview_augmentations as preview_augmentations
from saccade.recipe.classical import baselines as baselines
from saccade.recipe.conclusion import Result as Result
from saccade.recipe.evaluation import evaluate as evaluate
from saccade.recipe.stages import fit as fit
from saccade.recipe.stages import train as train
from saccade.recipe.transfer import transfer as transfer
from saccade.recipe.variants import train_each as train_each
