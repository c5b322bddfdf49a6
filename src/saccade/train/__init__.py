"""Training: the clock, the loop, the watch, checkpoints."""

from saccade.train.budget import Clock as Clock
from saccade.train.budget import Pace as Pace
from saccade.train.checkpoint import Checkpoint as Checkpoint
from saccade.train.checkpoint import Checkpoints as Checkpoints
from saccade.train.course import Course as Course
from saccade.train.forward import Forward as Forward
from saccade.train.loop import Training as Training
from saccade.train.loop import train as train
from saccade.train.recovery import Recovery as Recovery
from saccade.train.session import Session as Session
from saccade.train.watch import Watch as Watch
