"""Peak memory of training LeNet-5, each framework in a process of its own that loads nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

NAME = "memory LeNet-5, 20 steps"
FRAMEWORKS = ("fastdl", "torch")

# Names are the same in both, so the script is.
SCRIPT = """
import importlib, json, sys
import numpy as np

def peak():  # ru_maxrss would begin with that of the process that started this one
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

name, threads = sys.argv[1], int(sys.argv[2])
fd = importlib.import_module(name)
nn, optim = (importlib.import_module(f"{name}.{part}") for part in ("nn", "optim"))
imported = peak()
fd.set_num_threads(threads)
model = nn.Sequential(
    nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10),
)
rng = np.random.default_rng(0)
x = fd.from_numpy(rng.standard_normal((100, 1, 28, 28), np.float32))
y = fd.from_numpy(rng.integers(0, 10, 100))
if name == "torch":
    x, model = x.contiguous(memory_format=fd.channels_last), model.to(memory_format=fd.channels_last)
optimizer = optim.Adam(model.parameters(), **({"fused": True} if name == "torch" else {}))

def step(x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

step = getattr(fd, "capture", lambda step: step)(step)
for _ in range(20):
    step(x, y)
print(json.dumps({"peak": peak(), "imported": imported}))
"""


def measure(rivals, progress) -> dict:
    """Bytes per framework: the process' peak, and what of it was there after the import."""
    progress(NAME)
    wanted = [name for name in FRAMEWORKS if name == "fastdl" or name in rivals]
    return {name: _measure(name, rivals.threads) for name in wanted}


def lines(memory: dict) -> list[str]:
    """The section of the report."""
    text = ["", f"{NAME} of batch 100: peak of a fresh process, and what it needs to import"]
    for name, bytes in memory.items():
        text.append(f"  {name:<8}{bytes['peak'] / 1e6:7.0f} MB{bytes['imported'] / 1e6:7.0f} MB")
    return text


def _measure(name: str, threads: int) -> dict:
    import fastdl

    paths = [str(Path(fastdl.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", SCRIPT, name, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{NAME}: {name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)
