"""Settings: typed, frozen, self-checking values; the command line and the saved copy derive from them."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from saccade.errors import SettingError, did_you_mean
from saccade.strengths import parse_augment
from saccade.values import (
    EXPECTED,
    Fold,
    Fraction,
    Pattern,
    Positive,
    Seconds,
    Several,
    Whole,
    alternatives,
    assigned,
    from_file,
    from_yaml,
)
from saccade.words import own_name

BatchSize = Whole | Literal["all"]
OptimizerName = Literal["muon", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lbfgs"]
Interpolation = Literal["bilinear", "bicubic"]
ScheduleName = Literal["linear", "cosine", "constant", "step", "exponential", "inverse", "one_cycle"]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown names, errors of one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingError(_sentence(error, type(self))) from None

    def override(self, assignments: Iterable[str]) -> Self:
        """Return a copy with `key=value` texts applied; values are read as YAML.

        Raises SettingError when an assignment is not `key=value`, a key is given twice, or key or value are refused.
        """
        given = {key: from_yaml(value, f"The value of {key}") for key, value in assigned(assignments).items()}
        return type(self)(**{**self.model_dump(exclude_unset=True), **given})

    def variants(self, assignments: Iterable[str]) -> dict[str, Self]:
        """Return a copy for each combination of values that `key=value` texts give, by what it has of its own.

        `key=a,b` gives two values; a value in quotes or brackets is one, whatever it holds. Where nothing
        has two, the one copy is called "". Raises SettingError as `override` does, and where two are the same.

        >>> list(TrainSettings().variants(["activation=relu,tanh", "epochs=3", "depth=2,4"]))
        ['activation=relu depth=2', 'activation=relu depth=4', 'activation=tanh depth=2', 'activation=tanh depth=4']
        """
        given = {key: alternatives(value) for key, value in assigned(assignments).items()}
        varied = [key for key, texts in given.items() if len(texts) > 1]
        chosen = [dict(zip(given, texts, strict=True)) for texts in product(*given.values())]
        return {
            " ".join(f"{key}={texts[key]}" for key in varied): self.override(f"{k}={v}" for k, v in texts.items())
            for texts in chosen
        }

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read settings from a YAML file; raises SettingError as `from_file` does, and for what does not fit."""
        return cls(**from_file(path))

    def to_yaml(self) -> str:
        """Return every setting, resolved, as YAML that `load` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class DataSettings(Settings):
    """How images are read and split."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the split, the initial weights, the order of images and their augmentation."""
    split_seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Seed of the split alone, so that trainings with other seeds share it; the default is the seed."""
    test_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.15
    """Share of the images kept as the sealed test part, where the source has none."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.15
    """Share of the images kept for choosing, where the source has no validation part."""
    group_pattern: Pattern | None = None
    """Regular expression for images that must stay together: those in whose names its (parentheses) find the same."""
    fit_to_square: Literal["stretch", "crop", "pad"] = "stretch"
    """How an image that is not square becomes one: stretched, its centre cut out, or padded."""
    memory: float = Field(default=4.0, ge=0)
    """Gigabytes (2^30 bytes) of decoded images to keep at the most; the rest is read again when needed."""
    workers: int | None = Field(default=None, ge=0, le=256)
    """Threads that read and decode images; the default is one a core. Results do not depend on it."""


