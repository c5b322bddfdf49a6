"""`saccade search`: trials shared by processes, storage that goes away, what is chosen, what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import optuna
import psutil
import pytest
import torch
from optuna.storages import RDBStorage

from saccade import study
from saccade.cli.search import text
from saccade.data import Parts
from saccade.data.batches import ArrayImages, StoredImages
from saccade.errors import InputError, SettingError, StorageError, TrainingError
from saccade.events import Event, Finding, StageEnded, listening
from saccade.files import read_lines
from saccade.recipe.finalists import conclude, finalists
from saccade.recipe.search import Bench, Work, search
from saccade.report.search import render_search
from saccade.settings import SearchSettings, TrainSettings
from saccade.study import board
from saccade.study.board import Row
from saccade.study.space import Choice, Range
from saccade.study.symmetry import SymmetryResult
from saccade.train.session import Session
from tests.conftest import Saccade

SMALL: dict[str, Any] = {"model": "mlp", "width": 0.1, "size": 8, "epochs": 0.5, "device": "cpu"}
SPACE = {"learning_rate": Range(1e-4, 1e-1, log=True)}


def test_a_search_leaves_trials_a_page_and_settings_to_train_with(tmp_path: Path) -> None:
    settings = SearchSettings(**SMALL, trials=6, repeats=2, sampler="sobol")
    told = search("digits", settings, space=SPACE, out=tmp_path / "a")
    rows = read_lines(tmp_path / "a" / "trials.jsonl")
    assert [row["stage"] for row in rows] == ["coarse"] * 4 + ["refined"] * 2 + ["final"] * 6
    assert [row["trial"] for row in rows] == list(range(12))
    assert all(row["state"] in ("done", "stopped") for row in rows)
    assert rows[4]["settings"] == max(rows[:4], key=lambda row: row.get("accuracy", 0.0))["settings"]
    assert {row["seed"] for row in rows[6:]} == {1, 2}, "finalists have seeds that chose nothing"
    best = TrainSettings.load(tmp_path / "a" / "settings.yaml")
    assert best.model == "mlp"
    assert best.epochs == 0.5
    assert best.learning_rate == told["best"]["settings"].get("learning_rate")
    page = (tmp_path / "a" / "search.html").read_text()
    assert page.count("<svg class") == 1, "one quantity has no plane"
    assert "<script" not in page

    again = search("digits", settings, space=SPACE, out=tmp_path / "a")
    assert again["trials"] == told["trials"], "nothing was left to do"
    other = search("digits", settings, space=SPACE, out=tmp_path / "b")
    timeless = {"seconds", "worker"}
    pairs = zip(told["trials"], other["trials"], strict=True)
    assert all({k: a[k] for k in a.keys() - timeless} == {k: b[k] for k in b.keys() - timeless} for a, b in pairs)


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_no_stage_is_worse_than_the_one_before_where_trials_are_as_long(
    sampler: Literal["random", "sobol"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["saccade.recipe.search"], "SHORTER", 1.0)
    settings = SearchSettings(**SMALL, trials=7, repeats=0, stop="none", sampler=sampler)
    told = search("digits", settings, space=SPACE, out=tmp_path / "a")
    reached = {stage: [row["accuracy"] for row in told["trials"] if row["stage"] == stage]
               for stage in ("coarse", "refined")}  # fmt: skip
    assert [len(each) for each in reached.values()] == [5, 2]
    assert reached["refined"][0] == max(reached["coarse"]), "the best coarse trial is repeated first, to the bit"
    assert told["best"]["mean"] == max(reached["refined"]) >= max(reached["coarse"])


def test_the_test_part_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_STATE", str(tmp_path / "state"))
    search("digits", SearchSettings(**SMALL, trials=2, repeats=0), space=SPACE, out=tmp_path / "a")
    assert not list((tmp_path / "state").rglob("*ledger*")), "no look was counted"


def _worker(out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "saccade", "search", "digits", "--model", "mlp", "--width", "0.2", "--size", "8"]
    command += ["--trials", "6", "--repeats", "1", "--epochs", "20", "--stop", "none", "--space", "cutout=0:0.5"]
    return subprocess.Popen([*command, "--json", "--out", str(out), *arguments], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def _running(out: Path) -> dict[int, int]:
    """Return the trials that run, by the process that does."""
    if not (out / "trials.db").exists():
        return {}
    with board._alone(url := f"sqlite:///{out / 'trials.db'}"):
        storage = optuna.storages.RDBStorage(url)
    studies = storage.get_all_studies()
    trials = storage.get_all_trials(studies[0]._study_id) if studies else []
    running = [trial for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]
    return {trial.user_attrs["owner"]["pid"]: trial.number for trial in running if "owner" in trial.user_attrs}


def test_three_workers_share_a_search_and_one_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "shared"
    workers = [_worker(out) for _ in range(3)]
    victim, abandoned = workers[0], None
    end = time.monotonic() + 100
    while abandoned is None and time.monotonic() < end:
        abandoned = _running(out).get(victim.pid)
        if abandoned is not None:
            os.kill(victim.pid, signal.SIGKILL)
        time.sleep(0.05)
    assert abandoned is not None, "the victim never took a trial"
    told = []
    for worker in workers[1:]:
        output, error = worker.communicate(timeout=150)
        assert worker.returncode == 0, error
        told.append(json.loads(output))
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    rows = read_lines(out / "trials.jsonl")
    assert [row["trial"] for row in rows] == list(range(9))
    ended = [row for row in rows if row.get("stopped") != "there was no other finalist"]
    assert all(row["state"] == "done" for row in ended)
    assert [row["attempts"] for row in ended] == [2 if row["trial"] == abandoned else 1 for row in ended]
    assert not rows[abandoned]["worker"].endswith(f":{victim.pid}")
    assert told[0]["trials"] == told[1]["trials"] == rows


def _small_board(tmp_path: Path, count: int = 2) -> board.Board:
    jobs = [{"stage": "coarse", "order": k, "seed": 0, "epochs": 1, "settings": {"learning_rate": 0.01}}
            for k in range(count)]  # fmt: skip
    return board.Board.open(f"sqlite:///{tmp_path / 'x.db'}", "s", SPACE, {"trials": count}, jobs)


def test_a_storage_that_comes_back_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "WAITS", (0.1, 0.2, 0.4, 0.8, 1.6, 3.2))
    trials = _small_board(tmp_path)
    first = trials.claim()
    assert first is not None
    (tmp_path / "x.db").rename(tmp_path / "away.db")

    def bring_back() -> None:
        time.sleep(0.3)
        (tmp_path / "away.db").replace(tmp_path / "x.db")

    thread = Thread(target=bring_back)
    seen: list[Event] = []
    thread.start()
    with listening(seen.append):
        trials.finish(first.number, {"accuracy": 0.5}, stopped=False)
    thread.join()
    assert any(isinstance(event, Finding) and "does not answer" in event.detail for event in seen)
    assert [row.state for row in trials.rows()] == ["done", "waiting"]


def test_a_storage_that_stays_away_ends_the_search_with_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "WAITS", (0.01, 0.02))
    url = f"sqlite:///{tmp_path / 'far.db'}"
    monkeypatch.setattr(board.Board, "finish", _goes_away_at(2, tmp_path / "far.db", board.Board.finish))
    settings = SearchSettings(**SMALL, trials=6, repeats=1, stop="none", storage=url)
    with pytest.raises(StorageError, match=r"does not answer any more \(.*\); what was done is kept"):
        search("digits", settings, space=SPACE, out=tmp_path / "a")
    rows = read_lines(tmp_path / "a" / "trials.jsonl")
    assert [row["state"] for row in rows[:2]] == ["done", "done"]
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["complete"] is False
    assert "did not come to its end" in (tmp_path / "a" / "search.html").read_text()
    assert TrainSettings.load(tmp_path / "a" / "settings.yaml").learning_rate in [
        row["settings"]["learning_rate"] for row in rows[:2]
    ]


def _goes_away_at(count: int, file: Path, finish: Any) -> Any:
    calls = []

    def finishing(self: board.Board, number: int, result: Mapping[str, Any], *, stopped: bool) -> None:
        calls.append(number)
        if len(calls) == count:
            file.unlink()
        finish(self, number, result, stopped=stopped)

    return finishing


def test_a_trial_that_workers_die_at_is_given_up(tmp_path: Path) -> None:
    trials = _small_board(tmp_path, count=1)
    trials._me = {**trials._me, "born": 0.0}  # a process of this number, but long gone
    for _ in range(board.ATTEMPTS):
        assert trials.claim() is not None
    assert trials.claim() is None
    [row] = trials.rows()
    assert row.state == "stopped"
    assert row.result["stopped"] == "3 workers died at it"


def test_a_trial_put_back_is_taken_again(tmp_path: Path) -> None:
    trials = _small_board(tmp_path)
    first = trials.claim()
    assert first is not None
    trials.release(first.number)
    again = trials.claim()
    assert again is not None
    assert again.number == first.number


def test_a_trial_that_ends_workers_by_an_error_is_given_up_and_one_that_is_interrupted_never(tmp_path: Path) -> None:
    trials = _small_board(tmp_path)
    for error in [None] * 2 * board.ATTEMPTS + [ValueError("no room")] * board.ATTEMPTS:
        row = trials.claim()
        assert row is not None
        assert row.number == 0
        trials.release(row.number, error=error)
    assert [row.state for row in trials.rows()] == ["stopped", "waiting"]
    assert trials.rows()[0].result["stopped"] == "3 workers died at it; one said: no room"


def test_workers_on_one_machine_share_its_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = _small_board(tmp_path)
        theirs._me = {**theirs._me, "pid": other.pid, "born": psutil.Process(other.pid).create_time()}
        mine = _small_board(tmp_path)
        assert None not in (theirs.claim(), mine.claim())
        bench = Bench.open("digits", TrainSettings(**SMALL))
        given, told = (
            Work(bench, mine, SearchSettings(threads=threads), SPACE, tmp_path, threads=4) for threads in (None, 4)
        )
        with given._shared_threads():
            assert torch.get_num_threads() == 2
        with told._shared_threads():
            assert torch.get_num_threads() == 4, "asked for"
        other.kill()
    with given._shared_threads():
        assert torch.get_num_threads() == 4, "alone again"
    torch.set_num_threads(before)


def test_a_process_takes_up_what_bears_its_name_and_it_no_longer_holds(tmp_path: Path) -> None:
    first, again = (_small_board(tmp_path).claim() for _ in range(2))
    assert first is not None
    assert again is not None
    assert (again.number, again.attempts) == (first.number, 1)


def test_a_worker_waits_as_long_as_another_pins_up_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "BEGINNING", 2.0)
    create = RDBStorage.create_new_trial

    def slowly(self: RDBStorage, *given: Any) -> int:
        time.sleep(0.3)
        return create(self, *given)

    monkeypatch.setattr(RDBStorage, "create_new_trial", slowly)
    boards: list[board.Board] = []
    first = Thread(target=lambda: boards.append(_small_board(tmp_path, count=10)))
    first.start()
    time.sleep(0.2)
    boards.append(_small_board(tmp_path, count=10))
    first.join()
    assert [len(each.rows()) for each in boards] == [10, 10]


def test_random_crops_are_made_in_trials(tmp_path: Path) -> None:
    bench = Bench.open("digits", TrainSettings(**SMALL, batch_size=64))
    assert isinstance(bench.session({}, 0).images, ArrayImages)
    images = bench.session({"random_crops": 0.3}, 0).images
    assert isinstance(images, StoredImages)
    assert images.crops is not None


def test_of_two_trials_that_came_as_far_the_worse_is_stopped(tmp_path: Path) -> None:
    settings = SearchSettings(**SMALL, trials=4, repeats=0, stop="halving")
    told = search("digits", settings, space={"learning_rate": Choice((0.02, 1e-9))}, out=tmp_path / "a")
    coarse = [row for row in told["trials"] if row["stage"] == "coarse"]
    by_rate = {row["settings"]["learning_rate"]: row for row in coarse}
    assert by_rate[0.02]["state"] == "done"
    assert by_rate[1e-9]["state"] == "stopped"
    assert re.fullmatch(r"it was among the worse half at \d+ % of its way", by_rate[1e-9]["stopped"])


def test_a_space_with_few_settings_is_tried_once_over_and_that_is_told(tmp_path: Path) -> None:
    settings = SearchSettings(**SMALL, trials=9, repeats=0, stop="none")
    told = search("digits", settings, space={"optimizer": Choice(("adam", "sgd"))}, out=tmp_path / "a")
    tried = [(row["stage"], row["settings"]["optimizer"]) for row in told["trials"] if row["settings"]]
    assert sorted(tried) == [(stage, name) for stage in ("coarse", "refined") for name in ("adam", "sgd")]
    assert "9 were asked for, but no other settings are left to try" in text(told)
    assert "of images of" not in text(told), "the size was given"
    assert "the trials were of images of 64 px: --size 64 trains on such ones" in text({**told, "side": 64})


def test_trials_are_counted_among_those_that_there_are_settings_for(tmp_path: Path) -> None:
    heard = list[Event]()
    with listening(heard.append):
        settings = SearchSettings(**SMALL, trials=3, repeats=2, stop="none")
        search("digits", settings, space={"optimizer": Choice(("sgd",))}, out=tmp_path / "a")
    ended = [event for event in heard if isinstance(event, StageEnded) and event.stage not in ("open", "mirror")]
    assert [event.stage for event in ended] == ["coarse 1/1", "refined 1/1", *(f"final {k}/4" for k in range(1, 5))]
    assert ended[0].outcome.endswith(" (optimizer=sgd)")
    assert ended[2].outcome.endswith(" (defaults)")


def test_a_trial_of_the_defaults_is_no_finalist_beside_them(tmp_path: Path) -> None:
    settings = SearchSettings(**SMALL, trials=3, repeats=1, stop="none")
    told = search("digits", settings, space={"activation": Choice(("relu", "tanh"))}, out=tmp_path / "a")
    assert [each["settings"] for each in told["finalists"]] == [{}, {"activation": "tanh"}]
    alone = SearchSettings(**SMALL, trials=2, repeats=0, stop="none")
    told = search("digits", alone, space={"activation": Choice(("relu",))}, out=tmp_path / "b")
    assert told["best"]["settings"] == {"activation": "relu"}


def test_a_grid_with_one_value_of_a_quantity_says_so(tmp_path: Path) -> None:
    heard = list[Event]()
    settings = SearchSettings(**SMALL, trials=3, repeats=0, stop="none", sampler="grid")
    with listening(heard.append):
        search("digits", settings, space={"norm": Choice(("batch", "none")), **SPACE}, out=tmp_path / "a")
    [told] = [event.detail for event in heard if isinstance(event, Finding) and event.kind == "grid"]
    assert told == (
        "A grid of 2 coarse trials has one value alone of learning_rate: give more trials, or another sampler, to vary "
        "it."
    )


def test_the_page_judges_as_the_command_does(tmp_path: Path) -> None:
    settings = SearchSettings(**SMALL, trials=2, repeats=1, stop="none")
    told = search("digits", settings, space=SPACE, out=tmp_path / "a")
    best = {"settings": {"learning_rate": 0.01}, "accuracies": {"1": 0.5}, "mean": 0.5, "sd": None, "stopped": 0}
    for better, words in (
        (None, "too few whole repeats to tell whether that is better than the defaults"),
        (False, "other settings were better by no more than chance: the defaults stay"),
        (True, ""),
    ):
        changed = {**told, "best": best, "better": better}
        page = render_search(changed)
        assert words in text(changed)
        assert f"<p>{words[:1].upper()}{words[1:]}.</p>" in page if words else "by no more than chance" not in page
        assert "standard deviation" not in page, "there is none of one repeat"
    assert "Validation 50.0 % over 1 fresh seed\n" in text(changed)
    stopped = {**told["trials"][0], "state": "stopped", "stopped": "it exploded"}
    for name in ("accuracy", "loss"):
        stopped.pop(name, None)
    assert '<td class="n">–</td><td class="n">–</td>' in render_search({**told, "trials": [stopped]})


def test_a_study_of_another_plan_is_refused(tmp_path: Path) -> None:
    _small_board(tmp_path, count=2)
    with pytest.raises(SettingError, match=r'The study "s" in .* has trials 2, and 3 was given'):
        _small_board(tmp_path, count=3)


def test_a_study_never_begun_in_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    optuna.storages.RDBStorage(url).create_new_study([optuna.study.StudyDirection.MAXIMIZE], "s")
    monkeypatch.setattr(board, "BEGINNING", 0.1)
    with pytest.raises(SettingError, match="was never begun in full"):
        _small_board(tmp_path)


def test_a_storage_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/no/such/folder/x.db", "nonsense", "nosuch://host/x"):
        with pytest.raises(SettingError, match=r'The storage ".*" cannot be opened'):
            search("digits", SearchSettings(**SMALL, trials=2, storage=url), space=SPACE, out=tmp_path / "a")
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgres://me:secret@host/x", r'"postgres://me:\*\*\*@host/x" .*\. Did you mean "postgresql"\?'),
        ("postgresql+psycpg://host/x", r'Did you mean "postgresql\+psycopg"\?'),
        (
            "postgresql://me:sec@ret@host:port/x",
            r":\*\*\*@host:port/x\" .* give a URL such as .* or postgresql://host/name\.$",
        ),
        ("trials.db", r"give a URL such as sqlite:///trials.db or postgresql://host/name\.$"),
        ("sqlite://trials.db", r"a file has three slashes before it"),
    ],
)
def test_a_url_that_is_none_is_told_in_plain_words(
    url: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=told) as caught:
        board.Board.open(url, "s", SPACE, {}, [])
    assert "SQLAlchemy" not in str(caught.value)
    assert "ret@" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingError, match=r':\*\*\*@host/x" cannot be opened: .* pip install "saccade\[postgres\]"'):
        board.Board.open("postgresql+psycopg://me:secret@host/x", "s", SPACE, {}, [])


def test_trials_of_which_none_can_be_end_with_the_reason(tmp_path: Path) -> None:
    settings = SearchSettings(**SMALL, trials=3, repeats=0)
    with pytest.raises(TrainingError, match=r"None of the 3 trials came to an end.*muon updates convolutions"):
        search("digits", settings, space={"optimizer": Choice(("muon",))}, out=tmp_path / "a")


def _row(number: int, stage: str, seed: int, accuracy: float, **settings: float) -> Row:
    job = {"stage": stage, "seed": seed, "settings": settings}
    return Row(number, job, "done", {"accuracy": accuracy, "loss": 1 - accuracy})


def test_luck_is_not_mistaken_for_merit() -> None:
    tried = [_row(k, "coarse", 0, 0.6 + 0.01 * k, learning_rate=0.01 * (k + 1)) for k in range(5)]
    tried += [_row(5, "refined", 0, 0.9, learning_rate=0.05), _row(6, "refined", 0, 0.95, learning_rate=0.06)]
    assert finalists(tried) == [{}, {"learning_rate": 0.06}, {"learning_rate": 0.05}]
    others = finalists(tried, {"learning_rate": 0.06, "norm": "batch"})
    assert others == [{}, {"learning_rate": 0.05}, {"learning_rate": 0.04}], "0.06 is what nothing given is"

    def repeated(default: list[float], best: list[float], second: list[float]) -> dict[str, Any]:
        kinds: list[tuple[list[float], dict[str, float]]] = [
            (default, {}), (best, {"learning_rate": 0.06}), (second, {"learning_rate": 0.05})
        ]  # fmt: skip
        rows = [
            _row(7, "final", seed, value, **given) for values, given in kinds for seed, value in enumerate(values, 1)
        ]
        return conclude([*tried, *rows], SearchSettings(), SPACE)

    lucky = repeated([0.80, 0.90, 0.85], [0.90, 0.80, 0.86], [0.70, 0.70, 0.70])
    assert lucky["best"]["settings"] == {}, "a lead of 0.3 points with a standard error of 5.8"
    assert lucky["better"] is False
    clear = repeated([0.80, 0.82, 0.81], [0.86, 0.87, 0.88], [0.90, 0.91, 0.92])
    assert clear["best"]["settings"] == {"learning_rate": 0.05}, "the best trial was not the best on fresh seeds"
    assert clear["better"] is True
    assert clear["best"]["mean"] == pytest.approx(0.91)


def test_settings_that_are_stopped_with_a_seed_are_no_winner() -> None:
    found = _row(0, "refined", 0, 0.9, learning_rate=0.06)
    steady = [_row(k, "final", k, 0.8) for k in (1, 2, 3)]
    lucky = [_row(3 + k, "final", k, 0.95, learning_rate=0.06) for k in (1, 2)]
    broken = replace(_row(6, "final", 3, 0.0, learning_rate=0.06), state="stopped", result={"stopped": "it exploded"})
    told = conclude([found, *steady, *lucky, broken], SearchSettings(), SPACE)
    assert told["best"]["settings"] == {}
    assert [each["stopped"] for each in told["finalists"]] == [0, 1]
    whole = conclude([found, *steady, *lucky, replace(broken, state="done", result=lucky[0].result)],
                     SearchSettings(), SPACE)  # fmt: skip
    assert whole["best"]["settings"] == {"learning_rate": 0.06}
    assert whole["better"] is True
    one = conclude([found, steady[0], lucky[0]], SearchSettings(repeats=1), SPACE)
    assert (one["best"]["settings"], one["better"]) == ({"learning_rate": 0.06}, None)
    end = {"complete": True, "asked": 1, "side": None, "folder": "a", "source": "digits"}
    assert "too few whole repeats to tell whether that is better than the defaults" in text({**one, **end})
    assert "stopped with 1 of 3 seeds" in text({**told, **end})
    go_on = text({**one, **end, "source": "my photos", "folder": "my runs/a"}).splitlines()[-1]
    assert go_on == "Go on      saccade train 'my photos' --config 'my runs/a/settings.yaml'"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--space", "learning_rate=1e-1:1e-4:log"], "is empty: its first number must be less"),
        (["--epochs", "3", "--budget", "2m"], "exclude each other"),
        (["--storage", "foo://x"], 'The storage "foo://x" cannot be opened: give a URL such as'),
    ],
)
def test_wrong_use_is_one_sentence(saccade: Saccade, tmp_path: Path, arguments: list[str], said: str) -> None:
    ended = saccade("search", "digits", *arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [(["--views"], "leave views and test_views out"), (["--patience", "2"], "leave patience and snapshots out")],
)
def test_what_is_taken_from_no_file_is_refused_as_an_option(
    saccade: Saccade, tmp_path: Path, given: list[str], said: str
) -> None:
    (tmp_path / "run.yaml").write_text(TrainSettings(budget=5.0, views=True).to_yaml())
    ended = saccade("search", "digits", "--config", tmp_path / "run.yaml", *given, cwd=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr


def test_what_an_option_gives_is_searched_over_no_more_though_it_be_the_default(
    saccade: Saccade, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(TrainSettings(**SMALL).to_yaml())
    options = ("--config", "run.yaml", "--trials", "2", "--repeats", "0", "--stop", "none", "--cutout", "0", "--json")
    done = saccade("search", "digits", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tried = [trial["settings"].keys() for trial in json.loads(done.stdout)["trials"]]
    assert tried[0] == {"learning_rate", "translate"}, "a whole file of settings fixes no augmentation by its default"


def test_what_settings_give_is_searched_over_no_more(tmp_path: Path) -> None:
    chosen = SearchSettings(**SMALL, trials=2, repeats=0, stop="none", cutout=0.0, translate=0.0625)
    told = search("digits", chosen, out=tmp_path / "a")
    assert {*told["trials"][0]["settings"]} == {"learning_rate"}


@pytest.mark.parametrize(("flip", "measured"), [(None, [True]), (False, [])])
def test_whether_to_mirror_is_measured_once_and_written(
    flip: bool | None, measured: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def symmetric(_: Parts) -> SymmetryResult:
        asked.append(True)
        return SymmetryResult(True, "yes", 0.9, 0.9, 100, "all are right: mirroring keeps their class")

    monkeypatch.setattr(study, "mirror_symmetric", symmetric)
    ran: list[bool | None] = []
    start = Session.start

    def recorded(settings: TrainSettings, *args: Any, **kwargs: Any) -> Session:
        ran.append(settings.flip)
        return start(settings, *args, **kwargs)

    monkeypatch.setattr(Session, "start", recorded)
    search("digits", SearchSettings(**SMALL, trials=2, repeats=0, flip=flip), space=SPACE, out=tmp_path / "a")
    assert asked == measured
    expected = flip is None
    assert set(ran) == {expected}
    assert TrainSettings.load(tmp_path / "a" / "settings.yaml").flip is expected


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="already exists"):
        search("digits", SearchSettings(**SMALL, trials=2), out=tmp_path / "a")
