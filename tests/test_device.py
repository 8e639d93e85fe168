"""Devices, threads, the configuration report, and what importing costs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastdl as fd
from fastdl import kernels
from fastdl.device import config


@pytest.fixture(autouse=True)
def _restore():
    before = kernels._host, fd.get_num_threads()
    yield
    kernels._host = before[0]
    fd.set_num_threads(before[1])


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_set_device():
    fd.set_device("numpy")
    assert fd.get_device() == "numpy" == fd.ones(1).device


def test_precision_of_products():
    assert fd.get_float32_matmul_precision() == "highest"
    fd.set_float32_matmul_precision("high")
    assert fd.get_float32_matmul_precision() == "high"
    fd.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match="precision must be 'highest' or 'high', got 'medium'"):
        fd.set_float32_matmul_precision("medium")


def test_device_context_nests_and_restores():
    fd.set_device("numpy")
    block = fd.device("numpy")
    with block, block:
        assert fd.get_device() == "numpy"
    with pytest.raises(KeyError):
        with fd.device("numpy"):
            raise KeyError
    assert fd.get_device() == "numpy"


def test_device_context_on_the_compiled_backend(cpu):
    fd.set_device("numpy")
    with fd.device("cpu"):
        assert fd.ones(1).device == "cpu"
    assert fd.get_device() == "numpy"


@pytest.mark.parametrize("function", [fd.set_device, fd.device], ids=["set_device", "device"])
@pytest.mark.parametrize(
    "name, error, message",
    [
        ("gpu", ValueError, "device must be 'numpy', 'cpu' or 'cuda', got 'gpu'"),
        ("cuda", RuntimeError, "device 'cuda' is not available"),
        (None, TypeError, "device must be 'numpy', 'cpu' or 'cuda', got NoneType"),
        (1, TypeError, "device must be 'numpy', 'cpu' or 'cuda', got int"),
    ],
    ids=str,
)
def test_bad_devices(function, name, error, message):
    before = fd.get_device()
    with pytest.raises(error, match=message):
        function(name)
    assert fd.get_device() == before


def test_num_threads():
    fd.set_num_threads(1)
    assert fd.get_num_threads() == 1


@pytest.mark.parametrize(
    "n, error, message",
    [
        (0, ValueError, r"set_num_threads: n must lie in \[1, 256\], got 0"),
        (-2, ValueError, "got -2"),
        (257, ValueError, "got 257"),
        (1.5, TypeError, "set_num_threads: n must be an int, got float"),
        (True, TypeError, "got bool"),
        ("2", TypeError, "got str"),
    ],
    ids=str,
)
def test_bad_num_threads(n, error, message):
    with pytest.raises(error, match=message):
        fd.set_num_threads(n)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "99999999999999"])
def test_bad_thread_environment(value):
    done = python("from fastdl.cli import main; main(['info'])", FASTDL_NUM_THREADS=value)
    assert done.returncode == 0 and "threads" in done.stdout
    assert f"RuntimeWarning: FASTDL_NUM_THREADS must be a whole number in [1, 256], got '{value}'" in done.stderr


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "fastdl was installed without compiled kernels"),
        ("raise ImportError('undefined symbol: x')", "the compiled module could not be loaded: undefined symbol: x"),
        ("import nowhere", "the compiled module could not be loaded: No module named 'nowhere'"),
    ],
    ids=str,
)
def test_why_the_compiled_module_is_missing(tmp_path, content, message):
    package = shutil.copytree(
        Path(fd.__file__).parent, tmp_path / "fastdl", ignore=shutil.ignore_patterns("_cpu*", "bench", "__pycache__")
    )
    if content:
        (package / "_cpu.py").write_text(content)
    done = python("import fastdl; fastdl.set_device('cpu')", PYTHONPATH=str(tmp_path))
    assert f"RuntimeError: device 'cpu' is not available: {message}\n" in done.stderr


def test_thread_environment():
    done = python("import fastdl; print(fastdl.get_num_threads())", FASTDL_NUM_THREADS="1")
    assert done.stdout == "1\n", done.stderr


def test_config_and_its_report(capsys):
    found = config()
    assert found["backends"]["numpy"] is True and "no CUDA" in found["backends"]["cuda"]
    assert found["device"] == fd.get_device() and found["threads"] == fd.get_num_threads()
    assert found["version"] == fd.__version__
    fd.show_config()
    text = capsys.readouterr().out
    assert f"fastdl {fd.__version__}" in text and "numpy" in text and "missing: device 'cuda'" in text


def test_import_loads_nothing_extra():
    code = (
        "import sys, fastdl; extras = {'torch', 'rich', 'matplotlib', 'safetensors', 'tensorboardX',"
        " 'importlib.metadata', 'fastdl.nn', 'fastdl.train', 'fastdl.data', 'fastdl.cli', 'fastdl._cpu'};"
        " print(sorted(extras & set(sys.modules)))"
    )
    done = python(code)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="module 'fastdl' has no attribute 'nonsense'"):
        fd.nonsense  # noqa: B018
    assert {"nn", "optim", "save", "tensor", "__version__"} <= set(dir(fd))


@pytest.mark.parametrize("name", ["cuda:0", "gpu", "cpu:1"])
def test_a_device_that_is_none_is_not_taken_for_a_dtype(name):
    message = f"got '{name}'; devices are 'numpy', 'cpu' and 'cuda', without a number$"
    with pytest.raises(TypeError, match=message):
        fd.ones(2).to(name)
    with pytest.raises(TypeError, match="got 'florat'$"):
        fd.ones(2).to("florat")
