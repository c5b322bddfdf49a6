"""The floor everything stands on: errors, events, files, device, a run's folder, the ledger."""

import csv
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch

from saccade import data, events, files, recipe
from saccade.device import computing_on, cores, derived_seed, generator, machine, resolve_device, resolve_precision
from saccade.errors import (
    DecodeError,
    DeviceError,
    InputError,
    ModelError,
    RunError,
    SaccadeError,
    SettingError,
    SourceError,
    TrainingError,
    did_you_mean,
)
from saccade.ledger import Ledger, part_hash
from saccade.nn import pretrained
from saccade.recipe.checking import check
from saccade.recipe.curvature import measure_curvature
from saccade.recipe.search import search
from saccade.run import Run, refuse_place
from saccade.settings import SearchSettings, TrainSettings


@pytest.fixture
def read_only() -> Iterator[Path]:
    """Return a folder nobody may write to, not even root, who is someone else for the while."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


# errors


def test_what_the_user_gave_ends_with_2_and_failed_work_with_1() -> None:
    assert (SaccadeError.exit_status, TrainingError.exit_status) == (1, 1)
    assert {kind.exit_status for kind in (InputError, DecodeError, SettingError, RunError)} == {2}
    assert issubclass(InputError, ValueError)


def test_only_near_words_are_suggested() -> None:
    assert did_you_mean("learning-rate", TrainSettings.model_fields) == ' Did you mean "learning_rate"?'
    assert did_you_mean("xyz", TrainSettings.model_fields) == ""
    assert did_you_mean("", []) == ""


# events


def test_listeners_hear_in_order_while_they_listen() -> None:
    outer: list[events.Event] = []
    inner: list[events.Event] = []
    first, second = (events.Finding(kind="note", detail=text) for text in "ab")
    with events.listening(outer.append):
        with events.listening(inner.append):
            events.emit(first)
        events.emit(second)
    events.emit(second)
    assert (outer, inner) == ([first, second], [first])


def test_a_stage_is_timed_and_told() -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append), events.stage("train") as record:
        sleep(0.02)
        record.outcome, record.validation_accuracy = "10 steps", 0.5
    started, ended = heard
    assert started == events.StageStarted(stage="train")
    assert isinstance(ended, events.StageEnded)
    assert (ended.stage, ended.outcome, ended.validation_accuracy) == ("train", "10 steps", 0.5)
    assert 0.02 <= ended.seconds == record.seconds < 2


def test_a_stage_that_fails_never_ended() -> None:
    heard: list[events.Event] = []
    with pytest.raises(KeyError), events.listening(heard.append), events.stage("train"):
        raise KeyError
    assert heard == [events.StageStarted(stage="train")]


# files


class Unwritable:
    """Something JSON has no words for."""


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": Unwritable()})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            files.write_json(path, value)
    taken = tmp_path / "folder"
    (taken / "within").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):  # the bytes are on disk, the last move is what fails
        files.write_atomic(taken, "text")
    assert files.read_json(path) == {"a": 1}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "value.json"]


def test_a_written_file_may_be_read_by_those_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        files.write_atomic(tmp_path / "file", b"\x00")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


NAMES = ["Füße.jpg", "bad \udcff.jpg", "line\u2028separator\x85.jpg", "two\nlines.jpg"]


def test_any_name_survives_json_and_csv(tmp_path: Path) -> None:
    files.write_json(tmp_path / "names.json", NAMES)
    assert files.read_json(tmp_path / "names.json") == NAMES
    for name in NAMES:
        files.append_lines(tmp_path / "names.jsonl", [{"name": name}])
    assert [line["name"] for line in files.read_lines(tmp_path / "names.jsonl")] == NAMES
    files.write_csv(tmp_path / "names.csv", ["name", "n"], [[name, 1] for name in NAMES])
    assert [row["name"] for row in files.read_csv(tmp_path / "names.csv", ["name", "n"])] == NAMES
    content = (tmp_path / "names.csv").read_bytes().decode("utf-8", "surrogateescape")
    assert content == "name,n\r\n" + "".join(f'"{n}",1\r\n' if "\n" in n else f"{n},1\r\n" for n in NAMES)
    assert "Füße" in (tmp_path / "names.jsonl").read_bytes().decode(), "readable where it is text"


def test_no_cell_of_a_table_is_a_formula_and_each_comes_back(tmp_path: Path) -> None:
    names, path = ["=cmd()", "+1", "-2", "@SUM(A1)", "\t=cmd()", "'=cmd()", "'twas"], tmp_path / "table.csv"
    files.write_csv(path, ["name", "n"], [[name, -1] for name in names])
    with path.open(newline="") as file:
        cells = [row["name"] for row in csv.DictReader(file)]
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
    assert files.read_csv(path, ["name", "n"]) == [{"name": name, "n": "-1"} for name in names]
    for damaged in ("", "name,n\r\n", "name\r\na\r\n", "name,n\r\na\r\n", "name,n\r\na,1,2\r\n"):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"has other columns than name, n, or no rows"):
            files.read_csv(path, ["name", "n"])


def test_lines_cut_short_anywhere_cost_one_value_only(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert files.read_lines(path) == []
    values = [{"n": 1}, {"größe": 2}]
    files.append_lines(path, values)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = files.read_lines(path)
        assert kept == values[: len(kept)]
        assert len(kept) >= whole[:length].count(b"\n")
        files.append_lines(path, [{"n": 3}])
        assert files.read_lines(path) == [*kept, {"n": 3}]


def test_content_hash_is_sha256_halved() -> None:
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.content_hash(b"a", memoryview(b"bc")) == known[:32]


# device


def test_a_gpu_that_is_there_and_fails_is_told(break_gpu: Callable[[], None]) -> None:
    break_gpu()
    with pytest.raises(DeviceError, match=r'^The device "cuda" .* cannot be used \(.+\); give --device cpu\.$'):
        resolve_device()
    with computing_on("cpu"):
        assert resolve_device() == torch.device("cpu")
    with pytest.raises(DeviceError, match=r'^Device "tpu9" is not available'), computing_on("tpu9"):
        pass


def test_devices_and_precisions() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in {"cpu", "cuda"}
    for name in ("cuda:99", "gpu", "mps:7"):
        with pytest.raises(SettingError) as caught:
            resolve_device(name)
        assert str(caught.value) == (
            f'Device "{name}" is not available on this machine; give auto, cpu, cuda, cuda:N or mps.'
        )
    for name in ("cpu", "meta"):
        with computing_on(name):
            assert resolve_device("auto") == torch.device(name)
            with computing_on("auto"):
                assert resolve_device() == torch.device(name)
    assert resolve_device("auto").type in {"cpu", "cuda"}
    cpu = torch.device("cpu")
    assert resolve_precision("float32", cpu) is torch.float32
    assert resolve_precision("bfloat16", cpu) is torch.bfloat16
    assert resolve_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert resolve_precision("auto", torch.device("mps")) is torch.float32


KEPT = """
import resource, psutil, torch
from saccade.device import release_memory, resolve_device

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(25 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
resolve_device("cpu")
again, held = min(faults() for _ in range(20)), psutil.Process().memory_info().rss
release_memory()
print(again, (held - psutil.Process().memory_info().rss) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
@pytest.mark.parametrize("told", [{}, {"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}])
def test_a_cpu_keeps_its_memory_until_it_is_released(told: dict[str, str]) -> None:
    """100 MB are 25,600 pages of 4 kB, or 1,600 of 64."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, env={**own, **told})
    assert done.returncode == 0, done.stderr
    faults, released = map(int, done.stdout.split())
    if told:  # whoever sets the C library's own variables decides
        assert faults > 1000
        assert released < 50
    else:
        assert faults < 100
        assert released > 90


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_releasing_memory_has_none_kept() -> None:
    """So that a run on a GPU, which keeps none, goes on as it was."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    script = KEPT.replace('resolve_device("cpu")', "release_memory()")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 1000


def test_no_two_purposes_share_a_stream() -> None:
    seeds = [derived_seed(seed, *purpose) for seed in (0, 1) for purpose in [(), ("a",), ("a", 1), ("a1",), ("b", 1)]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) >= 2**62
    draw = torch.rand(3, generator=generator(0, "x"))
    assert torch.equal(draw, torch.rand(3, generator=torch.Generator().manual_seed(derived_seed(0, "x"))))


def test_the_machine_in_words() -> None:
    described = machine()
    assert described["torch"] == torch.__version__.split("+")[0]
    assert described["cores"] == cores() >= 1
    assert described["instructions"].startswith(torch.backends.cpu.get_cpu_capability())
    json.dumps(described)


# run


def test_a_runs_folder_is_made_written_and_opened(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "new" / "run", "photos")
    assert run.model.is_dir()
    assert run.pictures.is_dir()
    files.write_atomic(run.settings, (settings := TrainSettings(epochs=2)).to_yaml())
    assert TrainSettings.load(run.settings) == settings
    run.write("plan", {"decisions": []})
    assert run.read("plan") == {"decisions": []}
    assert run.history() == []
    run.add_history({"step": 1}, {"step": 2})
    run.add_history({"step": 3})
    assert [line["step"] for line in run.history()] == [1, 2, 3]
    (run.model / "model.json").write_text("{}")
    assert Run.open(run.path) == run


def test_a_run_is_named_by_time_and_source_and_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [Run.create(None, source).path for source in ("/a/My photos!/", "/a/My photos!", "..", "x" * 255)]
    assert len(set(made)) == 4
    assert made[0].parent == Path("runs")
    assert [path.name[16:].split("-2")[0] for path in made] == ["My-photos", "My-photos", "images", "x" * 50]


def test_folders_a_run_cannot_have(tmp_path: Path) -> None:
    taken, file = tmp_path / "taken", tmp_path / "file"
    Run.create(taken, "x")
    file.write_text("")
    for out in (taken, file):
        with pytest.raises(RunError) as caught:
            Run.create(out, "x")
        assert str(caught.value) == f"The output folder {out} already exists; give --out another name, or remove it."
    with pytest.raises(RunError) as caught:
        Run.create(file / "below" / "run", "x")
    assert str(caught.value) == (
        f"The output folder {file / 'below' / 'run'} cannot be made: {file} is not a folder that can be written to."
    )
    with pytest.raises(RunError, match=r"The output folder .*nnn cannot be made: File name too long\."):
        Run.create(tmp_path / ("n" * 300), "x")
    with pytest.raises(RunError, match=r"The output folder .* cannot be made: File name too long\."):
        Run.create(tmp_path / "new" / ("n" * 300), "x")
    (empty := tmp_path / "empty").mkdir()
    assert Run.create(empty, "x").path == empty


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(read_only: Path) -> None:
    with pytest.raises(RunError) as caught:
        refuse_place("digits", read_only / "a" / "b")
    assert str(caught.value) == (
        f"The output folder {read_only / 'a' / 'b'} cannot be made: {read_only} is not a folder that can be written to."
    )


def left(folder: Path, *files: str) -> Path:
    """Return a folder with these files, each empty."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("a run", ["split.csv", "settings.yaml"]),
        ("a comparison of several trainings", ["comparison.json", "comparison.html"]),
        ("a search", ["trials.jsonl", "search.html", "settings.yaml"]),
        ("a check before training", ["checks.json", "report.html", "split.csv", "settings.yaml"]),
        ("a measurement of curvature", ["curvature.json", "curvature.html"]),
        ("a sheet of augmentations", ["augment.json", "augment.html"]),
    ],
)
def test_what_saccade_left_is_no_source(tmp_path: Path, kind: str, files: list[str]) -> None:
    folder = left(tmp_path / "left", *files, "pictures/a.png")
    with pytest.raises(SourceError) as caught:
        data.open(folder)
    assert str(caught.value) == (
        f"{folder} is the folder of {kind}, as saccade left it, and no source of images; give the images that it was "
        "made from."
    )
    for file in files:
        (folder / file).unlink()
    assert len(data.open(folder)) == 1


def test_what_is_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        Run.open(tmp_path / "none")
    assert str(caught.value) == (
        f"There is no run at {tmp_path / 'none'}; give the folder that `saccade fit` or `saccade train` wrote."
    )
    run = Run.create(tmp_path / "run", "x")
    with pytest.raises(RunError) as caught:
        Run.open(run.path)
    assert str(caught.value) == (
        f"{run.path} holds no saved model: the run did not finish, or this is not a run's folder."
    )
    with pytest.raises(RunError) as caught:
        Run.open(left(tmp_path / "search", "trials.jsonl", "search.html"))
    assert str(caught.value) == (
        f"{tmp_path / 'search'} is a search, not a run; give the folder that `saccade fit` or `saccade train` wrote."
    )
    inside = [f"fold-{number}-2/model/model.json" for number in (1, 2)]
    each = left(tmp_path / "each", "comparison.json", "comparison.html", *inside)
    told = f"{each} is a comparison of several trainings, not a run; give one of the runs in it: fold-1-2, fold-2-2."
    with pytest.raises(RunError) as caught:
        Run.open(each)
    assert str(caught.value) == told
    with pytest.raises(ModelError) as unusable:
        pretrained.find(f"run/{each}")
    assert str(unusable.value) == told
    (run.path / "plan.json").write_text("{")
    for name in ("plan", "summary"):
        with pytest.raises(RunError) as caught:
            run.read(name)
        assert str(caught.value) == (
            f"{run.path / name}.json is missing or damaged; the run did not finish, or its files were changed."
        )


SUMMARY: dict[str, Any] = {
    "source": "s", "images": 8, "classes": ["a", "b"], "chosen": "mlp", "validation": {"accuracy": 1},
    "split": {"train": 4, "validation": 2, "test": 2}, "seconds": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", SUMMARY)
@pytest.mark.parametrize("value", [None, [], "missing"])
def test_a_summary_without_one_of_its_values_is_damaged(tmp_path: Path, name: str, value: object) -> None:
    run = Run(tmp_path)
    run.write("summary", SUMMARY)
    assert run.read_summary() == SUMMARY
    changed = {key: each for key, each in SUMMARY.items() if key != name}
    run.write("summary", changed if value == "missing" else {**changed, name: value})
    with pytest.raises(RunError, match=r"summary\.json is missing or damaged"):
        run.read_summary()


@pytest.mark.parametrize(
    ("file", "good", "bad"),
    [
        ("plan.json", {"decisions": [], "more": 1}, [[], {}, {"decisions": [{}]}, {"decisions": {}}]),
        ("findings.json", [], [{}, [{}], [{"kind": "leak", "detail": "", "severity": "note", "paths": "a"}]]),
        ("history.jsonl", {"network": "a", "step": 3}, [[], 3, {"step": "3"}, {"loss": []}]),
        ("evaluations.jsonl", {"own": True, "accuracy": 0.5}, [[], {}, {"own": True, "accuracy": None}]),
    ],
)
def test_valid_json_of_another_shape_is_damage(tmp_path: Path, file: str, good: Any, bad: list[Any]) -> None:
    def read() -> Any:
        run, (name, kind) = Run(tmp_path), file.split(".")
        return run.read(name) if kind == "json" else {"history": run.history, "evaluations": run.own_looks}[name]()

    (tmp_path / file).write_text(json.dumps(good) + "\n")
    assert read() in (good, [good])
    for each in bad:
        (tmp_path / file).write_text(json.dumps(each) + "\n")
        with pytest.raises(RunError, match=f"{re.escape(file)} is missing or damaged"):
            read()


# ledger


def test_looks_are_counted_by_content_for_everyone(ledger_folder: Path) -> None:
    one, other = part_hash(["a", "b"]), part_hash(["a", "c"])
    assert Ledger.default().looks(one) == []
    assert len(Ledger.default().record(one, run="runs/1", command="fit")) == 1
    assert len(Ledger.default().record(other, run="runs/2", command="fit")) == 1
    looks = Ledger(ledger_folder / "ledger.jsonl").record(one, run="runs/3", command="evaluate")
    assert [(look["run"], look["command"]) for look in looks] == [("runs/1", "fit"), ("runs/3", "evaluate")]
    assert looks == Ledger.default().looks(one)
    assert all(look["when"].endswith("+00:00") for look in looks)


def test_a_look_after_a_crash_is_still_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl").ready()
    ledger.record("h", run="1", command="fit")
    ledger.record("h", run="2", command="fit")
    ledger.path.write_bytes(ledger.path.read_bytes()[:-5])
    assert [look["run"] for look in ledger.record("h", run="3", command="fit")] == ["1", "3"]


def test_two_processes_at_once_lose_no_look(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from saccade.ledger import Ledger\n"
        "for i in range(40): Ledger(Path(sys.argv[1])).record('h', run=sys.argv[2] + str(i), command='fit')"
    )
    path = tmp_path / "state" / "ledger.jsonl"
    both = [subprocess.Popen([sys.executable, "-c", program, path, name]) for name in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sorted(look["run"] for look in Ledger(path).looks("h")) == sorted(f"{n}{i}" for n in "ab" for i in range(40))


def test_a_look_waits_for_its_turn(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl").ready()
    with ThreadPoolExecutor(1) as pool:
        with files.lock(ledger.path):
            looks = pool.submit(lambda: ledger.record("h", run="r", command="fit"))
            sleep(0.2)
            assert not looks.done()
            assert ledger.looks("h") == []
        assert len(looks.result(10)) == 1


def test_a_look_that_cannot_be_counted_is_refused(read_only: Path) -> None:
    sentence = "The ledger of test looks cannot be written at {} ({}); "
    for path, reason in [
        (read_only / "ledger.jsonl", "Permission denied"),
        (read_only / "below" / "ledger.jsonl", "Permission denied"),
        (Path(__file__) / "ledger.jsonl", "File exists"),
    ]:
        for attempt in (Ledger.ready, lambda ledger: ledger.record("h", run="r", command="fit")):
            with pytest.raises(RunError) as caught:
                attempt(Ledger(path))
            assert str(caught.value) == (
                sentence.format(path, reason) + "make it writable, or set SACCADE_STATE to a folder that is."
            )


@pytest.mark.parametrize(
    "command",
    [
        lambda threads: recipe.train("nowhere", TrainSettings(threads=threads, epochs=1)),
        lambda threads: check("nowhere", TrainSettings(threads=threads)),
        lambda threads: search("nowhere", SearchSettings(threads=threads)),
        lambda threads: measure_curvature("nowhere", TrainSettings(threads=threads), images=8, products=2),
    ],
)
def test_every_command_computes_with_the_threads_it_is_given(
    command: Callable[[int], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    try:
        with pytest.raises(SourceError):
            command(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
