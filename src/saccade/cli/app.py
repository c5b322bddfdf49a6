"""The command `saccade`: its table of commands, and how every failure ends as one sentence and an exit status."""

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, get_origin

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter

from saccade.cli.usage import sentence
from saccade.errors import NO_MEMORY, SaccadeError, out_of_memory
from saccade.interrupts import Terminated

COMMANDS = {
    "fit": ("training:fit", "Turn labelled images into an honestly evaluated classifier, within a time budget."),
    "audit": ("audit:audit", "Look for what is wrong with labelled images, before anything is trained on them."),
    "train": ("training:train", "Train one network with explicit settings."),
    "check": ("check:check", "Ask all that can be known before training, or check a layer's gradients."),
    "search": ("search:search", "Search for the settings of a network that do best, in one process or several."),
    "transfer": ("transfer:transfer", "Advise what of a pretrained network to train, as measured, and train it."),
    "baselines": ("baselines:baselines", "Cross-validate classical classifiers on pixels and on features."),
    "ensemble": ("ensemble:ensemble", "Average the classifiers of several runs, where that is better on validation."),
    "evaluate": ("results:evaluate", "Measure a run on its test part (a counted look) or on new labelled images."),
    "predict": ("predict:predict", "Label images, folders and archives with a run's classifier."),
    "report": ("results:report", "Write a run's HTML report again."),
    "compare": ("compare:compare", "Set runs side by side and test their differences on the same images."),
    "volumes": ("volumes:volumes", "Show a network layer by layer: sizes, parameters, products, memory."),
    "curvature": ("curvature:curvature", "Look at a network's loss: eigenvalues of its Hessian, gradient noise."),
    "graph": ("graph:graph", "Show values and gradients flowing through an expression or a network."),
    "augment": (
        "augment:augment",
        "Show what each augmentation does to a source's images, and which keep their class.",
    ),
    "models": ("lists:models", "List the networks that can be trained."),
    "datasets": ("lists:datasets", "List the data sets known by name."),
}
"""Each command's function, imported only when it is called, and its line in the list of commands."""
MAKE_ROOM = "What was written before is whole; make room, then give the command again, with --resume where it takes it."

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def build() -> App:
    """Return the parser; its errors are raised as CycloptsError, never printed."""
    app = App(
        name="saccade",
        help="From a folder of labelled images to an image classifier its owner can trust, in one command.",
        version=_version,
        help_format="plaintext",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
        config=_read_as_yaml,
        default_parameter=Parameter(negative_iterable=()),  # a list is never emptied by an option of its own
    )
    for place, (name, (function, line)) in enumerate(COMMANDS.items()):
        app.command(f"saccade.cli.{function}", name=name, help=line, sort_key=place)
    return app


def _read_as_yaml(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Read an option's value in brackets as `--set` and files of settings are read, where the parser would as JSON."""
    for argument in arguments:
        if get_origin(argument.hint) is dict and any(token.value.startswith(("{", "[")) for token in argument.tokens):
            from saccade.values import from_yaml

            argument.tokens = [
                token.evolve(implicit_value=from_yaml(token.value, f"The value of {argument.name}"))
                for token in argument.tokens
            ]


def run() -> NoReturn:
    """Run one command and end the process with its exit status, at once.

    All is written and flushed by then; to take PyTorch apart would cost a second, which a budget counts.
    """
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done; 1 the work failed; 2 the input or the usage is wrong; 130, 141 and 143 after SIGINT, a
    closed pipe and SIGTERM. A failure is one sentence on standard error; SACCADE_TRACEBACK=1 shows
    where it came from.
    """
    for stream in (sys.stdout, sys.stderr):
        # File names need not be valid text; they are shown escaped rather than ending the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with _sigterm_unwinds():
            status = build()(sys.argv[1:] if arguments is None else list(arguments))
            sys.stdout.flush()
            return status or 0
    except (BrokenPipeError, SystemExit):  # rich turns the one into the other
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (Exception, KeyboardInterrupt, Terminated) as error:  # noqa: BLE001 (this is where every failure ends)
        if os.environ.get("SACCADE_TRACEBACK"):
            import traceback

            traceback.print_exc()
        message, status = _ending(error)
        print(f"saccade: {message}", file=sys.stderr)
        return status


def _ending(error: BaseException) -> tuple[str, int]:
    """Return what to say about an exception that ended the command, and the exit status."""
    match error:
        case CycloptsError():
            return sentence(error), 2
        case SaccadeError():
            return str(error), error.exit_status
        case KeyboardInterrupt():
            return "Interrupted.", 128 + signal.SIGINT
        case Terminated():
            return "Terminated.", 128 + signal.SIGTERM
        case Exception() if out_of_memory(error):
            return NO_MEMORY, 2
        case OSError() if error.strerror:
            where = f": {error.filename}" if error.filename else ""
            if error.errno in NO_ROOM:
                return f"There is no room to write ({error.strerror}{where}). {MAKE_ROOM}", 1
            return f"The system refused ({error.strerror}{where}).", 1
    what = " ".join(f"{type(error).__name__}: {error}".split())
    report = "please report it to saccade's issue tracker with what the same command prints under SACCADE_TRACEBACK=1"
    return f"Stopped by a fault of its own ({what}); {report}.", 1


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    def unwind(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _version() -> str:
    from importlib.metadata import version

    return version("saccade")
