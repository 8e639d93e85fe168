"""Fetch a file from one of several mirrors: resumable, verified, atomic, one process at a time."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_CHUNK = 1 << 16
_ATTEMPTS = 8  # connections to one mirror; the next is opened only if the last one brought new bytes


class DownloadError(OSError):
    """No mirror gave the file; the message says where to put it by hand."""


class _Unreachable(Exception):
    """One mirror failed; the text is the reason."""


def cache_dir() -> Path:
    """The folder for downloads: $FASTDL_CACHE, else $XDG_CACHE_HOME/fastdl, else ~/.cache/fastdl."""
    if os.environ.get("FASTDL_CACHE"):
        return Path(os.environ["FASTDL_CACHE"]).expanduser().absolute()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]).expanduser().absolute() / "fastdl"
    return Path.home() / ".cache" / "fastdl"


def sha256_of(path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(urls, path, sha256: str, progress: bool = True, timeout: float = 30.0) -> Path:
    """Make sure that `path` holds the file with this SHA-256; download it if it does not.

    Args:
        urls: the mirrors, tried in turn (one str or a list; http or https).
        path: where the file shall be. Its folder is made. Beside it, `path.part` keeps what has arrived, so
            that a broken download goes on where it stopped, even in another process or from another mirror;
            `path.lock` lets one process download while others wait for it, and stays as an empty file.
        sha256: 64 hexadecimal digits. The file appears under its name, in one step, only when these match.
        progress: report to stderr when it takes more than two seconds: a bar if rich is installed and
            stderr is a terminal, else a line now and then.
        timeout: seconds without any answer after which a mirror counts as dead.

    Returns:
        the path.

    Raises:
        ValueError, TypeError: urls, sha256 or timeout are malformed.
        DownloadError: no mirror gave the file (no network, not found, wrong bytes); it names every reason and
            says which file to put where.
        OSError: the disk is full, or the folder can't be written.
    """
    urls = _check(urls, sha256, timeout)
    path, sha256 = Path(path).absolute(), sha256.lower()
    if path.is_file() and sha256_of(path) == sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "ab") as lock:
        _wait_for(lock, path, progress)
        if path.is_file() and sha256_of(path) == sha256:  # another process was faster
            return path
        part = path.with_name(path.name + ".part")
        reasons = []
        for url in urls:
            bar = _Progress(path.name, progress)
            try:
                _from_mirror(url, part, sha256, bar, timeout)
            except _Unreachable as reason:
                reasons.append(f"  {url}: {reason}")
                continue
            finally:
                bar.close()
            os.replace(part, path)
            return path
        raise DownloadError(_advice(path, sha256, urls, reasons))


def _check(urls, sha256, timeout) -> list[str]:
    urls = [urls] if isinstance(urls, str) else list(urls)
    if not urls:
        raise ValueError("fetch: urls must hold at least one address, got none")
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"fetch: urls must be strings, got {type(url).__name__}")
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"fetch: urls must start with http:// or https://, got {url!r}")
    if not isinstance(sha256, str):
        raise TypeError(f"fetch: sha256 must be a string, got {type(sha256).__name__}")
    if len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef"):
        raise ValueError(f"fetch: sha256 must be 64 hexadecimal digits, got {sha256!r}")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"fetch: timeout must be a number of seconds, got {type(timeout).__name__}")
    if not 0 < timeout < float("inf"):
        raise ValueError(f"fetch: timeout must be positive and finite, got {timeout}")
    return urls


def _wait_for(lock, path: Path, progress: bool) -> None:
    """Take the lock. The kernel drops it when the file is closed or the process dies: none can go stale."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if progress:
            print(f"waiting for another process that downloads {path}", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _advice(path: Path, sha256: str, urls, reasons) -> str:
    lines = [f"fetch: could not download {path.name}", *reasons]
    if path.is_file():
        lines += [f"The file at {path} has other contents (sha256 {sha256_of(path)})."]
    lines += ["Put the file there by hand and start again:", f"  file    {path}", f"  sha256  {sha256}"]
    lines += [f"  from    {url}" for url in urls]
    return "\n".join(lines)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _from_mirror(url: str, part: Path, sha256: str, progress, timeout: float) -> None:
    """Complete `part` from one mirror and verify it; raise _Unreachable with the reason otherwise."""
    may_start_over = True
    for _ in range(_ATTEMPTS):
        before = _size(part)
        if before and sha256_of(part) == sha256:  # a process died between the last byte and the renaming
            return
        reason = _connect(url, part, progress, timeout)
        if reason is not None:
            if _size(part) <= before:
                break
            continue
        got = sha256_of(part)
        if got == sha256:
            return
        reason = f"wrong contents: sha256 must be {sha256}, got {got} ({_size(part)} bytes)"
        part.unlink()
        # A part that was there before may come from another mirror or an older file: once more from 0.
        if before == 0 or not may_start_over:
            break
        may_start_over = False
    raise _Unreachable(reason)


def _connect(url: str, part: Path, progress, timeout: float) -> str | None:
    """Append to `part` what one connection brings; None when the server has sent all, else the reason."""
    import http.client
    import urllib.error
    import urllib.request

    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "fastdl", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing follows the part: its SHA-256 decides whether it is whole
            return None
        return f"HTTP status {error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", None) or error) or type(error).__name__
    with response:
        return _receive(response, part, have, progress)


def _receive(response, part: Path, have: int, progress) -> str | None:
    if response.status == 206:
        content_range = response.headers.get("Content-Range", "")
        if not content_range.startswith(f"bytes {have}-"):
            return f"asked for bytes from {have} on, got Content-Range {content_range!r}"
    else:
        have = 0  # the server ignores Range and sends the file from its start
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    broken = None
    with open(part, "ab" if have else "wb") as file:
        progress.start(have, total)
        while broken is None:
            chunk, broken = _read(response)
            if not chunk:
                break
            file.write(chunk)
            file.flush()  # what has arrived stays, even if the process is killed the next moment
            have += len(chunk)
            progress.update(have)
        os.fsync(file.fileno())
    if broken is None and total is not None and have < total:
        broken = "connection cut"
    return broken and f"{broken} after {have}{f' of {total}' if total else ''} bytes"


def _read(response) -> tuple[bytes, str | None]:
    """The next bytes, or the reason why there are none; errors of the disk are not caught here."""
    import http.client

    try:
        return response.read1(_CHUNK), None
    except (OSError, http.client.HTTPException) as error:
        return b"", str(error) or type(error).__name__


class _Progress:
    """Report a download on stderr once it has taken more than two seconds."""

    def __init__(self, name: str, wanted: bool, clock=time.monotonic):
        self.name, self.wanted, self.clock = name, wanted, clock
        self.began = clock()
        self.next_report = self.began + 2.0
        self.have, self.total, self.bar = 0, None, None

    def start(self, have: int, total: int | None) -> None:
        self.have, self.total = have, total
        if self.bar:
            self.bar.update(self.task, total=total, completed=have)

    def update(self, have: int) -> None:
        self.have = have
        if self.bar:
            self.bar.update(self.task, completed=have)
        elif self.wanted and self.clock() >= self.next_report:
            self._report()

    def _report(self) -> None:
        self.bar = self._rich()
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=self.total, completed=self.have)
            return
        self.next_report = self.clock() + 10.0
        of = f" of {self.total / 1e6:.1f}" if self.total else ""
        print(f"downloading {self.name}: {self.have / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)

    def _rich(self):
        if not sys.stderr.isatty():
            return None
        try:
            from rich import progress
            from rich.console import Console
        except ImportError:
            return None
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        return progress.Progress(*columns, console=Console(stderr=True))

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
