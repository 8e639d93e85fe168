"""One module per kernel family; each has `cases()`, a generator of `Case`, with shapes of real models."""
