"""The command `fastdl`: what it prints, its exit codes, and its one-line errors."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

import fastdl
from fastdl import cli, train
from fastdl.cli import main

pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTDL_TRACEBACK", raising=False)
    monkeypatch.delenv("FASTDL_DATA", raising=False)


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out.replace("backend ", "backend_")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert {"fastdl", "Python", "backend_numpy", "backend_cpu", "backend_cuda", "threads", "GPU"} <= lines.keys()
    assert lines["backend_numpy"].startswith("available")
    assert re.fullmatch(r"\d+ of \d+ cores", lines["threads"])
    assert sum("in use" in lines[f"backend_{name}"] for name in ("numpy", "cpu", "cuda")) == 1


def test_info_without_the_compiled_module():
    code = "import sys; sys.modules['fastdl._cpu'] = None; from fastdl.cli import main; sys.exit(main(['info']))"
    done = _python("-c", code)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\nbackend cpu +missing: ", done.stdout)
    assert re.search(r"\nbackend numpy +available, in use\n", done.stdout)
    assert re.search(r"\ninstructions +NumPy's own", done.stdout)


def test_recipes(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["digits", "xor", "mnist-mlp", "lenet5"]
    assert max(map(len, lines)) <= 80


def test_the_settings_of_a_recipe(capsys):
    assert main(["recipes", "lenet5"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\n  lr +0.001 +learning rate\n", out)
    assert re.search(r"\n  steps +none ", out)
    assert "update rule: sgd or rmsprop or adam or adamw" in out
    assert max(map(len, out.splitlines())) <= 100


def test_train(capsys, tmp_path):
    command = ["train", "xor", "--epochs", "200", "--set", "lr=0.4", "--set", "hidden=4", "--seed", "1"]
    assert main([*command, "--out", "here", "--json", "result.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "xor: 2-3-1 network that learns exclusive or: cross-entropy, SGD"
    assert lines[1] == "4 points to train, 4 to validate, 4 to test; 17 parameters"
    assert lines[-1] == "validation accuracy 100.00 %, test accuracy 100.00 %"
    assert max(map(len, lines)) <= 80
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["recipe"] == "xor" and result["folder"] == "here"
    settings = result["settings"]
    assert (settings["lr"], settings["hidden"], settings["seed"], settings["epochs"]) == (0.4, 4, 1, 200)
    assert result["test"]["accuracy"] == result["validation"]["accuracy"] == 1.0
    assert result["train"].keys() == {"loss", "accuracy"}
    assert result["seconds"] > 0 and result["samples_per_second"] > 0
    assert sorted(os.listdir("here")) == [
        "checkpoint.safetensors", "config.json", "curves.png", "first_layer.png", "history.csv", "model.safetensors"
    ]  # fmt: skip


def test_the_default_recipe_and_folder(capsys):
    assert main(["train", "--steps", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digits: ")
    assert re.fullmatch(r"validation accuracy \d+\.\d\d %, test accuracy \d+\.\d\d %", lines[-1])
    (folder,) = os.listdir("runs")
    assert re.fullmatch(r"digits-\d{8}-\d{6}", folder)


def test_the_same_seed_gives_the_same_run(capsys):
    for folder, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main(["train", "xor", "--epochs", "5", "--seed", seed, "--out", folder]) == 0
    history = [_read(f"{folder}/history.csv") for folder in "abc"]
    assert history[0] == history[1] != history[2]


def _read(path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests themselves run as a background job that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupt_and_resume(capsys, monkeypatch, interruptible):
    command = ["train", "xor", "--epochs", "40", "--set", "batch_size=3"]
    assert main([*command, "--out", "whole"]) == 0

    def interrupt(self, trainer):
        if trainer.step == 31:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(train.ProgressBar, "on_step_end", interrupt)
        assert main([*command, "--out", "part", "--json", "part.json"]) == 130
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == (
        "The training is saved after step 31. To go on: fastdl train --resume part"
    )
    assert captured.err == ""
    assert not os.path.exists("part.json") and not os.path.exists("part/model.safetensors")
    assert main(["train", "--resume", "part", "--json", "part.json"]) == 0
    assert "going on after step 31, epoch 15" in capsys.readouterr().out
    for name in ("model.safetensors", "history.csv"):
        assert _read(f"part/{name}") == _read(f"whole/{name}")
    assert json.loads(_read("part.json"))["resumed_at"] == 31


def test_a_finished_run_can_be_extended(capsys):
    assert main(["train", "xor", "--epochs", "40", "--out", "whole"]) == 0
    assert main(["train", "xor", "--epochs", "25", "--out", "part"]) == 0
    assert main(["train", "xor", "--resume", "part", "--epochs", "40"]) == 0
    for name in ("model.safetensors", "history.csv"):
        assert _read(f"part/{name}") == _read(f"whole/{name}")


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(capsys):
    assert main(["train", "xor", "--epochs", "10", "--out", "run"]) == 0
    before = _read("run/model.safetensors")
    os.remove("run/checkpoint.safetensors")
    os.remove("run/model.safetensors")
    assert main(["train", "--resume", "run"]) == 0
    assert _read("run/model.safetensors") == before
    assert len(_read("run/history.csv").splitlines()) == 11


def test_resuming_a_finished_run_changes_nothing(capsys):
    assert main(["train", "xor", "--steps", "7", "--set", "batch_size=3", "--out", "run"]) == 0
    before = {name: _read(f"run/{name}") for name in ("model.safetensors", "history.csv", "config.json")}
    assert main(["train", "--resume", "run"]) == 0
    assert before == {name: _read(f"run/{name}") for name in before}


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "xor", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["train", "digit"], "unknown recipe 'digit', did you mean 'digits'? Recipes: digits, xor, mnist-mlp, lenet5"),
        (["recipes", "lenet"], "unknown recipe 'lenet', did you mean 'lenet5'?"),
        (["train", "xor", "--set", "lrr=1"], "unknown setting 'lrr', did you mean 'lr'? Valid settings: batch_size, "),
        (["train", "xor", "--set", "lr"], "--set takes KEY=VALUE, got 'lr'"),
        (["train", "xor", "--set", "lr=x"], "setting 'lr' must be a number, got 'x'"),
        (["train", "xor", "--set", "lr=-1"], "setting 'lr' must be a finite number above 0, got -1.0"),
        (["train", "xor", "--set", "lr=nan"], "setting 'lr' must be a finite number above 0, got nan"),
        (["train", "xor", "--epochs", "0"], "setting 'epochs' must be an integer, at least 1, got 0"),
        (["train", "xor", "--steps", "ten"], "setting 'steps' must be an integer or none, got 'ten'"),
        (["train", "xor", "--seed", "-1"], "setting 'seed' must be an integer, at least 0, got -1"),
        (["train", "xor", "--epochs", "1", "--set", "epochs=2"], "epochs is given twice, by --epochs and by --set"),
        (["train", "xor", "--epochs", "1", "--steps", "2"], "not allowed with argument --epochs"),
        (["train", "xor", "--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["train", "xor", "--json", "no/where.json"], "--json must name a file in an existing folder"),
        (["train", "xor", "--out", "a", "--resume", "b"], "not allowed with argument --out"),
        (["bench", "--threads", "two"], "argument --threads: invalid int value: 'two'"),
    ],
)
def test_wrong_usage(capsys, arguments, text):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fastdl: error: ") and text in captured.err
    assert captured.err.count("\n") == 1 and captured.err.endswith("\n")
    assert os.listdir() == []


def test_resume_takes_no_other_settings(capsys):
    assert main(["train", "xor", "--epochs", "2", "--out", "run"]) == 0
    assert main(["train", "xor", "--epochs", "2", "--out", "bent", "--set", "schedule=cosine"]) == 0
    cases = {
        "--resume takes the settings from the run": ["--resume", "run", "--set", "lr=1"],
        "can be given with it": ["--resume", "run", "--seed", "3"],
        "run holds a run of xor, not of digits": ["digits", "--resume", "run"],
        "the cosine schedule was laid out for the run's length": ["--resume", "bent", "--epochs", "3"],
    }
    capsys.readouterr()
    for text, arguments in cases.items():
        assert main(["train", *arguments]) == 2
        assert text in capsys.readouterr().err


def _damage(path, change):
    content = change(_read(path))
    with open(path, "wb") as file:
        file.write(content)


@pytest.mark.parametrize(
    "name, change, text",
    [
        ("checkpoint.safetensors", lambda raw: raw[:-10], "checkpoint.safetensors: truncated or no safetensors file"),
        ("checkpoint.safetensors", lambda raw: raw[:-1] + b"?", "checkpoint.safetensors: damaged file"),
        ("config.json", lambda raw: raw[:-10], "config.json is damaged"),
        ("config.json", lambda raw: b"[]", "config.json is damaged"),
        ("config.json", lambda raw: raw.replace(b'"lr"', b'"rl"'), "config.json is damaged: unknown setting 'rl'"),
    ],
)
def test_resuming_a_damaged_run(capsys, name, change, text):
    assert main(["train", "xor", "--epochs", "3", "--out", "run"]) == 0
    _damage(f"run/{name}", change)
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("fastdl: error: ") and text in err and err.count("\n") == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns where the compiled backend does not
@pytest.mark.parametrize(
    "arguments, text, lines",
    [
        (["train", "--resume", "nowhere"], "nowhere holds no run to resume: it has no config.json", 1),
        (["train", "xor", "--device", "cuda"], "device 'cuda' is not available", 1),
        (["train", "lenet5", "--set", "data_dir=nowhere"], "data_dir must hold train-images-idx3-ubyte.gz", 5),
        (["train", "xor", "--epochs", "20", "--set", "lr=3e38"], "the loss became", 1),
    ],
)
def test_failures_are_told_without_a_traceback(capsys, arguments, text, lines):
    if "cuda" in arguments:
        from fastdl import kernels

        try:
            kernels.backend("cuda")
            pytest.skip("there is a GPU")
        except RuntimeError:
            pass
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("fastdl: error: ") and text in err
    assert err.count("\n") == lines and "Traceback" not in err


def test_an_unexpected_error_is_named_and_can_be_traced(capsys, monkeypatch):
    def fail(args):
        raise KeyError("x")

    monkeypatch.setattr("fastdl.cli.info.run", fail)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == "fastdl: error: KeyError: 'x'\n"
    monkeypatch.setenv("FASTDL_TRACEBACK", "1")
    assert main(["info"]) == 1
    assert "Traceback" in capsys.readouterr().err


def _python(*arguments):
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=_environment())


def _environment() -> dict:
    """This process's, in which this very package is found from any folder."""
    return {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(fastdl.__file__))}


def test_python_dash_m():
    done = _python("-m", "fastdl", "--version")
    assert done.returncode == 0 and re.fullmatch(r"fastdl \S+\n", done.stdout)
    done = _python("-m", "fastdl", "train", "digit")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("fastdl: error: unknown recipe")
    assert _python("-m", "fastdl", "--help").returncode == 0


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("info", "recipes", "train", "bench"):
        assert re.search(rf"\n +{command} ", out)


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -W ignore -m fastdl recipes lenet5 | head -n 1"
    bash = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(bash, capture_output=True, text=True, env=_environment())
    assert done.stderr == "" and done.stdout.startswith("lenet5: ")


def test_the_command_line_loads_no_extras():
    code = (
        "import sys; from fastdl.cli import main; main(['recipes']); main(['--version']);"
        "bad = {'rich', 'matplotlib', 'safetensors', 'tensorboardX', 'torch'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = _python("-c", code)
    assert done.returncode == 0, done.stderr


def test_main_is_what_the_package_exports():
    assert cli.main is main