class TrainSettings(DataSettings):
    """One network and how it is trained: everything `saccade train` can be told."""

    model: Annotated[str, AfterValidator(own_name)] = "convnet"
    """The network: see `saccade models`."""
    pretrained: str | None = None
    """Weights to start from, under a new last layer: NAME of a network, FILE, NAME=FILE, run/PATH, or auto."""
    stages: tuple[str, ...] = ()
    """Modules of a pretrained network whose averaged outputs the last layer sees; the default is its end."""
    frozen: Fraction = 0.0
    """Share of a pretrained network's layers, from the input on, that stay as they are, batch statistics included."""
    thaw: Fraction = 0.0
    """Share of the training over which a pretrained network's other layers begin to be trained, the last first."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the training part, to the nearest whole step; the result is then the same to the bit each time."""
    budget: Seconds | None = None
    """Time for the whole command, all its trainings together, such as 90s or 1h30m; without it or epochs, 2m each."""
    fold: Fold | None = None
    """Which of how many folds of the training and validation images is held out to validate on, such as 2/5."""
    size: int | None = Field(default=None, ge=4, le=2048)
    """Side in pixels of the square images the network sees; the default follows the images and the time."""
    interpolation: Interpolation = "bilinear"
    """How images are resized to it, antialiased; where it is not given, pretrained weights get what they expect."""
    width: float | None = Field(default=None, gt=0, le=16)
    """Factor on the number of channels of saccade's own networks; by default 1, and up to 2 for a long budget."""
    depth: int | None = Field(default=None, ge=1, le=200)
    """Hidden layers of mlp (2 by default) or stages of convnet (3)."""
    activation: Literal["sigmoid", "tanh", "relu", "leaky_relu", "prelu", "elu", "maxout", "gelu", "silu"] | None = None
    """Activation of hidden units; the default is silu in convnet, relu in saccade's others, a library's its own."""
    norm: Literal["batch", "layer", "instance", "group", "none"] | None = None
    """Normalisation between layers; the default is batch, a library's network has its own."""
    pool: Literal["max", "average", "fractional"] | None = None
    """Pooling of saccade's own networks; the default is max."""
    global_pool: Literal["max", "average"] | None = None
    """What saccade's own networks take of each channel over the whole image; the default is max."""
    init: Literal["small", "xavier", "glorot", "he", "orthogonal"] | None = None
    """Initial weights; the default is the network's own."""
    zero_last: bool = False
    """Begin with the residual branches of convnet at zero."""
    preprocess: Literal["standardize", "center", "scale", "none", "mean-image", "pca", "pca-whiten", "zca"] = (
        "standardize"
    )
    """What is done to images first, as fitted to the training part; pca and pca-whiten are for mlp and linear."""
    batch_size: BatchSize | None = None
    """Images a step, or all; the default follows the size of the training part. Of lbfgs: images in memory at once."""
    accumulate: int = Field(default=1, ge=1)
    """Parts a batch is run through in, one after another: as many times less memory; batch norm sees each alone."""
    optimizer: OptimizerName | None = None
    """Update rule; the default is muon for convnet (adam with init or norm=none), adamw for pretrained ones, else adam.

    lbfgs takes all images at every step, with every source of noise off, for small sources and networks."""
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Highest learning rate; the default is the optimizer's own."""
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Weight decay of kernels and matrices, save muon's kernels, biases and norm scales; by default the optimizer's."""
    lowest_rate: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of a pretrained network's lowest layer, as a share of the last one's."""
    schedule: ScheduleName = "linear"
    """How the learning rate falls after the warm-up, over the steps or the time there is."""
    warmup: float | None = Field(default=None, ge=0, lt=1)
    """Share of the training over which the learning rate rises; the default is the optimizer's own."""
    label_smoothing: Fraction = 0.2
    """Share of the target spread evenly over all classes."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Let every class count the same, by weights on the losses, or by drawing images of rare ones more often."""
    clip: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Length that the gradient of all parameters is shortened to where it is longer."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of a moving average of the weights, such as 0.99, kept unless the last do better on validation."""
    swa: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training, its last, whose weights are averaged, the rate staying level (SWA); kept as with ema."""
    snapshots: int = Field(default=1, ge=1, le=100)
    """Times the schedule runs; the networks at the end of each are averaged where that improves validation."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without a lower validation loss after which training stops; the best epoch's weights are kept."""
    flip: bool | None = None
    """Mirror training images left to right; the default is measured: where mirrored images keep their class.

    Where this cannot be told, as simple classifiers do no better than chance, they are mirrored too."""
    views: bool | None = None
    """Average predictions over each image and its mirror image; the default is where images are mirrored."""
    test_views: int = Field(default=1, ge=1, le=64)
    """Further views to average over, drawn from translate and augment, where that is better on validation; 1: none."""
    translate: float = Field(default=0.0625, ge=0, le=0.5)
    """Largest shift of training images, as a share of the side."""
    cutout: float = Field(default=0.0, ge=0, le=1)
    """Side of the square blanked out in training images, as a share of the image's side."""
    random_crops: float = Field(default=0.0, ge=0, lt=1)
    """Least share of an image that a random part of it, cut out as it is read, shows, such as 0.08; 0 for all of it."""
    augment: Annotated[dict[str, float], BeforeValidator(parse_augment)] = Field(default_factory=dict)
    """Other augmentations: a name or names, such as trivialaugment, or strengths, such as {rotate: 15, noise: 0.05}.

    `saccade augment` shows what each does to your images, and which keep their class."""
    mixup: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How evenly two images, and their labels, are averaged into one: the α of a Beta(α, α); 0 never."""
    cutmix: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How evenly two images share one, a rectangle of the other in each: the α of a Beta(α, α); 0 never."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of the inputs of fully connected layers dropped in training, an image at a time; the default is 0.

    A library's network has a default of its own: a number is the rate where it drops, or else before its last layer."""
    dropconnect: float = Field(default=0.0, ge=0, lt=1)
    """Share of the weights of fully connected layers dropped in training, a step at a time."""
    stochastic_depth: float | None = Field(default=None, ge=0, lt=1)
    """Share of the images for which the last residual branch is left out in training; of earlier ones less.

    The default is 0, a library's network has its own."""
    l1: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Penalty on the sum of |w| of kernels and matrices."""
    l2: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Penalty on half the sum of w² of kernels and matrices, through the gradient whatever the optimizer."""
    grow: bool = True
    """Begin on smaller images and end on full ones, which is cheaper, where the network takes any size."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the network's products; auto is bfloat16 where the hardware has it."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """Threads that compute on the CPU; the default is one a core, shared by the workers of a search."""
    replay: str | None = None
    """The plan.json of an earlier run, whose recorded numbers of steps are taken instead of the clock's."""

    @model_validator(mode="after")
    def _epochs_or_budget(self) -> Self:
        if self.epochs is not None and self.budget is not None:
            raise ValueError("epochs and budget exclude each other: give one of them")
        return self

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        kinds = {"ema": self.ema > 0, "swa": self.swa > 0, "snapshots": self.snapshots > 1}
        if len(given := [name for name, is_given in kinds.items() if is_given]) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: each says what predicts; give one of them")
        if self.patience is not None and self.snapshots > 1:
            raise ValueError("snapshots are taken to the end of the last cycle: leave patience out")
        return self

    @model_validator(mode="after")
    def _full_batch(self) -> Self:
        plain = {
            "learning_rate": None, "lowest_rate": 1.0, "warmup": None, "thaw": 0.0, "accumulate": 1, "clip": None,
            "ema": 0.0, "swa": 0.0, "snapshots": 1, "l1": 0.0, "l2": 0.0, "random_crops": 0.0, "test_views": 1,
        }  # fmt: skip
        given = [name for name, value in plain.items() if getattr(self, name) != value]
        given += ["balance=sampling"] if self.balance == "sampling" else []
        if self.optimizer == "lbfgs" and given:
            raise ValueError(
                f"lbfgs sees all images at once and finds the length of each step itself: leave out {', '.join(given)}"
            )
        if self.batch_size == "all" and self.balance == "sampling":
            raise ValueError(
                "with batch_size=all each image is taken once a step, and balance=sampling takes some more often: give "
                "balance=weights, or a number of images a step"
            )
        return self


