"""Wrong use: one clear sentence, exit 2, nothing written, no traceback."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import draw
from tests.conftest import Saccade


def assert_refused(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """Assert exit 2 and a last line on standard error that says these words; nothing on standard output."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "╭" not in done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("saccade: ")
    for word in words:
        assert word in sentence


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("fti digits", ['no command "fti"', 'Did you mean "fit"?']),
        ("quux", ['no command "quux"', "fit", "predict"]),
        ("fit", ["`saccade fit` needs SOURCE"]),
        ("fit digits more", ['"more"']),
        ("fit digits --bugdet 5s", ['no option "--bugdet"', 'Did you mean "--budget"?']),
        ("fit digits --budget", ["--budget needs a value"]),
        ("fit digits --budget soon", ["budget", '"soon"', "90s, 2m or 1h30m"]),
        ("fit digits --budget 0s", ["budget", "greater than 0"]),
        ("fit digits --budget -5s", ["budget"]),
        ("fit digits --seed 1.5", ["seed", '"1.5"', "integer"]),
        ("train digits --epochs x", ['The setting epochs cannot be "x": expected a number.']),
        ("train digits --set flip=maybe", ['The setting flip cannot be "maybe": expected true or false.']),
        ("fit digits --test-fraction 2", ["test_fraction", "less than 0.9"]),
        ("train digits --optimizer sdg", ["optimizer", '"sdg"', "'sgd'"]),
        ("train digits --set", ["--set"]),
        ("train digits --set epochs", ['"epochs" is not a setting', "key=value"]),
        ("train digits --set epohcs=1", ['no setting "epohcs"', 'Did you mean "epochs"?']),
        ("train digits --set epochs=[", ["epochs", "YAML"]),
        ("train digits --set learning_rate=0.1,0.1", ['"0.1,0.1" gives 0.1 twice; give each value once.']),
        ("train digits --folds 3 --fold 1/3", ["Fold and folds exclude each other: give one of them."]),
        ("train digits --augment {rotate:", ["The value of --augment is not valid YAML"]),
        ("train digits --augment rotate,nois", ['there is no augmentation "nois"']),
        ("transfer digits --from a --pretrained b", ["--from and --pretrained exclude each other"]),
        ("transfer digits --from [a].pt", ['The weights file "[a].pt" does not exist']),
        (
            "search digits --learning-rate 0.1 --space learning_rate=0.01:0.1",
            ["--learning-rate and --space learning_rate=… exclude each other: give one of them."],
        ),
        ("train digits --set depth=1 depth=2", ["The setting depth is given twice, as 1 and as 2"]),
        ("train digits --model run/past", ['"run/past" is where weights come from', "give --pretrained run/past"]),
        ("volumes timm/resnet18 --set width=0.5", ['The setting width has no meaning for the network "timm/resnet18"']),
        ("volumes convnet --set size=32", ["The setting size is not of what a network is made of", "width, depth"]),
        ("train digits --epochs 1 --budget 5s", ["exclude each other"]),
        ("train digits --config nowhere.yaml", ["nowhere.yaml"]),
        ("baselines digits --loss softmax,hing", ["loss", '"hing"', "'squared_hinge'"]),
        ("baselines digits --neighbors 3,0", ["neighbors", '"0"', "greater than or equal to 1"]),
        ("baselines digits --metric", ["--metric needs a value"]),
        ("baselines digits --batch-size 1", ["The setting batch_size has no effect with solver=optimum; leave it out"]),
        ("baselines digits --learning-rate 5 --epochs 1", ["learning_rate has no effect", "give another solver"]),
        ("baselines digits --margin 2", ["The setting margin has no effect with loss=softmax"]),
        ("baselines digits --beta 2 --penalty l2,l1", ["The setting beta has no effect with penalty=l2,l1"]),
        ("transfer digits --cell top --epochs 30", ["The setting epochs has no effect with cell=top"]),
        ("curvature digits --epochs 5 --patience 1", ["leave patience out"]),
        ("curvature digits --epochs 5 --views", ["The setting views has no effect on the curvature; leave it out."]),
        ("curvature digits --mixup 0.2", ["The setting mixup has no effect", "or give epochs to train for."]),
        ("search digits --views", ["leave views and test_views out"]),
        ("evaluate nowhere", ["There is no run at nowhere"]),
        ("report nowhere", ["There is no run at nowhere"]),
        ("predict nowhere", ["needs PATH"]),
        ("predict nowhere picture.png", ["no file or folder picture.png"]),
        ("predict nowhere . --top 0", ["--top"]),
        ("predict nowhere . --csv nowhere/table.csv", ["--csv"]),
        ("predict nowhere . --csv /proc/table.csv", ["The table /proc/table.csv cannot be written; give --csv"]),
    ],
)
def test_words_on_the_command_line(tmp_path: Path, saccade: Saccade, arguments: str, words: list[str]) -> None:
    done = saccade(*arguments.split(), cwd=tmp_path)
    assert_refused(done, *words)
    assert len(done.stderr.strip().splitlines()) == 1
    assert tree(tmp_path) == []


