"""The README's Python runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_example_trains(tmp_path):
    script = tmp_path / "example.py"
    script.write_text(python_blocks()[0])
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"test accuracy (\d\.\d+)", done.stdout).group(1))
    assert accuracy >= 0.95


def test_example_is_short():
    assert len([line for line in python_blocks()[0].splitlines() if line.strip()]) <= 16
