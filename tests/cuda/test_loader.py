"""Loading the CUDA kernels: every link that can be missing is named. The modules behind it are stand-ins."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from fastdl import kernels
from fastdl.kernels import _libraries
from fastdl.kernels import numpy as reference


class CUDARuntimeError(RuntimeError):
    pass


def fail(error, asked=None):
    def call(*args):
        if asked is not None:
            asked.extend(args)
        raise error

    return call


@pytest.fixture
def modules(monkeypatch):
    """A working `fastdl._cuda` and CuPy, for tests to break."""
    extension = ModuleType("fastdl._cuda")
    for name in reference.__all__:
        setattr(extension, name, name)
    extension.probe, extension.architectures = lambda: None, "90-real"
    extension.write_words = extension.Staging = None
    extension.set_tf32 = extension.get_tf32 = extension.set_bfloat16 = lambda *args: None
    extension.cublaslt_plans = extension.cudnn_plans = list
    extension.set_cublaslt_finder = extension.set_cudnn_finder = lambda find: None
    extension.load_cublaslt, extension.load_cudnn = lambda path: 130100, lambda path: 91002
    _libraries.cublaslt.forget()
    _libraries.cudnn.forget()
    cupy = ModuleType("cupy")
    cupy.ndarray = type("ndarray", (), {})
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError)
    device = SimpleNamespace(id=0, compute_capability="61")
    cupy.cuda = SimpleNamespace(runtime=runtime, Device=lambda: device)
    monkeypatch.setitem(sys.modules, "fastdl._cuda", extension)
    monkeypatch.setattr("fastdl._cuda", extension, raising=False)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(sys.modules, "fastdl.kernels.cuda", raising=False)
    monkeypatch.setattr(kernels, "_cuda", None)
    monkeypatch.setattr(kernels, "gpu_arrays", ())
    yield SimpleNamespace(extension=extension, cupy=cupy, monkeypatch=monkeypatch)
    _libraries.cublaslt.forget()
    _libraries.cudnn.forget()
    sys.modules.pop("fastdl.kernels.cuda", None)
    if hasattr(kernels, "cuda"):
        del kernels.cuda


def test_all_links_there(modules):
    backend = kernels.backend("cuda")
    assert backend.name == "cuda" and backend.relu_forward == "relu_forward"
    assert set(backend.__all__) == set(reference.__all__)


def test_no_module_in_this_build(modules):
    modules.monkeypatch.setitem(sys.modules, "fastdl._cuda", None)
    with pytest.raises(RuntimeError, match=r"this build of fastdl has no CUDA kernels \(.*FASTDL_CUDA=ON\)$"):
        kernels.backend("cuda")


def test_no_cupy(modules):
    modules.monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"CuPy is not installed \(pip install 'cupy-cuda13x\[ctk\]'\)$"):
        kernels.backend("cuda")


@pytest.mark.parametrize("driver", [True, False])
def test_nothing_there(modules, driver):
    """All links are named, the driver first: without one, the others are of no use."""
    asked = []
    modules.monkeypatch.setattr("ctypes.CDLL", asked.append if driver else fail(OSError("no such file"), asked))
    modules.monkeypatch.setitem(sys.modules, "fastdl._cuda", None)
    modules.monkeypatch.setitem(sys.modules, "cupy", None)
    links = ["there is no NVIDIA driver", "this build of fastdl has no CUDA kernels", "CuPy is not installed"]
    with pytest.raises(RuntimeError) as caught:
        kernels.backend("cuda")
    reasons = str(caught.value).split(" is not available: ")[1].split("; ")
    assert [reason.split(" (")[0] for reason in reasons] == links[driver:] and asked == ["libcuda.so.1"]


def test_no_driver(modules):
    modules.cupy.cuda.runtime.getDeviceCount = fail(CUDARuntimeError("driver version is insufficient"))
    with pytest.raises(RuntimeError, match="CUDA finds no NVIDIA driver or GPU: driver version is insufficient"):
        kernels.backend("cuda")


def test_no_gpu(modules):
    modules.cupy.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(RuntimeError, match="CUDA finds no GPU"):
        kernels.backend("cuda")


def test_gpu_without_code_for_it(modules):
    modules.extension.probe = fail(RuntimeError("no kernel image is available"))
    with pytest.raises(RuntimeError, match=r"GPU 0 \(compute capability 61\) can't run .* for 90-real: no kernel"):
        kernels.backend("cuda")


@pytest.fixture
def pathfinder(modules):
    """A cuda-pathfinder that finds a file, and what the loaders were given."""
    found = ModuleType("cuda.pathfinder")
    found.load_nvidia_dynamic_lib = lambda name: SimpleNamespace(abs_path=f"/wheel/lib{name}.so.13")
    modules.monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    modules.monkeypatch.setitem(sys.modules, "cuda.pathfinder", found)
    found.asked = []
    modules.extension.load_cublaslt = lambda path: found.asked.append(path) or 130100
    modules.extension.load_cudnn = lambda path: found.asked.append(path) or 91002
    return found


def test_cublaslt_by_pathfinder(modules, pathfinder):
    finders = []
    modules.extension.set_cublaslt_finder = finders.append
    backend = kernels.backend("cuda")
    assert pathfinder.asked == [] and "not looked for yet" in _libraries.cublaslt.status()
    finders[0]()
    finders[0]()
    assert pathfinder.asked == ["/wheel/libcublasLt.so.13"]
    assert backend.cublaslt() == "13.1.0"


def test_cublaslt_by_the_linker(modules, pathfinder):
    pathfinder.load_nvidia_dynamic_lib = lambda name: fail(RuntimeError("no libcublasLt.so*\nsearched: /wheel"))()
    assert kernels.backend("cuda").cublaslt() == "13.1.0"
    assert pathfinder.asked == [None]


def test_no_pathfinder_and_no_cublaslt(modules, pathfinder):
    modules.monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    modules.extension.load_cublaslt = lambda path: fail(RuntimeError("libcublasLt.so.13: cannot open"))()
    assert kernels.backend("cuda").cublaslt() == (
        "missing, fastdl's own products serve: import of cuda.pathfinder halted; None in sys.modules; "
        "libcublasLt.so.13: cannot open"
    )


def test_cudnn_by_pathfinder(modules, pathfinder):
    pathfinder.load_nvidia_dynamic_lib = lambda name: SimpleNamespace(abs_path=f"/wheel/lib{name}.so.9")
    finders = []
    modules.extension.set_cudnn_finder = finders.append
    backend = kernels.backend("cuda")
    assert pathfinder.asked == [] and "the first of the convolutions does" in _libraries.cudnn.status()
    finders[0]()
    finders[0]()
    assert pathfinder.asked == ["/wheel/libcudnn.so.9"]
    assert backend.cudnn() == "9.10.2"


@pytest.mark.parametrize("has", [True, False], ids=["wheel", "no wheel"])
def test_cudnn_unknown_to_pathfinder(modules, pathfinder, tmp_path, has):
    """The wheel's library by its path, or the dynamic linker's own search."""
    pathfinder.load_nvidia_dynamic_lib = lambda name: fail(RuntimeError(f"Unknown library name: {name}"))()
    path = tmp_path / "nvidia/cudnn/lib/libcudnn.so.9"
    path.parent.mkdir(parents=True)
    if has:
        path.touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "nvidia"]:
        modules.monkeypatch.delitem(sys.modules, name)
    modules.monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert kernels.backend("cuda").cudnn() == "9.10.2"
    assert pathfinder.asked == [str(path) if has else None]


def test_no_cudnn(modules):
    modules.monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    modules.monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    modules.extension.load_cudnn = lambda path: fail(RuntimeError("libcudnn.so.9: cannot open"))()
    assert kernels.backend("cuda").cudnn() == (
        "missing, fastdl's own convolutions serve: import of cuda.pathfinder halted; None in sys.modules; "
        "no package has nvidia/cudnn/lib/libcudnn.so.9; libcudnn.so.9: cannot open"
    )


def test_importing_fastdl_loads_neither_cupy_nor_cuda():
    import subprocess

    code = "import sys, fastdl; raise SystemExit(any(m in sys.modules for m in ('cupy', 'fastdl._cuda')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
