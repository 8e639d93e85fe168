"""The benchmark frame: it verifies before it times, and says what it can't find. Nothing here depends on speed."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

bench = pytest.importorskip("fastdl.bench", reason="the benchmarks are part of an installed package")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure as little as possible: what is tested is what is done, not how long it takes."""
    from fastdl.bench import ceilings, timer

    monkeypatch.setattr(ceilings, "SIZES", {"32 KB": 1 << 15, "1 MB": 1 << 20})
    monkeypatch.setattr(ceilings, "TRIALS", 1)
    for name in ("MIN_TURN", "REST", "LONGEST_REST", "WARM_UP"):
        monkeypatch.setattr(timer, name, 0.0)


def _case(**runs):
    from fastdl.bench.case import Case

    return Case("probe", "ones", {"fastdl": lambda: np.ones(3), "numpy": lambda: np.ones(3), **runs}, flops=3.0)


def _run(*arguments, **options):
    from fastdl.bench import run

    out = io.StringIO()
    return run.run(*arguments, out=out, **options), out.getvalue()


def test_a_wrong_result_is_not_timed():
    from fastdl.bench import timer

    timer.verify(_case())
    with pytest.raises(RuntimeError, match=r"probe ones: result 0 of torch is off by 1 \(largest entry 1\)"):
        timer.verify(_case(torch=lambda: np.zeros(3)))
    with pytest.raises(RuntimeError, match="result 0 of torch is off by nan"):
        timer.verify(_case(torch=lambda: np.full(3, np.nan)))
    with pytest.raises(RuntimeError, match=r"result 0 of torch has shape \(4,\), not \(3,\)"):
        timer.verify(_case(torch=lambda: np.ones(4)))
    with pytest.raises(RuntimeError, match="torch has 2 results, not 1"):
        timer.verify(_case(torch=lambda: (np.ones(3), np.ones(3))))
    with pytest.raises(RuntimeError, match=r"result 0 of torch \(second\) is off by 1"):
        timer.verify(_case(torch={"first": lambda: np.ones(3), "second": lambda: np.zeros(3)}))
    timer.verify(_case(torch=lambda: np.zeros(3)), wanted={"fastdl", "numpy"})


def test_later_steps_are_verified():
    from fastdl.bench import timer

    counts = {"fastdl": iter([1.0, 2.0, 3.0]), "numpy": iter([1.0, 2.0, 4.0])}
    case = _case(**{rival: lambda values=values: np.float64(next(values)) for rival, values in counts.items()})
    case.steps = 3
    with pytest.raises(RuntimeError, match="result 2 of fastdl is off by 1"):
        timer.verify(case)


def test_every_rival_is_timed_in_every_round():
    from fastdl.bench import timer

    timings = timer.measure(_case(), rounds=3)
    assert set(timings) == {"fastdl", "numpy"}
    for timing in timings.values():
        assert 0 < timing.low <= timing.median <= timing.high
    assert timings["fastdl"].ratio == 1
    assert set(timer.measure(_case(torch=lambda: None), 1, {"fastdl", "torch"})) == {"fastdl", "torch"}


def test_the_quickest_way_is_timed():
    import time

    from fastdl.bench import timer

    case = _case(torch={"idle": lambda: time.sleep(0.05), "busy": lambda: None})
    assert timer.measure(case, rounds=1)["torch"].way == "busy"


def test_a_report_is_written(tmp_path):
    report, text = _run("kernels", "relu forward 8x3", ("numpy",), rounds=1, json_path=tmp_path / "bench.json")
    assert report == json.loads((tmp_path / "bench.json").read_text())
    (row,) = report["results"]
    assert (row["family"], row["case"]) == ("activation", "relu forward 8x3")
    assert set(row["seconds"]) == {"fastdl", "numpy"} and set(row["ratio"]) == {"numpy"}
    machine = report["environment"]
    assert machine["numpy"] == np.__version__ and machine["threads"] >= 1 and machine["commit"] != ""
    assert "activation relu forward 8x3" in text
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_ceilings(cpu):
    from fastdl.bench.ceilings import LOOPS, SIZES, Ceilings

    ceilings = Ceilings()
    ceilings.measure()
    report = ceilings.report()
    assert set(report) == {"float32", "float64", *(f"{loop} {size}" for loop in LOOPS for size in SIZES)}
    assert all(0 < one["low"] <= one["median"] <= one["high"] for one in report.values())
    assert ceilings.seconds(flops=ceilings.flops(), bytes=0) == pytest.approx(1)
    for size in (1, 1 << 15, 3 << 20, 1 << 40):
        assert ceilings.seconds(flops=0, bytes=size) == pytest.approx(size / ceilings.bandwidth(size))
    assert all("GF/s" in line or "GB/s" in line for line in ceilings.lines())


