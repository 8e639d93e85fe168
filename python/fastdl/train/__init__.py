"""Training: a loop that evaluates, logs, stops early, survives Ctrl-C and resumes to the same bits.

`Trainer` is the loop, callbacks add to it, checkpoints hold everything. Training by itself needs NumPy only; the
progress bar (rich), plots (matplotlib), TensorBoard logs (tensorboardX) and checkpoints (safetensors) are loaded when
they are used: `pip install "fastdl[train]"`.
"""

from . import plots
from .callbacks import (
    BestCheckpoint,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LRSchedule,
    TensorBoardLogger,
)
from .checkpoint import load_checkpoint, save_checkpoint
from .metrics import accuracy
from .progress import ProgressBar
from .trainer import Trainer

__all__ = [
    "BestCheckpoint",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LRSchedule",
    "LambdaCallback",
    "ProgressBar",
    "TensorBoardLogger",
    "Trainer",
    "accuracy",
    "load_checkpoint",
    "plots",
    "save_checkpoint",
]
