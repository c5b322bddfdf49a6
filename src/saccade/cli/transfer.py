"""The command `transfer`: measure, advise, and run the advised cell of the lecture's table."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Config, Json, Out, Resume, Source, resolve
from saccade.cli.output import answer, working
from saccade.cli.summary import result_text
from saccade.cli.text import percent, table
from saccade.errors import SettingError
from saccade.settings import TransferSettings

From = Annotated[str | None, Parameter(name="--from", help="The network to transfer from, as --pretrained takes it.")]


def transfer(
    source: Source,
    /,
    *,
    from_: From = None,
    settings: Annotated[TransferSettings, Parameter(name="*")] = TransferSettings(),
    out: Out = None,
    config: Config = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Measure how much data there is and how like what a network knows; advise what to train of it, and train it.

    The cells are those of the lecture's table: a linear classifier on top, or on several stages; a few layers
    fine-tuned, or more. The test part stays sealed.
    """
    if from_ is not None and "pretrained" in settings.model_fields_set:
        raise SettingError("--from and --pretrained exclude each other: each names the network; give one of them.")
    if from_ is not None:
        settings = settings.model_copy(update={"pretrained": from_})
    settings = resolve(settings, config)
    with working():
        from saccade import recipe
        from saccade.train.budget import Clock

        summary = recipe.transfer(source, settings, out=out, clock=Clock.of_command(None), resume=resume).summary
    answer(summary, f"{advice_text(summary['transfer'])}\n\n{result_text(summary)}", json=json)


def advice_text(advice: Mapping[str, Any]) -> str:
    """Return the advice: the linear probes of each stage, the sentences, and what was run where that is another."""
    header = ["Stage", "features", "accuracy", "± error", "drift"]
    rows = [
        [
            each["name"],
            f"{each['features']:,}",
            percent(each["accuracy"]),
            percent(each["error"]),
            "" if each["drift"] is None else f"{each['drift']:.2f} sd",
        ]
        for each in advice["stages"]
    ]
    rows.append(["all of them", f"{sum(each['features'] for each in advice['stages']):,}",
                 percent(advice["together"]), percent(advice["together_error"]), ""])  # fmt: skip
    asked = "" if advice["run"] == advice["cell"] else f"\nRun instead, as asked for: {advice['run']}."
    return f"{table(header, rows)}\n\n{advice['why']}{asked}"
