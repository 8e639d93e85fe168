"""Benchmarks: every case checks its result, then times fastdl and its rivals in interleaved rounds.

Installed as `fastdl.bench`; `fastdl bench` runs it. `kernels/` and `training/` hold one module per family, each with a
function `cases(rivals)`; `timer` is the only timer, `rivals` knows who is timed beside fastdl, `ceilings` measures what
the machine can do, `report` prints, `sweep` and `plot` draw how the cost of a step grows.
"""
