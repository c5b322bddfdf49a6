"""Wrong usage in one sentence: what was given, what was expected, what to do."""

from typing import Any

from cyclopts.exceptions import (
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from saccade.errors import SettingError, did_you_mean


def sentence(error: CycloptsError) -> str:
    """Say in one sentence what is wrong with the words on the command line."""
    command = " ".join(("saccade", *(error.command_chain or ())))
    see = f" See `{command} --help`."
    match error:
        case UnknownCommandError(unused_tokens=[given, *_]):
            known = [name for name in error.app or () if not name.startswith("-")]
            hint = did_you_mean(given, known) or f" Known are: {', '.join(known)}."
            return f'There is no command "{given}".{hint}'
        case UnknownOptionError():
            given = (error.token.keyword or error.token.value).partition("=")[0]
            names = [name for argument in error.argument_collection for name in argument.names]
            return f'`{command}` has no option "{given}".{did_you_mean(given, names) or see}'
        case UnusedCliTokensError(unused_tokens=[given, *_]):
            return f'`{command}` does not know what to do with "{given}".{see}'
        case MissingArgumentError(argument=argument) if argument is not None:
            if error.keyword or argument.tokens:
                return f"{error.keyword or argument.tokens[-1].keyword} needs a value.{see}"
            return f"`{command}` needs {argument.name.lstrip('-').upper()}.{see}"
    return _refused_setting(error) or " ".join(str(error).split())


def _refused_setting(error: CycloptsError) -> str | None:
    """Return the settings' own sentence, where they refused what the options said."""
    complaints: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    refusals = (complaint.get("ctx", {}).get("error") for complaint in complaints)
    return next((str(refusal) for refusal in refusals if isinstance(refusal, SettingError)), None)
