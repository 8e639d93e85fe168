"""Recipes: complete, described, trained into a run folder, resumed to the same bits."""

import json
import math
import pathlib

import pytest

import fastdl as fd
from fastdl import recipes
from fastdl.recipes import runner
from fastdl.recipes.settings import Settings, parse
from fastdl.train import LambdaCallback

pytest.importorskip("matplotlib")
pytest.importorskip("safetensors")

SHARED = {"__init__", "runner", "settings", "task"}
FILES = ["checkpoint.safetensors", "config.json", "curves.png", "first_layer.png", "history.csv", "model.safetensors"]


def _listing(folder):
    return sorted(entry.name for entry in pathlib.Path(folder).iterdir())


def test_every_recipe_is_listed():
    found = {path.stem for path in pathlib.Path(recipes.__file__).parent.glob("*.py")} - SHARED
    assert found == {name.replace("-", "_") for name in recipes.RECIPES}


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_is_described(name):
    assert 20 < len(recipes.describe(name)) <= 68  # fits beside the name in 80 columns
    assert "\n" not in recipes.describe(name)
    kind = recipes.get(name).Settings
    assert issubclass(kind, Settings)
    assert kind() == kind.from_dict({})


def test_digits_are_learned(tmp_path):
    result = recipes.run("digits", epochs=2, out=tmp_path / "run")
    assert result["test"]["accuracy"] >= 0.95
    assert result["validation"]["accuracy"] >= 0.95
    assert result["steps"] == 80 and result["parameters"] == 53194
    assert _listing(tmp_path / "run") == FILES


def test_digits_reach_98_percent(tmp_path):
    if fd.get_device() == "numpy":
        pytest.skip("takes a minute on the numpy backend, seconds on the others")
    assert recipes.run("digits", out=tmp_path / "run")["test"]["accuracy"] >= 0.98


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exclusive_or_is_learned(tmp_path, seed):
    result = recipes.run("xor", seed=seed, out=tmp_path / "run")
    assert result["test"]["accuracy"] == 1.0
    assert result["parameters"] == 13


@pytest.mark.parametrize(
    "name, parameters", [("mnist-mlp", 784 * 500 + 500 + 5000 + 10), ("lenet5", 832 + 51264 + 1606144 + 5130)]
)
def test_recipes_on_mnist(tmp_path, tiny_mnist, name, parameters):
    settings = {"data_dir": tiny_mnist, "validation": 20, "batch_size": 10, "steps": 2}
    result = recipes.run(name, out=tmp_path / "run", **settings)
    assert result["steps"] == 2 and result["parameters"] == parameters
    assert _listing(tmp_path / "run") == FILES
    assert set(result["test"]) == {"loss", "accuracy"}


def test_validation_images_must_leave_some_to_train_on(tmp_path, tiny_mnist):
    with pytest.raises(ValueError, match="'validation' must be below the 60 training images, got 60"):
        recipes.run("lenet5", out=tmp_path / "run", data_dir=tiny_mnist, validation=60)
    assert not (tmp_path / "run").exists()


def test_the_result_is_plain_data(tmp_path):
    result = recipes.run("xor", epochs=3, out=tmp_path / "run")
    back = json.loads(runner.json_text(result))
    assert back == json.loads(json.dumps(result))
    assert back["settings"]["epochs"] == 3 and back["recipe"] == "xor"
    assert back["samples_per_second"] > 0 and back["seconds"] > 0 and not back["interrupted"]


def test_json_has_no_nan():
    text = runner.json_text({"a": math.nan, "b": [math.inf, 1.0], "c": (2,)})
    assert json.loads(text) == {"a": None, "b": [None, 1.0], "c": [2]}


def test_the_run_folder_says_what_was_run(tmp_path):
    recipes.run("xor", epochs=3, out=tmp_path / "run", lr=0.25)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"] == "xor" and config["settings"]["lr"] == 0.25 and config["settings"]["steps"] is None
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,lr,loss") and len(rows) == 4
    assert set(fd.load(tmp_path / "run" / "model.safetensors")) == {
        "hidden.weight", "hidden.bias", "out.weight", "out.bias"
    }  # fmt: skip


def test_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner.time, "strftime", lambda form: "20260101-000000")
    folders = [recipes.run("xor", epochs=1)["folder"] for _ in range(3)]
    assert folders == [f"runs/xor-20260101-000000{end}" for end in ("", "-2", "-3")]
    with pytest.raises(FileExistsError, match="already holds a run"):
        recipes.run("xor", epochs=1, out=folders[0])


