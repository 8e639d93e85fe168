"""What a download shows while it runs, where its file goes, and what importing it costs."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastdl
from fastdl.data.download import _Progress, cache_dir


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report(clock, wanted=True):
    progress = _Progress("file.bin", wanted, clock)
    progress.start(0, 40_000_000)
    for second in range(0, 31):
        clock.now = 100.0 + second
        progress.update(second * 1_000_000)
    progress.close()


def test_a_slow_download_prints_a_line_now_and_then(capsys):
    report(Clock())
    assert capsys.readouterr().err.splitlines() == [
        "downloading file.bin: 2.0 of 40.0 MB",
        "downloading file.bin: 12.0 of 40.0 MB",
        "downloading file.bin: 22.0 of 40.0 MB",
    ]


def test_progress_can_be_switched_off(capsys):
    report(Clock(), wanted=False)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    pytest.importorskip("rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    report(Clock())
    assert "file.bin" in terminal.getvalue() and "30.0/40.0 MB" in terminal.getvalue()


def test_a_terminal_without_rich_gets_lines(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich", None)
    report(Clock())
    assert terminal.getvalue().count("downloading file.bin") == 3


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTDL_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_dir() == tmp_path / "a"
    monkeypatch.setenv("FASTDL_CACHE", "")
    assert cache_dir() == tmp_path / "b" / "fastdl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "fastdl"


def test_import_loads_no_network_and_no_extras():
    code = """if True:
        import sys, numpy
        known = set(sys.modules)
        import fastdl.data
        print([m for m in ("http.client", "urllib.request", "gzip", "rich") if m in set(sys.modules) - known])
    """
    env = {**os.environ, "PYTHONPATH": str(Path(fastdl.__file__).parents[1])}
    out = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout == "[]\n"