class SearchSettings(TrainSettings):
    """A search over the settings of one network: everything `saccade search` can be told."""

    epochs: float | None = Field(default=6.0, gt=0, allow_inf_nan=False)
    """Passes over the training part in a refined trial; a coarse one takes a third of them."""
    trials: int = Field(default=24, ge=2, le=100_000)
    """Trials: two thirds coarse ones over the whole space, the rest around the best of those, and longer."""
    sampler: Literal["random", "grid", "sobol", "tpe"] = "random"
    """Where coarse trials lie: drawn at random, on a grid, evenly (Sobol), or by what did well before (TPE)."""
    stop: Literal["halving", "exploded", "none"] = "halving"
    """Stop trials whose loss passes 3 times the first (exploded), and also the worse half at 1/4 and 1/2 of the way."""
    repeats: int = Field(default=3, ge=0, le=100)
    """Trials with fresh seeds of each finalist: the two best settings, and the defaults; 0 for none."""
    storage: str | None = None
    """URL of a database for the trials, such as postgresql://host/name; the default is a file in the run's folder."""
    study: str = Field(default="saccade", min_length=1, max_length=500)
    """Name of the search in that database; commands that give the same one work on it together."""

    @model_validator(mode="after")
    def _epochs_alone(self) -> Self:
        if self.epochs is None or self.budget is not None or self.replay is not None:
            raise ValueError("the trials of a search have all as many epochs: give epochs, no budget and no replay")
        if self.patience is not None or self.snapshots > 1:
            raise ValueError("a trial is one network, trained for all of its epochs: leave patience and snapshots out")
        if self.views or self.test_views > 1:
            raise ValueError("a trial predicts from each image as it is: leave views and test_views out")
        return self


