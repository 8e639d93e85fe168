"""What `fastdl bench` prints: a table that grows row by row, and a summary that shows where fastdl loses."""

from __future__ import annotations

import math

from ..explain import duration

WIDTH = 80
COLUMNS = {"torch-compile": "compile", "torch-graph": "graph"}  # shorter in a heading
TIME, SPREAD, RATE, CEILING, RATIO = 8, 5, 11, 5, 7


class Table:
    """The rows as they finish; on a terminal, a line below says which case is being measured.

    rivals: the columns of ratios. Names have what the other columns leave of 80 characters; a longer one has a line of
    its own.
    """

    def __init__(self, rivals, out):
        self.rivals, self.out = tuple(rivals), out
        self._live = out.isatty() if hasattr(out, "isatty") else False
        ratios = sum(self._width(rival) for rival in self.rivals)
        self.name = max(8, WIDTH - TIME - SPREAD - RATE - CEILING - ratios)

    @staticmethod
    def _width(rival: str) -> int:
        return max(RATIO, len(COLUMNS.get(rival, rival)) + 2)

    def heading(self) -> None:
        """Print the names of the columns and what they mean."""
        ratios = "".join(f"{'/' + COLUMNS.get(rival, rival):>{self._width(rival)}}" for rival in self.rivals)
        columns = f"{'fastdl':>{TIME}}{'+-':>{SPREAD}}{'rate':>{RATE}}{'ceil':>{CEILING}}"
        self._print(f"{'case':<{self.name}}{columns}{ratios}")
        self._print("  ceil: the least possible time over fastdl's; /...: fastdl's over the rival's")
        if "target" in self.rivals:
            self._print("  /target: over the time to be reached on an H200")
        if "eager" in self.rivals:
            self._print("  /eager: over fastdl's own for the same step not captured")

    def measuring(self, name: str, count: str = "") -> None:
        """Say what is being measured, on a terminal; count: such as "3 of 40: "."""
        if self._live:
            self.out.write(f"\r\x1b[K  {count}measuring {name}"[: WIDTH + 4])
            self.out.flush()

    def clear(self) -> None:
        """Take that line away."""
        if self._live:
            self.out.write("\r\x1b[K")
            self.out.flush()

    def add(self, row: dict) -> None:
        """Print one row."""
        ours = row["seconds"]["fastdl"]
        spread = f"{100 * (ours['high'] - ours['low']) / ours['median']:.0f}%"
        of_ceiling = f"{100 * row['of_ceiling']:.0f}%" if row["of_ceiling"] else "-"
        columns = f"{duration(ours['median']):>{TIME}}{spread:>{SPREAD}}{rate(row):>{RATE}}{of_ceiling:>{CEILING}}"
        ratios = "".join(f"{self._ratio(row, rival):>{self._width(rival)}}" for rival in self.rivals)
        name = label(row)
        if len(name) > self.name:
            self._print(name)
            name = ""
        self._print(f"{name:<{self.name}}{columns}{ratios}")

    @staticmethod
    def _ratio(row: dict, rival: str) -> str:
        return f"{row['ratio'][rival]:.2f}" if rival in row["ratio"] else "-"

    def _print(self, line: str) -> None:
        print(("\r\x1b[K" if self._live else "") + line, file=self.out, flush=True)


def label(row: dict) -> str:
    """A row's name: the family and the case, unless that would say it twice."""
    told = row["family"] == "training" or row["family"] in row["case"]
    return row["case"] if told else f"{row['family']} {row['case']}"


def rate(row: dict) -> str:
    """GF/s of a row that is arithmetic, else GB/s; how many times faster than one thread, if that was timed."""
    if "1 thread" in row["ratio"]:
        return f"{1 / row['ratio']['1 thread']:.2f} x"
    amount, unit = (row["flops"], "GF/s") if row["flops"] else (row["bytes"], "GB/s")
    amount = amount / row["seconds"]["fastdl"]["median"] / 1e9
    return f"{amount:.{3 if amount >= 1 else 2}g} {unit}"


def summary(rows: list[dict], rivals) -> list[str]:
    """For each rival: how many rows are faster, the geometric mean of the ratios, and the rows where fastdl loses."""
    lines = []
    for rival in rivals:
        ratios = {label(row): row["ratio"][rival] for row in rows if rival in row["ratio"]}
        if not ratios:
            continue
        lost = sorted(((ratio, name) for name, ratio in ratios.items() if ratio > 1), reverse=True)
        mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
        lines.append(
            f"against {rival}: faster in {len(ratios) - len(lost)} of {len(ratios)} rows, slower in {len(lost)}; "
            f"geometric mean {mean:.2f}"
        )
        lines += [f"  {ratio:5.2f}  {name}" for ratio, name in lost]
    return lines