def test_probes_check_their_arguments(isa):
    from fastdl import _cpu

    assert _cpu.measure_fma("float64", steps=10, trials=1) > 0
    assert all(_cpu.measure_memory(loop, size, 1) > 0 for loop in ("copy", "stream", "read") for size in (1, 100_000))
    for call, text in (
        (lambda: _cpu.measure_fma("int32"), "measure_fma: dtype must be one of 'float32', 'float64', got 'int32'"),
        (lambda: _cpu.measure_fma("float32", 0), "measure_fma: steps must"),
        (lambda: _cpu.measure_memory("copy", 0), "measure_memory: bytes must"),
        (lambda: _cpu.measure_memory("write", 1), "measure_memory: loop must be"),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert text in str(caught.value)


def test_summary_shows_where_fastdl_loses():
    from fastdl.bench.report import summary

    rows = [{"family": "f", "case": str(i), "ratio": {"torch": ratio}} for i, ratio in enumerate((0.5, 1.5, 4.0))]
    lines = summary(rows, ("numpy", "torch"))
    assert lines[0] == "against torch: faster in 1 of 3 rows, slower in 2; geometric mean 1.44"
    assert [line.split() for line in lines[1:]] == [["4.00", "f", "2"], ["1.50", "f", "1"]]


def test_unknown_names():
    with pytest.raises(ValueError, match="no benchmark case contains 'nothing'; there are cases of activation, adam"):
        _run("kernels", "nothing", ())
    near = "contains 'words PHILOX'; the nearest are 'philox 1000 words', 'philox 1000000 words'; there are cases of "
    with pytest.raises(ValueError, match=near):
        _run("kernels", "words PHILOX", ())
    with pytest.raises(ValueError, match="--against must name numpy, torch, .*torch-graph or jax, got caffe"):
        _run("kernels", "relu", ("numpy", "caffe"))
    with pytest.raises(ValueError, match="--rounds must be at least 1, got 0"):
        _run("kernels", "relu", rounds=0)


def test_a_missing_rival_is_named_and_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    report, text = _run("kernels", "relu forward 8x3", ("jax",), rounds=1)
    assert "jax is not installed: jax left out (`make bench` installs the rivals)" in text
    assert set(report["results"][0]["seconds"]) == {"fastdl"}


def test_one_number_of_threads_for_all():
    """In a process of its own: JAX makes its threads once."""
    code = """
import os, sys
import fastdl, numpy
from fastdl.bench.rivals import Rivals
rivals = Rivals(("numpy", "torch", "jax"), 1)
names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
assert fastdl.get_num_threads() == rivals.threads == 1
assert rivals.torch is None or rivals.torch.get_num_threads() == 1
assert rivals.jax is None or names.count("tf_XLAEigen") == 1
assert not [note for note in rivals.notes if "not installed" not in note], rivals.notes
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr


def _environment():
    from pathlib import Path

    import fastdl

    return os.environ | {"PYTHONPATH": str(Path(fastdl.__file__).parent.parent)}


@pytest.mark.parametrize("rival", ["torch", "jax"])
@pytest.mark.parametrize("name", ["XOR", "probe"])
def test_training_steps_agree(rival, name):
    from fastdl.bench import timer
    from fastdl.bench.rivals import Rivals
    from fastdl.bench.training import mlp
    from fastdl.bench.training._step import Task, step_case

    pytest.importorskip(rival)
    tasks = [*mlp.tasks(), Task("probe", _small_cnn, (4, 2, 8, 8), 3, "Momentum", 1.0, {"lr": 0.1, "momentum": 0.9})]
    (task,) = (task for task in tasks if name in task.name)
    case = step_case(Rivals((rival,)), task)
    assert {"fastdl", "numpy", rival} <= set(case.ways())
    timer.verify(case)


def _small_cnn(nn):
    """Every layer that the JAX steps know."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 1),
        nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.BatchNorm1d(5), nn.Linear(5, 3),
    )  # fmt: skip