def test_a_path_that_is_not_there(tmp_path: Path, saccade: Saccade) -> None:
    assert_refused(saccade("fit", "photso", cwd=tmp_path), "photso")
    assert tree(tmp_path) == []


def test_a_data_sets_name_misspelt(tmp_path: Path, saccade: Saccade) -> None:
    assert_refused(saccade("fit", "cifr10", cwd=tmp_path), '"cifar10"')
    assert tree(tmp_path) == []


def test_one_class(tmp_path: Path, saccade: Saccade) -> None:
    for number in range(8):
        draw(tmp_path / "photos" / "cat" / f"{number}.png", (10, 20, 30), number)
    before = tree(tmp_path)
    assert_refused(saccade("fit", "photos", cwd=tmp_path), "class")
    assert tree(tmp_path) == before


def test_no_images(tmp_path: Path, saccade: Saccade) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "notes.txt").write_text("not a picture")
    before = tree(tmp_path)
    assert_refused(saccade("fit", "photos", cwd=tmp_path), "image")
    assert tree(tmp_path) == before


def test_unknown_model(photos: Path, saccade: Saccade) -> None:
    before = tree(photos.parent)
    done = saccade("train", "photos", "--model", "convent", "--epochs", "1", cwd=photos.parent)
    assert_refused(done, '"convent"', '"convnet"')
    assert tree(photos.parent) == before


def test_unknown_device(photos: Path, saccade: Saccade) -> None:
    done = saccade("train", "photos", "--device", "tpu9", "--epochs", "1", cwd=photos.parent)
    assert_refused(done, '"tpu9"')
    assert tree(photos.parent) == [photos, *tree(photos)]


@pytest.mark.parametrize("command", [["fit"], ["train", "--epochs", "1"]])
def test_existing_output_folder(photos: Path, saccade: Saccade, command: list[str]) -> None:
    taken = photos.parent / "taken"
    taken.mkdir()
    (taken / "precious.txt").write_text("mine")
    done = saccade(command[0], photos, *command[1:], "--out", taken)
    assert_refused(done, "taken", "already exists")
    assert tree(taken) == [taken / "precious.txt"]


def test_output_folder_that_cannot_be_made(photos: Path, saccade: Saccade) -> None:
    (photos.parent / "file").write_text("a file is no folder")
    assert_refused(saccade("fit", photos, "--out", photos.parent / "file" / "run"), "cannot be made")
    # Writing fails here for every user, root too.
    assert_refused(saccade("fit", photos, "--out", "/proc/saccade/run"), "/proc", "cannot be made")


def test_config_of_something_else(tmp_path: Path, saccade: Saccade) -> None:
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "typo.yaml").write_text("epohcs: 3\n")
    assert_refused(saccade("train", "digits", "--config", "list.yaml", cwd=tmp_path), "holds no settings")
    assert_refused(saccade("train", "digits", "--config", "typo.yaml", cwd=tmp_path), 'Did you mean "epochs"?')


def test_a_fault_is_one_sentence_that_says_where_to_report_it(
    tmp_path: Path, saccade: Saccade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault: a module that cannot be imported stands where saccade expects its own."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['saccade.recipe'] = object()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = saccade("fit", "digits", cwd=tmp_path)
    assert done.returncode == 1
    assert "AttributeError" in done.stderr
    assert "report it" in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("SACCADE_TRACEBACK", "1")
    assert "Traceback" in saccade("fit", "digits", cwd=tmp_path).stderr
