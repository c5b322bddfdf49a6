"""The terminal's face: what each event becomes on standard error."""

import io
import sys
from collections.abc import Iterable
from time import sleep

import pytest

from saccade.cli.output import answer, working
from saccade.cli.summary import evaluation_text, result_text
from saccade.cli.terminal import Face
from saccade.events import Event, Finding, Progress, StageEnded, StageStarted, emit

UNREADABLE = Finding(kind="unreadable", severity="warning", paths=("cat/1.jpg",), detail="the file is cut short")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(events: Iterable[Event]) -> str:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with Face() as face:
            for event in events:
                face(event)
    return stream.getvalue()


def test_a_stage_is_one_line_when_nobody_watches_live() -> None:
    progress = [Progress(task="decode", done=n, total=500, unit="images") for n in range(500)]
    ended = StageEnded(stage="integrity", seconds=1.25, outcome="500 images, all readable")
    assert drawn([StageStarted(stage="integrity"), *progress, ended]) == (
        "integrity       1.2 s  500 images, all readable\n"
    )


def test_long_work_speaks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr("saccade.cli.terminal.perf_counter", lambda: next(clock))
    text = drawn([Progress(task="train", done=n, total=9, unit="epochs", detail=f"loss {n}") for n in range(9)])
    assert "  train: 2 of 9 epochs  loss 2\n" in text
    assert 2 <= len(text.splitlines()) <= 4


def test_a_finding_says_kind_names_and_reason() -> None:
    assert drawn([UNREADABLE]) == "  unreadable: cat/1.jpg: the file is cut short\n"


def test_many_findings_are_counted_not_poured_out() -> None:
    lines = drawn([UNREADABLE] * 250 + [StageEnded(stage="integrity", seconds=1)]).splitlines()
    assert len(lines) == 5
    assert lines[3] == "  unreadable: 247 more, all listed in the report"


def test_many_names_in_one_finding_are_counted() -> None:
    paths = tuple(f"{n}.jpg" for n in range(1500))
    text = drawn([Finding(kind="duplicate", paths=paths, detail="kept on one side")])
    assert text == "  duplicate: 0.jpg, 1.jpg, 2.jpg and 1,497 more: kept on one side\n"


def test_names_cannot_command_the_terminal() -> None:
    text = drawn([Finding(kind="unreadable", paths=("\x1b[2J[red]\udcff\n.jpg",), detail="no image")])
    assert text == "  unreadable: \\x1b[2J[red]\\xff\\n.jpg: no image\n"


def test_a_terminal_gets_a_live_display_that_leaves_only_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Face() as face:
        face(StageStarted(stage="train"))
        face(Progress(task="train", done=2, total=9, unit="epochs", detail="loss 0.5"))
        sleep(0.3)
        face(UNREADABLE)
        face(StageEnded(stage="train", seconds=3, outcome="best 97.5 %"))
    text = stream.getvalue()
    assert "2 of 9 epochs" in text
    assert "\x1b[33m  unreadable" in text
    assert "train           3.0 s  best 97.5 %" in text


def test_no_colours_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with Face() as face:
        face(UNREADABLE)
    assert "\x1b[33m" not in stream.getvalue()


def test_work_goes_on_when_nobody_reads_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with Face() as face:
        face(UNREADABLE)
        face(UNREADABLE)


def test_only_the_result_reaches_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with working():
        emit(UNREADABLE)
        sys.stdout.write("a library that chats")
    answer({"name": "é\udcff"}, "text", json=True)
    captured = capsys.readouterr()
    assert captured.out == '{\n "name": "\\u00e9\\udcff"\n}\n'
    assert "unreadable" in captured.err
    assert "a library that chats" in captured.err


def test_a_result_that_is_not_a_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        answer({"loss": float("nan")}, "text", json=True)
    assert capsys.readouterr().out == ""


TEST = {"accuracy": 0.98148, "interval": [0.957, 0.9921], "macro_f1": 0.98, "images": 270, "looks": 2}


def test_the_result_of_fit() -> None:
    summary = {
        "run": "runs/my run",
        "chosen": "convnet",
        "validation": {"accuracy": 0.985},
        "test": {**TEST, "calibration_error": 0.01},
        "baselines": [{"name": "linear", "validation_accuracy": 0.95}],
        "warnings": ["one file was left out"],
        "seconds": 39.96,
        "budget_seconds": 40.0,
    }
    assert result_text(summary).splitlines() == [
        "Test       accuracy 98.1 % (95 % interval 95.7 to 99.2 %, 270 images), look 2 at this test part",
        "Chosen     convnet, validation accuracy 98.5 %",
        "Beside it  linear 95.0 % on validation",
        "Warning    one file was left out",
        "Took       40.0 s of 40.0 s",
        "Report     runs/my run/report.html",
        "Model      runs/my run/model",
        "Predict    saccade predict 'runs/my run' PATH…",
    ]


def test_the_result_of_train_leaves_the_test_part_sealed() -> None:
    summary = {"run": "r", "chosen": "mlp", "validation": {"accuracy": 0.5}, "seconds": 3.0, "warnings": list("abcde"),
               "split": {"validation": 40}, "classes": ["a", "b"]}  # fmt: skip
    assert result_text(summary).splitlines()[:7] == [
        "Test     sealed until `saccade evaluate r`",
        "Chosen   mlp, validation accuracy 50.0 %",
        "Warning  a",
        "Warning  b",
        "Warning  c",
        "Warning  and 2 more, all in the report",
        "Took     3.0 s",
    ]


def test_the_result_of_evaluate() -> None:
    assert evaluation_text({**TEST, "calibration_error": 0.0123}).splitlines() == [
        "Test         accuracy 98.1 % (95 % interval 95.7 to 99.2 %, 270 images), look 2 at this test part",
        "Macro F1     0.980",
        "Calibration  error 0.012",
    ]
