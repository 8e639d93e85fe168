"""`fastdl info`: version, backends and why one is missing, instruction set, threads, GPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

from .. import kernels
from ..device import config


def run(args) -> int:
    """Print it."""
    for key, value in lines():
        print(f"{key:<16}{value}")
    return 0


def lines() -> list[tuple[str, str]]:
    """(what, value) for every line of the report."""
    found = config()
    out = [
        ("fastdl", found["version"]),
        ("Python", f"{platform.python_version()}, NumPy {found['numpy']}"),
        ("system", f"{platform.system()} {platform.machine()}, {cpu_name()}"),
    ]
    for name, state in found["backends"].items():
        text = "available" if state is True else _reason(state)
        out.append((f"backend {name}", text + (", in use" if name == found["device"] else "")))
    if found["isa"] is None:
        out.append(("instructions", "NumPy's own choice (the compiled backend is missing)"))
    else:
        levels = ", ".join(found["isa_levels"])
        out.append(("instructions", f"{found['isa']} (this CPU has {levels}; FASTDL_CPU_ISA forces one)"))
    out.append(("threads", f"{found['threads']} of {usable_cores()} cores"))
    out.append(("GPU", gpu_name() or "none found"))
    if found["backends"]["cuda"] is True:
        out.append(("cuBLASLt", kernels.backend("cuda").cublaslt()))
        out.append(("cuDNN", kernels.backend("cuda").cudnn()))
    return out


def _reason(text: str) -> str:
    """Why a backend is missing, without the words that repeat its name."""
    return "missing: " + text.split(" is not available: ", 1)[-1]


def cpu_name() -> str:
    """The CPU as its maker calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("model name", "Hardware")):
                    return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or "unknown CPU"


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_name() -> str | None:
    """Names of NVIDIA GPUs that the driver reports, or None."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        command = [tool, "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return ", ".join(line.strip() for line in answer.splitlines() if line.strip()) or None