def test_memory_of_a_fresh_process():
    report, text = _run("training", "memory LeNet-5", ())
    assert report["results"] == [] and set(report["memory"]) == {"fastdl"}
    assert 0 < report["memory"]["fastdl"]["imported"] < report["memory"]["fastdl"]["peak"]
    assert "memory LeNet-5, 20 steps" in text


def test_first_calls(cpu, monkeypatch):
    from fastdl.bench import first_calls

    monkeypatch.setattr(first_calls.cnn, "tasks", lambda: ())
    report, text = _run("training", "first calls", ())
    assert report["results"] == [] and [row["case"] for row in report["first_calls"]][0] == "XOR 2-3-1, batch 8, SGD"
    assert all(row[name] > 0 for row in report["first_calls"] for name in ("first", "plain", "second", "replay"))
    assert "XOR 2-3-1" in text.split("first calls of captured steps")[1]
    report, text = _run("training", "first calls", (), device="numpy")
    assert report["first_calls"] == [] and "first calls" not in text


def test_a_plot_is_written(tmp_path, monkeypatch):
    from fastdl.bench import plot, sweep

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sweep, "AXES", {"batch": [1, 2], "width": [2, 4]})
    path = tmp_path / "cost.png"
    report, _ = _run("training", "sweep", (), rounds=1, plot_path=str(path))
    for axis, values in sweep.AXES.items():
        assert report["sweeps"][axis]["values"] == values
        assert all(len(line["median"]) == 2 for line in report["sweeps"][axis]["seconds"].values())
    assert path.read_bytes().startswith(b"\x89PNG")
    plot.draw(report["sweeps"], report["environment"], tmp_path / "cost.svg")
    assert (tmp_path / "cost.svg").read_bytes().startswith(b"<?xml")
    assert {file.name for file in tmp_path.iterdir()} == {"cost.png", "cost.svg"}


def test_a_plot_that_can_t_be_drawn(monkeypatch):
    with pytest.raises(ValueError, match="--plot must name a file that ends in .png, .svg or .pdf, got cost.txt"):
        _run("training", "sweep", (), plot_path="cost.txt")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="--plot needs matplotlib"):
        _run("training", "sweep", (), plot_path="cost.png")


def test_on_the_gpu(cuda, monkeypatch):
    """Cases of every family, fastdl on the GPU beside NumPy; with a stand-in for it nothing is to be read off."""
    from fastdl.bench import gpu

    monkeypatch.setattr(gpu, "SIZES", {"1 MB": 1 << 20})
    monkeypatch.setattr(gpu, "SQUARE", 8)
    found = {}
    for suite, name in (
        ("kernels", "relu backward 8x3"), ("kernels", "linear backward 8x2x3"), ("kernels", "both relu 128x512x1x1"),
        ("kernels", "cross_entropy 8x2"), ("kernels", "max 2x2 100x64x14x14"), ("kernels", "adam optimizer"),
        ("kernels", "sgd step 0.4M"), ("kernels", "gather 100x1"), ("kernels", "affine 100x512"), ("training", "XOR"),
    ):  # fmt: skip
        report, text = _run(suite, name, ("numpy",), rounds=1, device="cuda")
        found |= {row["case"]: row for row in report["results"]}
        assert report["environment"]["backend"] == "cuda" and "float32 without TF32" in text
    assert len(found) == 10 and all({"fastdl", "numpy"} <= row["seconds"].keys() for row in found.values())
    assert "/target" in text and not any("target" in row for row in found.values())
    with pytest.raises(ValueError, match="torch-graph is a CUDA graph: it needs --device cuda"):
        _run("kernels", "relu", ("torch-graph",), device="cpu")


@pytest.fixture
def small(monkeypatch):
    """The large cases, small."""
    from fastdl.bench.kernels import large

    sizes = enumerate(large.CONVOLUTIONS.items(), 1)
    convolutions = {(n, 4, 4, 4, *shape[4:]): target for n, (shape, target) in sizes}
    for name, value in (("SQUARE", 8), ("IMAGES", (65, 4, 4)), ("SIZE", 1000), ("CONVOLUTIONS", convolutions)):
        monkeypatch.setattr(large, name, value)
    return large


