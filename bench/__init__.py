"""Benchmarks: every case checks its result, then times fastdl and its rivals in interleaved rounds.

Installed as `fastdl.bench`; `fastdl bench` runs it. `kernels/` holds one module per kernel family, each with a function
`cases()`; `timer` is the only timer.
"""
