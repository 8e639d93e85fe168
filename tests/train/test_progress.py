"""What a person sees: rows everywhere, a live bar on a terminal, never wider than 80 columns."""

import io
import re
import sys

import pytest

from fastdl.train import LambdaCallback, ProgressBar
from fastdl.train.progress import _clock, _number


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def _lines(problem, file, **length):
    p = problem(callbacks=[ProgressBar("images", file)])
    p.fit(**length)
    return file.getvalue()


def test_rows_where_there_is_no_terminal(problem):
    text = _lines(problem, io.StringIO(), epochs=3)
    assert "\x1b" not in text
    head, *rows = text.splitlines()
    assert re.split("  +", head.strip()) == [
        "epoch", "loss", "accuracy", "val loss", "val accuracy", "images/s", "time"
    ]  # fmt: skip
    number = r"\s+\d+\.\d{4}\s+\d+\.\d\d %"
    for epoch, row in enumerate(rows, start=1):
        assert re.fullmatch(rf" *{epoch}/3{number}{number}\s+[\d,]+\s+\d+:\d\d", row), row
    assert len(rows) == 3
    assert max(map(len, text.splitlines())) <= 80


def test_a_long_run_prints_every_nth_row_and_the_last(problem):
    rows = _lines(problem, io.StringIO(), epochs=101, steps=1001).splitlines()[1:]
    epochs = [int(row.split("/")[0]) for row in rows]
    assert epochs[0] == 1 and epochs[-1] == 101 and 20 <= len(epochs) <= 30
    assert len(set(epochs)) == len(epochs)
    rows = _lines(problem, io.StringIO(), epochs=52).splitlines()[1:]
    assert [int(row.split("/")[0]) for row in rows][-1] == 52


def test_the_bar_of_a_terminal_fits(problem, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr("fastdl.train.progress._REFRESH", 0.0)
    text = _lines(problem, Terminal(), epochs=2)
    assert "\x1b[?25l" in text and "\x1b[?25h" in text  # the cursor is hidden, and shown again
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", plain)]
    bars = [line for line in lines if line.startswith("epoch ") and "━" in line]
    assert len(bars) > 10
    assert max(map(len, lines)) < 80
    figures = r"loss \d\.\d{4}  acc \d+\.\d\d % [\d,]+ images/s \d+:\d\d left"
    assert re.search(rf"epoch 2/2 ━+\S* +{figures}", "\n".join(bars))
    assert sum(bool(re.match(r" *[12]/2 ", line)) for line in lines) == 2


def test_the_terminal_is_given_back_after_an_error(problem):
    pytest.importorskip("rich")

    def fail(trainer):
        raise ZeroDivisionError

    file = Terminal()
    p = problem(callbacks=[ProgressBar(file=file), LambdaCallback(on_step_end=fail)])
    with pytest.raises(ZeroDivisionError):
        p.fit(epochs=1)
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")


def test_without_rich_or_on_a_dumb_terminal_rows_are_printed(problem, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in _lines(problem, Terminal(), epochs=1)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    text = _lines(problem, Terminal(), epochs=1)
    assert "\x1b" not in text and " 1/1 " in text


def test_why_a_run_ended_is_said(problem):
    file = io.StringIO()
    stop = LambdaCallback(on_step_end=lambda trainer: trainer.stop("enough") if trainer.step == 3 else None)
    problem(callbacks=[stop, ProgressBar(file=file)]).fit(epochs=2)
    assert file.getvalue().splitlines()[-1] == "stopped early: enough"


def test_a_loader_without_length_and_no_validation(problem):
    class Endless:
        def __init__(self, loader):
            self.loader = loader

        def __iter__(self):
            return iter(self.loader)

    file = io.StringIO()
    p = problem(callbacks=[ProgressBar(file=file)])
    p.trainer.fit(Endless(p.train), steps=15)
    rows = file.getvalue().splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert " - " in rows[0]


@pytest.mark.parametrize(
    "name, value, want",
    [
        ("accuracy", 0.98765, "98.77 %"),
        ("val_accuracy", 1.0, "100.00 %"),
        ("loss", 0.12345, "0.1235"),
        ("loss", 0.0, "0.0000"),
        ("loss", 1.5e-5, "1.50e-05"),
        ("loss", 123456.0, "1.23e+05"),
        ("loss", None, "-"),
    ],
)
def test_figures(name, value, want):
    assert _number(name, value) == want


@pytest.mark.parametrize("seconds, want", [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3725, "1:02:05")])
def test_clock(seconds, want):
    assert _clock(seconds) == want