def test_pytorch_agrees_in_large_cases(small, monkeypatch):
    """On the host: how it computes them needs no GPU."""
    pytest.importorskip("torch")
    from fastdl.bench import gpu, rivals, timer

    monkeypatch.setattr(gpu, "in_use", lambda: True)
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "in_use", lambda: False)
        chosen = rivals.Rivals(("torch",))
    cases = list(small.cases(chosen))
    monkeypatch.setattr(gpu, "in_use", lambda: False)
    assert len(cases) == 22
    for case in cases:
        assert "torch" in case.ways()
        timer.verify(case)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_large_cases_of_the_gpu(cuda, small, monkeypatch, precision):
    """All of them, with the times to be reached."""
    from fastdl.bench import gpu

    monkeypatch.setattr(gpu, "SIZES", {"1 MB": 1 << 20})
    monkeypatch.setattr(gpu, "SQUARE", 8)
    monkeypatch.setattr("fastdl.bench.run.modules", lambda suite: [small])
    report, text = _run("kernels", None, ("numpy",), rounds=1, device="cuda", precision_name=precision)
    rows = {f"{row['family']} {row['case']}": row for row in report["results"]}
    assert not report["failed"] and len(rows) == {"fp32": 22, "tf32": 10, "bf16": 17}[precision]
    targets = {name: row["target"] for name, row in rows.items() if "target" in row}
    if precision == "tf32":
        assert targets["linear forward relu 8x8x8"] == pytest.approx(366e-6) and len(targets) == 4
    elif precision == "fp32":
        assert targets["adam step 0.001M"] == pytest.approx(180e-6) and len(targets) == 8
    else:
        assert targets["dropout 0.0M"] == pytest.approx(33e-6) and len(targets) == 7
    assert "against target: " in text
    for name, seconds in targets.items():
        assert rows[name]["ratio"]["target"] == rows[name]["seconds"]["fastdl"]["median"] / seconds


def test_a_case_that_fails_does_not_stop_the_others(monkeypatch, tmp_path):
    from fastdl.bench import timer

    verify = timer.verify
    names = []

    def verify_all_but_the_first(case, wanted):
        names.append(case.name)
        if len(names) == 1:
            raise RuntimeError(f"{case.name}: off by 1")
        verify(case, wanted)

    monkeypatch.setattr(timer, "verify", verify_all_but_the_first)
    with pytest.raises(RuntimeError, match="1 cases failed, the first: relu forward 8x3: off by 1"):
        _run("kernels", "8x3", ("numpy",), rounds=1, json_path=tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["failed"] == ["relu forward 8x3: off by 1"] and len(report["results"]) == len(names) - 1 > 1


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_precisions_of_the_gpu(cuda, monkeypatch, precision):
    from fastdl.bench import gpu

    import fastdl as fd

    monkeypatch.setattr(gpu, "SIZES", {"1 MB": 1 << 20})
    monkeypatch.setattr(gpu, "SQUARE", 8)
    words = {"tf32": "TF32 products", "bf16": "bfloat16 products"}[precision]
    other = {"tf32": "gemm 256 nn", "bf16": "batch_norm both relu 128x512x1x1"}[precision]
    for case in ("linear forward 8x2x3", other):
        report, text = _run("kernels", case, ("numpy",), rounds=1, device="cuda", precision_name=precision)
        assert report["environment"]["precision"].startswith(words) and words in text and len(report["results"]) == 1
    report, _ = _run("training", "XOR", ("numpy",), rounds=1, device="cuda", precision_name=precision)
    assert [row["case"][:3] for row in report["results"]] == ["XOR"]
    assert fd.get_float32_matmul_precision() == "highest"
    with pytest.raises(ValueError, match=f"--precision {precision} is one of the GPU: it needs --device cuda"):
        _run("kernels", "linear", ("numpy",), device="cpu", precision_name=precision)
    with pytest.raises(ValueError, match="--precision must be one of fp32, tf32, bf16, got fp16"):
        _run("kernels", "linear", ("numpy",), device="cuda", precision_name="fp16")
