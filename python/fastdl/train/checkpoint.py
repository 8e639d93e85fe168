"""Checkpoints: everything that decides how training goes on, in one safetensors file.

Arrays (model, optimizer, callbacks) are tensors of the file; the rest (steps, history, schedule, the loader's position,
random state) is JSON in its header. No pickle: loading a checkpoint runs no code. The file is replaced atomically and
carries a checksum. Training resumed from a checkpoint gives the same bits as training that was never stopped.
"""

from __future__ import annotations

import os

from .. import serialization

_PARTS = {"model", "optimizer", "callbacks", "loader", "random", "progress", "history"}


def save_checkpoint(path, trainer) -> None:
    """Write a Trainer's state to `path`, atomically. Needs safetensors (ImportError says how to get it)."""
    arrays: dict = {}
    tree = serialization.pack(trainer.state_dict(), arrays, caller="save_checkpoint")
    serialization.write_file(path, arrays, {"checkpoint": tree})


def load_checkpoint(path, trainer) -> None:
    """Restore a Trainer from `path`; `fit` then goes on as if it had never stopped.

    The Trainer must be built as the one that was saved: model, optimizer, scheduler, loaders.
    Raises FileNotFoundError; ValueError naming the file when it is truncated, altered, no checkpoint, or belongs to
    another model or optimizer. The Trainer's model is unchanged if the file itself is at fault.
    """
    state = read_checkpoint(path)
    try:
        trainer.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        message = error.args[0] if error.args else error
        raise ValueError(f"{os.fspath(path)}: the checkpoint does not fit this training: {message}") from error


def read_checkpoint(path) -> dict:
    """The state in a checkpoint file, with NumPy arrays; raises as `load_checkpoint`."""
    arrays, header = serialization.read_file(path)
    if "checkpoint" not in header:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of fastdl.train, only tensors")
    state = serialization.unpack(header["checkpoint"], arrays, path)
    if not isinstance(state, dict) or not _PARTS <= state.keys():
        raise ValueError(f"{os.fspath(path)}: damaged checkpoint: it must hold {', '.join(sorted(_PARTS))}")
    return state