@pytest.mark.parametrize("extra", [{}, {"schedule": "cosine"}, {"schedule": "step"}, {"patience": 12}])
def test_resumed_runs_leave_the_same_files(tmp_path, extra):
    settings = recipes.get("xor").Settings(epochs=30, batch_size=3, **extra)
    runner.run("xor", settings, out=tmp_path / "whole")

    class Crash(Exception):
        pass

    def crash(trainer):
        if trainer.step == 27:
            raise Crash

    settings.checkpoint_steps = 5
    with pytest.raises(Crash):
        runner.run("xor", settings, out=tmp_path / "part", callbacks=[LambdaCallback(on_step_end=crash)])
    result = runner.run("xor", settings, out=tmp_path / "part", resume=True)
    assert result["resumed_at"] == 25
    for name in ("model.safetensors", "history.csv"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_optimizers_of_the_settings():
    from fastdl.recipes.task import make_optimizer

    weight = fd.nn.Linear(2, 2)
    for name in ("sgd", "rmsprop", "adam", "adamw"):
        settings = recipes.get("digits").Settings(optimizer=name, lr=0.125, weight_decay=0.25, momentum=0.5)
        optimizer = make_optimizer(settings, weight.parameters())
        group = optimizer.param_groups[0]
        assert type(optimizer).__name__.lower() == name
        assert (group["lr"], group["weight_decay"]) == (0.125, 0.25)
        assert group.get("momentum", 0.5) == 0.5


@pytest.mark.parametrize("missing", ["safetensors", "matplotlib"])
def test_missing_extras_are_named_before_training(tmp_path, monkeypatch, missing):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    with pytest.raises(ImportError) as caught:
        recipes.run("xor", out=tmp_path / "run")
    assert f'training a recipe needs {missing}: pip install "fastdl[train]"' in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "values, error, text",
    [
        ({"lr": 0}, ValueError, "'lr' must be a finite number above 0, got 0.0"),
        ({"lr": math.nan}, ValueError, "'lr' must be a finite number above 0, got nan"),
        ({"lr": math.inf}, ValueError, "'lr' must be a finite number above 0, got inf"),
        ({"lr": "fast"}, TypeError, "'lr' must be a finite number above 0, got 'fast'"),
        ({"epochs": 0}, ValueError, "'epochs' must be an integer, at least 1, got 0"),
        ({"epochs": 1.5}, TypeError, "'epochs' must be an integer, at least 1, got 1.5"),
        ({"epochs": True}, TypeError, "'epochs' must be an integer, at least 1, got True"),
        ({"steps": -1}, ValueError, "'steps' must be an integer, at least 1 or none, got -1"),
        ({"dropout": 1.0}, ValueError, "'dropout' must be a finite number, at least 0 and below 1, got 1.0"),
        ({"optimizer": "lion"}, ValueError, "'optimizer' must be sgd or rmsprop or adam or adamw, got 'lion'"),
        ({"tensorboard": 1}, TypeError, "'tensorboard' must be true or false, got 1"),
        ({"batchsize": 1}, ValueError, "unknown setting 'batchsize', did you mean 'batch_size'"),
        ({"zzz": 1}, ValueError, "unknown setting 'zzz'; Valid settings: batch_size, .*, weight_decay"),
    ],
)  # fmt: skip
def test_what_settings_refuse(values, error, text):
    with pytest.raises(error, match=text):
        recipes.get("digits").Settings.from_dict(values)


@pytest.mark.parametrize(
    "key, text, want",
    [
        ("lr", "1e-2", 0.01),
        ("epochs", "7", 7),
        ("steps", "none", None),
        ("steps", "12", 12),
        ("max_grad_norm", "0.5", 0.5),
        ("optimizer", "sgd", "sgd"),
        ("tensorboard", "Yes", True),
        ("tensorboard", "0", False),
    ],
)
def test_parse(key, text, want):
    got = parse(Settings, key, text)
    assert got == want and type(got) is type(want)


@pytest.mark.parametrize(
    "key, text, message",
    [
        ("lr", "fast", "'lr' must be a number, got 'fast'"),
        ("epochs", "1.5", "'epochs' must be an integer, got '1.5'"),
        ("epochs", "none", "'epochs' must be an integer, got 'none'"),
        ("steps", "", "'steps' must be an integer or none, got ''"),
        ("tensorboard", "maybe", "'tensorboard' must be true or false, got 'maybe'"),
        ("momentun", "1", "unknown setting 'momentun', did you mean 'momentum'"),
    ],
)
def test_parse_refuses(key, text, message):
    with pytest.raises(ValueError, match=message):
        parse(Settings, key, text)


def test_unknown_recipe():
    with pytest.raises(ValueError, match="unknown recipe 'digit', did you mean 'digits'"):
        recipes.run("digit")
    with pytest.raises(ValueError, match="Recipes: digits, xor, mnist-mlp, lenet5"):
        recipes.get("qqq")
