"""`--resume`: whatever ended a run, it goes on to the same weights and figures; what does not fit is refused."""

import hashlib
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from saccade import recipe
from saccade.cli import main
from saccade.cli.options import resolve
from saccade.data.batches import Order
from saccade.errors import ModelError, RunError, SaccadeError, SettingError
from saccade.events import Event, Finding, Progress, listening
from saccade.recipe.material import in_force
from saccade.run import Run
from saccade.settings import FitSettings, TrainSettings
from saccade.train import Clock, checkpoint
from tests.conftest import Saccade
from tests.photos import photo_folder

EPOCHS = {"epochs": 3.0, "size": 20, "width": 0.5, "cutout": 0.2, "flip": True, "batch_size": 8, "seed": 3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of photos of many sizes in three classes."""
    return photo_folder(tmp_path_factory.mktemp("source") / "photos", 16)


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def figures(run: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in Run(run).history()]


def begin(source: Path | str, out: Path, steps: int, **settings: Any) -> None:
    """Train, or go on to train, until so many steps are done, and be interrupted there."""

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "train" and event.done >= steps:
            raise KeyboardInterrupt

    with listening(interrupt), pytest.raises(KeyboardInterrupt):
        recipe.train(source, TrainSettings(**settings), out=out, resume=(out / "settings.yaml").exists())


def resumed(heard: list[Event]) -> list[str]:
    """Return what was said of where a training goes on."""
    return [event.detail for event in heard if isinstance(event, Finding) and event.kind == "resume"]


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that trains without interruption, once for each choice of settings."""
    runs: dict[str, Path] = {}

    def train(**settings: Any) -> Path:
        if str(settings) not in runs:
            runs[str(settings)] = tmp_path_factory.mktemp("whole") / "run"
            recipe.train(photos, TrainSettings(**settings), out=runs[str(settings)])
        return runs[str(settings)]

    return train


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_interrupted_twice_it_ends_with_the_same_weights_and_figures(
    photos: Path, whole: Callable[..., Path], tmp_path: Path, memory: float, workers: int, precision: str
) -> None:
    expected = whole(**EPOCHS, precision=precision)
    out, settings = tmp_path / "run", {**EPOCHS, "precision": precision, "memory": memory, "workers": workers}
    begin(photos, out, 5, **settings)
    begin(photos, out, 9)
    result = recipe.train(photos, TrainSettings(), out=out, resume=True)
    assert weights(out) == weights(expected)
    assert figures(out) == figures(expected)
    assert len(figures(out)) >= 3
    assert result.summary["network"]["steps"] == json.loads((expected / "summary.json").read_text())["network"]["steps"]
    decided = {each["what"]: each["value"] for each in Run(out).read("plan")["decisions"]}
    assert decided["resumed after step"] == 9
    assert [check["name"] for check in result.summary["checks"]] == ["initial loss", "overfit a handful"]
    assert result.summary["left_out"] == []


def test_what_the_clock_chose_for_writing_changes_nothing(
    photos: Path, whole: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is far behind, so that history is cut back; and before the first one, training begins anew."""
    expected, out = whole(**EPOCHS, precision="float32"), tmp_path / "run"
    begin(photos, out, 7, **EPOCHS, precision="float32")
    assert not (out / "checkpoints").exists()
    for number, name in ((0.0, "FIRST"), (10.0, "SOON"), (float("inf"), "SHARE")):
        monkeypatch.setattr(checkpoint, name, number)
    begin(photos, out, 12)
    assert [file.name for file in sorted(out.glob("checkpoints/convnet/*.json"))] == ["000000001.json"]
    assert len(figures(out)) == 3
    heard: list[Event] = []
    with listening(heard.append):
        recipe.train(photos, TrainSettings(), out=out, resume=True)
    assert resumed(heard) == ["convnet goes on after step 1, the last that was saved."]
    assert weights(out) == weights(expected)
    assert figures(out) == figures(expected)


def test_where_nothing_was_saved_it_is_said_that_training_begins_anew(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FIRST", float("inf"))
    out, heard = tmp_path / "run", list[Event]()
    with listening(heard.append):
        begin(photos, out, 1, **EPOCHS, precision="float32")
        assert resumed(heard) == []
        begin(photos, out, 1)
    assert resumed(heard) == ["convnet begins anew: none of its steps was saved yet."]


@pytest.mark.usefixtures("often")
def test_a_damaged_checkpoint_is_passed_over_and_named(
    photos: Path, whole: Callable[..., Path], tmp_path: Path
) -> None:
    expected, out = whole(**EPOCHS, precision="float32"), tmp_path / "run"
    begin(photos, out, 9, **EPOCHS, precision="float32")
    place = max(out.glob("checkpoints/convnet/*.json"))
    newest = place.with_name(json.loads(place.read_text())["files"][""])
    newest.write_bytes(newest.read_bytes()[:-100])
    heard: list[Event] = []
    with listening(heard.append):
        result = recipe.train(photos, TrainSettings(), out=out, resume=True)
    [finding] = [event for event in heard if isinstance(event, Finding) and event.kind == "checkpoint"]
    assert finding.detail in result.summary["warnings"]
    assert weights(out) == weights(expected)
    assert figures(out) == figures(expected)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step_which_is_saved(
    photos: Path, whole: Callable[..., Path], tmp_path: Path, sent: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """No checkpoint would be due for seconds."""
    expected, out, heard = whole(**EPOCHS, precision="float32"), tmp_path / "run", list[Event]()

    def send(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Progress) and event.task == "train" and event.done == 6:
            signal.raise_signal(sent)

    options = [f"--{name.replace('_', '-')}={value}" for name, value in EPOCHS.items()]
    arguments = ["train", str(photos), *options, "--precision=float32", f"--out={out}"]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job has not
    try:
        with listening(send):
            status = main(arguments)
    finally:
        signal.signal(signal.SIGINT, handler)
    ended = {signal.SIGINT: (130, "Interrupted"), signal.SIGTERM: (143, "Terminated")}
    assert (status, capsys.readouterr().err.splitlines()[-1]) == (ended[sent][0], f"saccade: {ended[sent][1]}.")
    [finding] = [event for event in heard if isinstance(event, Finding) and event.kind == "interrupted"]
    assert finding.detail == f"Saved after 7 of 14 steps: with --out {out} --resume it goes on from there."
    assert [file.stem for file in out.glob("checkpoints/*/*.json")] == ["000000007"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "and is what it was"
    recipe.train(photos, TrainSettings(), out=out, resume=True)
    assert weights(out) == weights(expected)
    assert figures(out) == figures(expected)


@pytest.mark.usefixtures("often")
def test_a_full_disk_leaves_the_last_checkpoint_whole(
    photos: Path, whole: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As far as a program can tell: no file may grow any more, which stops even the smallest checkpoint."""
    expected, out = whole(**EPOCHS, precision="float32"), tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "train" and event.done == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    options = [f"--{name.replace('_', '-')}={value}" for name, value in EPOCHS.items()]
    arguments = ["train", str(photos), *options, "--precision=float32", f"--out={out}", "--json"]
    try:
        with listening(fill):
            status = main(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr()
    assert (status, told.out) == (1, "")
    assert re.sub(r"[0-9a-f]{32}", "…", told.err.splitlines()[-1]) == (
        f"saccade: There is no room to write (File too large: {out / 'checkpoints/convnet/….safetensors'}). "
        "What was written before is whole; make room, then give the command again, with --resume where it takes it."
    )
    assert sorted(file.stem for file in out.glob("checkpoints/*/*.json")) == ["000000005", "000000006"]
    assert [file for file in out.rglob(".*") if file.is_file()] == []
    recipe.train(photos, TrainSettings(), out=out, resume=True)
    assert Run(out).read("plan")["decisions"][-1]["value"] == 6
    assert weights(out) == weights(expected)
    assert figures(out) == figures(expected)


def test_the_record_says_which_images_were_drawn(photos: Path, whole: Callable[..., Path]) -> None:
    """The order is NumPy's permutations, whatever read the images; streamed or held."""
    summary = Run(whole(**EPOCHS, precision="float32")).read_summary()
    network, sha256 = summary["network"], ""
    order = Order(summary["split"]["train"], 8, 3)
    for step in range(network["steps"]):
        index_N, epoch_N = order(step)
        sha256 = hashlib.sha256(sha256.encode() + index_N.numpy().tobytes() + epoch_N.numpy().tobytes()).hexdigest()
    assert network["samples"] == {"images": 8 * network["steps"], "sha256": sha256}


@pytest.mark.usefixtures("often")
def test_a_budget_counts_the_time_before_and_the_whole_replays(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    begin(photos, out, 4, budget=12, size=20, batch_size=8)
    spent = Run(out).read("plan")["seconds"]
    sleep(1.0)  # dead time
    begin(photos, out, 6)
    clock = Clock(0)
    result = recipe.train(photos, TrainSettings(), out=out, clock=clock, resume=True)
    plan = Run(out).read("plan")
    assert plan["budget_seconds"] == result.summary["budget_seconds"] == 12
    assert [each["what"] for each in plan["decisions"]].count("resumed after step") == 2
    assert result.summary["seconds"] > clock.elapsed() + spent
    assert result.summary["seconds"] < 15
    paces = plan["paces"]["convnet"]
    assert [pace["step"] for pace in paces] == sorted(pace["step"] for pace in paces)
    assert paces[-1]["steps"] == result.summary["network"]["steps"]
    settings = TrainSettings.load(result.run.network(result.summary["network"]["name"])).override(
        [f"replay={out / 'plan.json'}"]
    )
    recipe.train(photos, settings, out=tmp_path / "replay")
    assert weights(tmp_path / "replay") == weights(out)


def tree(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def refused(out: Path, source: Path | str, words: str, **settings: Any) -> None:
    """Assert that resuming is refused with a sentence and changes nothing."""
    before = tree(out)
    with pytest.raises(RunError) as caught:
        recipe.train(source, TrainSettings(**settings), out=out, resume=True)
    assert str(caught.value) == words
    after = tree(out)
    assert {file: content for file, content in after.items() if file.name != "run.lock"} == {
        file: content for file, content in before.items() if file.name != "run.lock"
    }


@pytest.fixture
def begun(photos: Path, tmp_path: Path, often: None) -> tuple[Path, Path]:
    """Return a run of a linear network that was interrupted, and its source."""
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    begin(source, tmp_path / "run", 3, model="linear", epochs=2, size=16, batch_size=8)
    return tmp_path / "run", source


def test_settings_that_differ_are_refused_and_others_need_not_be_repeated(begun: tuple[Path, Path]) -> None:
    out, source = begun
    words = "leave it out to resume the run, or give another --out to begin one."
    for name, was, now in (("epochs", 2.0, 3.0), ("seed", 0, 4), ("model", "linear", "mlp"), ("budget", None, 9.0)):
        differ = f"The run in {out} was begun with {name}={was}, and {name}={now} was given"
        refused(out, source, f"{differ}; {words}", **{name: now})
    result = recipe.train(source, TrainSettings(epochs=2, model="linear"), out=out, resume=True)
    assert result.summary["network"]["settings"]["epochs"] == 2
    before = tree(out)
    assert recipe.train(source, TrainSettings(), out=out, resume=True).summary == result.summary
    assert tree(out) == before, "a finished run is left as it is"
    refused(out, source, f"The run in {out} was begun with seed=0, and seed=1 was given; {words}", seed=1)


def test_a_source_that_changed_is_refused(begun: tuple[Path, Path]) -> None:
    out, source = begun
    (source / "disc" / "0003.jpg").rename(source / "stripes" / "0103.jpg")
    refused(
        out,
        source,
        f"The images of {source} are not those the run in {out} was begun with (disc/0003.jpg, …); "
        "the run stays as it was: give --out another name to begin one with these.",
    )


def test_a_run_that_is_being_written_is_refused(begun: tuple[Path, Path]) -> None:
    out, source = begun
    words = f"The run in {out} is being written by another process; let it end first."
    holding = (
        "import sys; from pathlib import Path; from saccade.run import Run\n"
        "with Run(Path(sys.argv[1])).written_alone(): print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holding, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        refused(out, source, words)
        other.kill()
    recipe.train(source, TrainSettings(), out=out, resume=True)


def test_a_folder_of_something_else_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^To resume a run, name its folder with --out DIR\.$"):
        recipe.train(photos, TrainSettings(epochs=1), resume=True)
    (other := tmp_path / "other").mkdir()
    (other / "notes.txt").write_text("mine")
    words = f"{other} holds no run that could be resumed: there is no settings.yaml; give another --out."
    refused(other, photos, words)
    refused(other / "notes.txt", photos, words.replace(str(other), str(other / "notes.txt")))
    (other / "settings.yaml").write_text(FitSettings().to_yaml())
    another = "was begun by another command or another version of saccade, which alone can resume it."
    refused(other, photos, f"The run in {other} {another}")
    (other / "settings.yaml").write_text("{")
    refused(other, photos, f"The run in {other} {another}")


def test_only_what_was_given_is_held_against_the_run(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("width: 2\nbudget: 5s\n")
    given = resolve(TrainSettings(epochs=1), tmp_path / "some.yaml", ["seed=3", "translate=0"])
    assert given.model_fields_set == {"epochs", "width", "seed", "translate"}
    assert resolve(TrainSettings(), None, []).model_fields_set == set()


def test_one_networks_history_is_cut_and_anothers_stays(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "x")
    lines: list[dict[str, Any]] = [{"network": name, "step": step} for step in range(3) for name in ("a", "b")]
    run.add_history(*lines)
    with (run.path / "history.jsonl").open("a") as file:
        file.write('{"network": "b", "st')
    run.cut_history("a", 1)
    assert run.history() == [line for line in lines if line["network"] == "b" or line["step"] < 1]
    run.cut_history("b", 0)
    assert (run.path / "history.jsonl").read_text() == '{"network": "a", "step": 0}\n'


def test_the_command_says_what_it_needs(saccade: Saccade, tmp_path: Path) -> None:
    done = saccade("train", "digits", "--resume", "--epochs", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "saccade: To resume a run, name its folder with --out DIR.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_plan_is_said(begun: tuple[Path, Path]) -> None:
    out, source = begun
    (out / "plan.json").write_text("{}")
    sentence = "is missing or damaged; the run did not finish, or its files were changed."
    refused(out, source, f"{out / 'plan.json'} {sentence}")
    (out / "plan.json").write_text('{"decisions": []}')
    refused(out, source, f"{out / 'plan.json'} is damaged; the run's files were changed.")


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "what a killed one leaves"])
def test_where_nothing_was_begun_the_command_begins(photos: Path, tmp_path: Path, left: str) -> None:
    out = tmp_path / "run"
    if left != "nothing":
        out.mkdir()
    if left == "what a killed one leaves":
        for name in ("model", "pictures"):
            (out / name).mkdir()
        for name in ("run.lock", "split.csv", ".saccade-settings.yaml.0123abcd"):
            (out / name).write_text("")
        with pytest.raises(SaccadeError, match="already exists"):
            recipe.train(photos, TrainSettings(model="linear", epochs=1, size=16), out=out)
    result = recipe.train(photos, TrainSettings(model="linear", epochs=1, size=16), out=out, resume=True)
    assert result.run.finished
    assert [file for file in out.rglob(".*") if file.is_file()] == []


def test_what_a_file_of_settings_leaves_open_is_not_held_against_the_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "x")
    run.settings.write_text(TrainSettings(width=1.5, size=20).to_yaml())
    (tmp_path / "some.yaml").write_text("width: null\nsize: 20\n")
    assert in_force(resolve(TrainSettings(), tmp_path / "some.yaml", []), run.path).width == 1.5
    with pytest.raises(RunError, match=r"was begun with width=1\.5, and width=2\.0 was given"):
        in_force(TrainSettings(width=2.0), run.path)


def test_a_resumed_run_that_turns_out_not_to_fit_stays(begun: tuple[Path, Path]) -> None:
    out, source = begun
    shutil.rmtree(out / "checkpoints")
    saved = TrainSettings.load(Run(out).settings).model_copy(update={"model": "torchvision/alexnet"})
    Run(out).settings.write_text(saved.to_yaml())
    with pytest.raises(ModelError, match="cannot take images of 16 x 16 pixels"):
        recipe.train(source, TrainSettings(), out=out, resume=True)
    assert out.exists()
