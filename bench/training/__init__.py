"""Whole training steps: forward, loss, backward, update. One module per kind of network, each with `cases()`."""
