"""The picture of `fastdl bench --plot`: time of a training step against batch size and against width."""

from __future__ import annotations

import math
import os

FORMATS = (".png", ".svg", ".pdf")
INK, GRID = "#333333", "#E6E6E6"
STYLES = {
    "fastdl": ("#E4572E", 2.6), "eager": ("#F2A08A", 1.6), "numpy": ("#8A8F98", 1.6), "torch": ("#4C78A8", 1.6),
    "torch-compile": ("#54A24B", 1.6), "jax": ("#9467BD", 1.6), "ceiling": ("#BBBBBB", 1.2),
}  # fmt: skip
LABELS = {"eager": "fastdl, not captured", "ceiling": "machine's ceiling"}
TITLES = {"batch": ("batch size", "Time of a training step against batch size"),
          "width": ("units in each hidden layer", "Time of a training step against width")}  # fmt: skip


def check(path) -> None:
    """Raise before anything is measured if the picture could not be drawn: ImportError, ValueError."""
    if not str(path).endswith(FORMATS):
        raise ValueError(f"--plot must name a file that ends in .png, .svg or .pdf, got {path}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('--plot needs matplotlib: pip install "fastdl[bench]"') from error


def draw(sweeps: dict, machine: dict, path) -> None:
    """Draw what `sweep.measure` found into a file; machine: the report's environment."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(sweeps), 4.6), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(sweeps), squeeze=False)[0]
    for axis, (name, sweep) in zip(axes, sweeps.items()):
        _panel(axis, name, sweep)
    threads = f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    note = f"{machine['machine']}, {threads}, float32. Medians, with the quartiles as bands; both axes logarithmic."
    figure.supxlabel(note, fontsize=8, color="#777777", x=0.01, ha="left")
    temporary = f"{path}.{os.getpid()}.tmp"
    figure.savefig(temporary, format=os.path.splitext(str(path))[1][1:])
    os.replace(temporary, path)


def _panel(axis, name: str, sweep: dict) -> None:
    values, ends = sweep["values"], {}
    for rival, line in sweep["seconds"].items():
        color, width = STYLES[rival]
        dashed = {"linestyle": (0, (4, 3))} if rival == "ceiling" else {"marker": "o", "markersize": 1.6 * width}
        top = 3 if rival == "fastdl" else 2
        axis.plot(values, line["median"], color=color, linewidth=width, zorder=top, **dashed)
        if "low" in line:
            axis.fill_between(values, line["low"], line["high"], color=color, alpha=0.15, linewidth=0)
        ends[rival] = line["median"][-1]
    _axes(axis, values)
    _label(axis, values[-1], ends)
    xlabel, title = TITLES[name]
    axis.set_title(f"{title}\n", fontsize=11, color=INK, loc="left")
    axis.text(0, 1.02, sweep["model"], transform=axis.transAxes, fontsize=9, color="#777777")
    axis.set_xlabel(xlabel, fontsize=9.5, color=INK)
    axis.set_ylabel("time of one step", fontsize=9.5, color=INK)


def _axes(axis, values) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(values if len(values) < 9 else values[::2]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 3)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda second, _: _time(second)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=INK, labelsize=9, length=0)
    for side, spine in axis.spines.items():
        spine.set(visible=side == "bottom", color="#BBBBBB")


def _label(axis, x: float, ends: dict[str, float]) -> None:
    """Names at the ends of the lines, moved apart where they would touch."""
    low, high = (math.log10(limit) for limit in axis.get_ylim())
    gap = 0.055 * (high - low)
    places: dict[str, float] = {}
    for rival in sorted(ends, key=ends.get):
        places[rival] = max([math.log10(ends[rival])] + [place + gap for place in places.values()])
    shift = sum(places[rival] - math.log10(ends[rival]) for rival in ends) / max(len(ends), 1)
    for rival, place in places.items():
        weight = "bold" if rival == "fastdl" else "normal"
        color = "#999999" if rival == "ceiling" else STYLES[rival][0]
        text = LABELS.get(rival, rival)
        axis.annotate(text, (x, 10 ** (place - shift)), xytext=(8, 0), textcoords="offset points", va="center",
                      fontsize=9, color=color, fontweight=weight, annotation_clip=False)  # fmt: skip


def _time(second: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if second * factor >= 0.999:
            return f"{second * factor:g} {unit}".replace("e+02", "00")
    return f"{second * 1e9:g} ns"
