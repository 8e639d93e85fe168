"""The benchmark frame: it verifies before it times, and says what it can't find."""

import json

import numpy as np
import pytest

bench = pytest.importorskip("fastdl.bench", reason="the benchmarks are part of an installed package")


def _case(**runs):
    from fastdl.bench.case import Case

    return Case("probe", "ones", {"fastdl": lambda: np.ones(3), "numpy": lambda: np.ones(3), **runs}, flops=3.0)


def test_a_wrong_result_is_not_timed():
    from fastdl.bench import timer

    timer.verify(_case())
    with pytest.raises(RuntimeError, match=r"probe ones: result 0 of torch is off by 1 \(largest entry 1\)"):
        timer.verify(_case(torch=lambda: np.zeros(3)))
    with pytest.raises(RuntimeError, match="result 0 of torch is off by nan"):
        timer.verify(_case(torch=lambda: np.full(3, np.nan)))


def test_every_rival_is_timed_in_every_round():
    from fastdl.bench import timer

    timings = timer.measure(_case(), rounds=3)
    assert set(timings) == {"fastdl", "numpy"}
    for timing in timings.values():
        assert 0 < timing.low <= timing.median <= timing.high
    assert timings["fastdl"].ratio == 1


def test_a_report_is_written(tmp_path, capsys):
    from fastdl.bench import run

    run.run("kernels", "relu forward 8x3", ("numpy",), rounds=1, json_path=tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row["case"] for row in report["results"]] == ["relu forward 8x3"]
    assert set(report["results"][0]["seconds"]) == {"fastdl", "numpy"}
    assert "activation relu forward 8x3" in capsys.readouterr().out


def test_unknown_names():
    from fastdl.bench import run

    with pytest.raises(ValueError, match="no benchmark case contains 'nothing'; there are cases of activation, adam"):
        run.run("kernels", "nothing")
    with pytest.raises(ValueError, match="--against must name numpy or torch, got jax"):
        run.run("kernels", "relu", ("jax",))
