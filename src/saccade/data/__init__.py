"""Images: opened from any source, decoded by one rule, checked, and split into parts."""

from saccade.data.arrays import from_arrays as from_arrays
from saccade.data.cache import Cache as Cache
from saccade.data.crops import Crops as Crops
from saccade.data.decode import Decoded as Decoded
from saccade.data.decode import decode as decode
from saccade.data.imageset import ImageSet as ImageSet
from saccade.data.integrity import integrity as integrity
from saccade.data.integrity import readable as readable
from saccade.data.named import known_datasets as known_datasets
from saccade.data.parts import Part as Part
from saccade.data.parts import Parts as Parts
from saccade.data.parts import SealedPart as SealedPart
from saccade.data.pixels import Pixels as Pixels
from saccade.data.scale import square as square
from saccade.data.scale import thumbnail as thumbnail
from saccade.data.sources import open as open
from saccade.data.splits import folds as folds
from saccade.data.splits import hold_out as hold_out
from saccade.data.splits import split as split