class FitSettings(DataSettings):
    """The whole main path: everything `saccade fit` can be told."""

    budget: Seconds = 120.0
    """Time for the whole command, such as 90s, 2m or 1h30m."""
    pretrained: str = "auto"
    """Weights to transfer from: NAME of a network, FILE, NAME=FILE, run/PATH, auto (on this machine) or none."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""


class TransferSettings(DataSettings):
    """Transfer from one pretrained network: everything `saccade transfer` can be told."""

    pretrained: str = "auto"
    """Weights to transfer from: NAME of a network, FILE, NAME=FILE, run/PATH, or auto (what is on this machine)."""
    cell: Literal["auto", "top", "stages", "few", "more"] = "auto"
    """A linear classifier on top, or on several stages; a few layers fine-tuned, or more; auto does as advised."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the training part in fine-tuning; the default follows the number of images."""
    size: int | None = Field(default=None, ge=16, le=1024)
    """Side in pixels of the images the network sees; the default follows the images and the weights, up to 128."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""


class AuditSettings(DataSettings):
    """Everything `saccade audit` can be told."""

    budget: Seconds = 120.0
    """Time for the search for wrong labels, about half of it used; reading and comparing images come on top."""
    memory: float = Field(default=0.25, ge=0)
    """Gigabytes (2^30 bytes) of decoded images to keep at the most; the rest is read again when needed."""
    pretrained: str = "auto"
    """Weights whose features tell wrong labels: NAME of a network, FILE, NAME=FILE, auto (on this machine) or none."""
    cache: bool = True
    """Remember what is learned of each file, so that unchanged ones are not read again."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""


class BaselineSettings(DataSettings):
    """The classical classifiers by themselves: everything `saccade baselines` can be told."""

    folds: int = Field(default=5, ge=2, le=1000)
    """Parts of the training and validation images, each held out once."""
    metric: Several[Literal["l1", "l2"]] = ("l1", "l2")
    """Distances of nearest neighbours; this and what follows takes several, such as l1,l2: each is tried."""
    neighbors: Several[Whole] = (1, 3, 5, 7, 9, 11, 15, 21)
    """Numbers k of nearest neighbours."""
    loss: Several[Literal["softmax", "hinge", "squared_hinge"]] = ("softmax",)
    """Losses of the linear classifiers: cross-entropy, or the multiclass hinge (SVM), or its square."""
    penalty: Several[Literal["none", "l2", "l1", "elastic_net"]] = ("l2",)
    """Penalties on their weights: the sum of W², of |W|, or of beta W² + |W|."""
    strength: Several[Positive] | None = None
    """Factors on the penalty; the default is 0.1 to 0.003, and on as long as the best is at an end."""
    solver: Several[Literal["optimum", "descent"]] = ("optimum",)
    """How they are fitted: at the optimum itself, or by gradient descent, which has a learning rate."""
    learning_rate: Several[Positive] = (0.1, 0.03, 0.01, 0.003, 0.001)
    """Learning rates of descent, at the strength that was best for the optimum, where that is tried too."""
    batch_size: BatchSize = 128
    """Images a step of descent: 1 is on-line, all is full-batch descent."""
    epochs: int = Field(default=10, ge=1)
    """Passes of descent over the images."""
    margin: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Margin of the hinge."""
    beta: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Weight of the squares in the elastic net."""
    size: int | None = Field(default=None, ge=8, le=512)
    """Side in pixels of the images that pixels and features are taken of; the default is their own, up to 32."""
    words: int = Field(default=400, ge=1, le=100_000)
    """Visual words of the codebook."""
    views: bool | None = None
    """Average features over each image and its mirror image; the default is where `train` would mirror images."""
    pretrained: str = "auto"
    """Network whose features are taken too: NAME, FILE, NAME=FILE, auto (what is on this machine) or none."""
    deep_size: int = Field(default=96, ge=16, le=1024)
    """Side in pixels that images are resized to for that network."""
    stage: str | None = None
    """Module of that network whose features are taken; the default is its end, before the head."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""


def _sentence(error: ValidationError, settings: type[Settings]) -> str:
    """Turn pydantic's first complaint into one sentence."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    known = settings.model_fields
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(name, known) or f" Known are: {', '.join(known)}."
        return f'There is no setting "{name}".{hint}'
    reason = EXPECTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    reason = reason[:1].lower() + reason[1:] + ("" if reason.endswith("?") else ".")
    return f'The setting {name} cannot be "{first["input"]}": {reason}' if name else reason[:1].upper() + reason[1:]
