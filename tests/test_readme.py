"""The README's Python runs as it stands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastdl as fd

README = (Path(__file__).parent.parent / "README.md").read_text()


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_example_trains(tmp_path):
    script = tmp_path / "example.py"
    script.write_text(python_blocks()[0])
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"test accuracy (\d\.\d+)", done.stdout).group(1))
    assert accuracy >= 0.95


def test_saved_weights_are_used(tmp_path):
    from fastdl.cli import main

    folder = tmp_path / "mine"
    assert main(["train", "digits", "--epochs", "3", "--out", str(folder)]) == 0
    script = tmp_path / "load.py"
    check = "print((model(images).argmax(1).numpy() == digits.labels[digits.test]).mean())"
    script.write_text(python_blocks()[1].replace("runs/mine", str(folder)) + check)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) >= 0.9
    config = json.loads((folder / "config.json").read_text())
    assert (config["model"], config["input"]["scale"]) == ("SmallCNN", 1 / 16)


@pytest.mark.skipif(fd.get_device() != "cpu", reason="needs the compiled kernels")
def test_captured_step_is_explained(tmp_path):
    script = tmp_path / "capture.py"
    script.write_text(python_blocks()[0] + python_blocks()[2])
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("call  ") :].splitlines()
    assert table[1].startswith("copy") or table[1].startswith("linear_forward"), table
    assert any(line.startswith("adam_step") for line in table)


def test_example_on_the_gpu(cuda, capsys):
    try:
        exec(compile(python_blocks()[3], "README.md", "exec"), {})
    finally:
        fd.set_device("cpu")
    assert float(capsys.readouterr().out.split()[-1]) >= 0.95


def test_example_is_short():
    assert len([line for line in python_blocks()[0].splitlines() if line.strip()]) <= 16


def test_mixed_precision(tmp_path):
    script = tmp_path / "mixed.py"
    batch, shown = "images, labels = next(iter(train))\n", "print(model[1].weight.grad.dtype, loss.dtype)"
    script.write_text(python_blocks()[0] + batch + python_blocks()[4] + shown)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "float32 float32"
