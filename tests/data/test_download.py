"""The downloader, against a server on this machine that cuts, ignores, changes and refuses on demand."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastdl
from fastdl.data import DownloadError, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WAIT = 60  # seconds after which a test that hangs gives up


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve `CONTENT` under every path; the path's last word chooses what goes wrong."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, kind = self.server, self.path.rpartition("/")[2]
        asked = self.headers.get("Range")
        with server.lock:
            server.requests.append((self.path, asked))
            first = sum(path == self.path for path, _ in server.requests) == 1
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if kind == "absent":
            return self.send_error(404)
        if kind == "silent":
            server.release.wait(WAIT)
            self.close_connection = True
            return
        if kind == "held":
            server.reached.set()
            server.release.wait(WAIT)
        content = {"wrong": b"x" * 1000, "wrong-cut": b"x" * 2000}.get(kind, CONTENT)
        if kind in ("no-range", "no-range-cut"):
            start = 0
        elif start >= len(content):
            return self.send_error(416)
        part = content[start:]
        self.send_response(206 if start else 200)
        if start:
            shift = 1 if kind == "shifted" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if kind == "chunked":
            return self.chunked(part, cut=first)
        if kind != "no-length":
            self.send_header("Content-Length", str(len(part)))
        self.send_header("Connection", "close")
        self.end_headers()
        if kind == "dead" or (kind in ("cut", "no-range-cut") and first):
            part = part[: 0 if kind == "dead" else 100_000]
        elif kind == "wrong-cut":
            part = part[:1000]
        elif kind == "drops":
            part = part[:50_000]
        elif kind == "stalls" and first:
            self.wfile.write(part[:500])
            server.release.wait(WAIT)
            part = b""
        self.wfile.write(part)
        self.close_connection = True

    def chunked(self, part, cut):
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, 100_000 if cut else len(part), 50_000):
            piece = part[at : at + 50_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if not cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lock, server.requests = threading.Lock(), []
    server.reached, server.release = threading.Event(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join(WAIT)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file.bin"


def part_of(path, content):
    """Leave what a broken download leaves."""
    path.parent.mkdir(parents=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    return part


def ranges(server):
    return [asked for _, asked in server.requests]


def assert_fetched(path):
    assert path.read_bytes() == CONTENT
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.name + ".lock"]


@pytest.mark.parametrize("kind", ["good", "no-range", "no-length"])
def test_full_download(server, path, kind):
    assert fetch(server.url + kind, path, SHA256.upper()) == path
    assert_fetched(path)
    assert ranges(server) == [None]


def test_what_is_there_is_not_downloaded_again(server, path):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch(server.url + "good", str(path), SHA256) == path
    assert server.requests == []


def test_a_damaged_file_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    fetch(server.url + "good", path, SHA256)
    assert_fetched(path)


def test_a_relative_path_is_made_absolute(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fetch(server.url + "good", "here", SHA256) == tmp_path / "here"


@pytest.mark.parametrize("kind", ["cut", "chunked"])
def test_a_cut_connection_goes_on_with_range(server, path, kind):
    fetch(server.url + kind, path, SHA256)
    assert_fetched(path)
    assert ranges(server) == [None, "bytes=100000-"]


def test_many_cuts(server, path):
    fetch(server.url + "drops", path, SHA256)
    assert_fetched(path)
    assert ranges(server) == [None] + [f"bytes={n}-" for n in range(50_000, 300_000, 50_000)]


def test_a_part_of_an_earlier_process_is_used(server, path):
    part_of(path, CONTENT[:200_000])
    fetch(server.url + "good", path, SHA256)
    assert_fetched(path)
    assert ranges(server) == ["bytes=200000-"]


def test_the_part_goes_on_from_the_next_mirror(server, path):
    fetch([server.url + "cut", server.url + "good"], path, SHA256)
    assert_fetched(path)
    server.requests.clear()
    path.unlink()
    part_of_first = path.with_name(path.name + ".part")
    part_of_first.write_bytes(CONTENT[:70_000])
    fetch([server.url + "absent", server.url + "good"], path, SHA256)
    assert_fetched(path)
    assert ranges(server) == ["bytes=70000-", "bytes=70000-"]


def test_a_whole_part_needs_no_connection(server, path):
    part_of(path, CONTENT)
    fetch(server.url + "good", path, SHA256)
    assert_fetched(path)
    assert server.requests == []


@pytest.mark.parametrize(
    ("content", "want"),
    [
        (b"y" * 1000, ["bytes=1000-", None]),  # of another file
        (CONTENT[:-1] + b"y", ["bytes=300000-", None]),  # as long as the file: the server answers 416
        (CONTENT + b"yy", ["bytes=300002-", None]),
    ],
    ids=["other", "same length", "longer"],
)
def test_a_wrong_part_is_thrown_away_once(server, path, content, want):
    part_of(path, content)
    fetch(server.url + "good", path, SHA256)
    assert_fetched(path)
    assert ranges(server) == want


@pytest.mark.parametrize(
    ("kind", "want"), [("no-range", ["bytes=1000-"]), ("no-range-cut", ["bytes=1000-", "bytes=100000-"])]
)
def test_a_server_that_ignores_range_sends_all_again(server, path, kind, want):
    part_of(path, b"y" * 1000)
    fetch(server.url + kind, path, SHA256)
    assert_fetched(path)
    assert ranges(server) == want


@pytest.mark.parametrize("kind", ["absent", "wrong", "dead", "shifted"])
def test_the_next_mirror_helps(server, path, kind):
    if kind == "shifted":
        part_of(path, CONTENT[:1000])
    fetch([server.url + kind, server.url + "good"], path, SHA256)
    assert_fetched(path)
    assert [p for p, _ in server.requests] == ["/" + kind, "/good"]


def test_a_silent_mirror_is_given_up(server, path):
    fetch([server.url + "silent", server.url + "good"], path, SHA256, timeout=0.2)
    assert_fetched(path)


def test_wrong_bytes_everywhere(server, path):
    part = part_of(path, b"y" * 10)
    with pytest.raises(DownloadError) as error:
        fetch(server.url + "wrong", path, SHA256)
    wrong = hashlib.sha256(b"x" * 1000).hexdigest()
    assert f"wrong contents: sha256 must be {SHA256}, got {wrong} (1000 bytes)" in str(error.value)
    assert ranges(server) == ["bytes=10-", None]
    assert not path.exists() and not part.exists()


def test_starting_over_happens_once(server, path):
    with pytest.raises(DownloadError, match="wrong contents"):
        fetch(server.url + "wrong-cut", path, SHA256)
    assert ranges(server) == [None, "bytes=1000-"] * 2


def closed_port():
    """An address of this machine that nobody listens on."""
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/file.bin"


def test_no_network_says_which_file_to_put_where(path):
    urls = [closed_port(), "http://127.0.0.1:1/file.bin"]
    part = part_of(path, CONTENT[:1000])
    with pytest.raises(DownloadError) as error:
        fetch(urls, path, SHA256)
    text = str(error.value)
    assert text.startswith("fetch: could not download file.bin")
    for word in [*urls, str(path), SHA256, "Connection refused", "Put the file there by hand"]:
        assert word in text
    assert part.read_bytes() == CONTENT[:1000]  # kept for the next try
    assert isinstance(error.value, OSError)


def test_no_network_and_a_wrong_file_says_so(path):
    path.parent.mkdir()
    path.write_bytes(b"something else")
    with pytest.raises(
        DownloadError, match=f"has other contents .sha256 {hashlib.sha256(b'something else').hexdigest()}"
    ):
        fetch(closed_port(), path, SHA256)
    assert path.read_bytes() == b"something else"


def test_errors_of_the_disk_are_not_hidden(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError) as error:
        fetch(server.url + "good", tmp_path / "file" / "below", SHA256)
    assert not isinstance(error.value, DownloadError)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"urls": []}, ValueError, "fetch: urls must hold at least one address, got none"),
        ({"urls": [3]}, TypeError, "fetch: urls must be strings, got int"),
        ({"urls": "file:///etc/hosts"}, ValueError, "fetch: urls must start with http:// or https://"),
        ({"sha256": "abc"}, ValueError, "fetch: sha256 must be 64 hexadecimal digits, got 'abc'"),
        ({"sha256": "g" * 64}, ValueError, "fetch: sha256 must be 64 hexadecimal digits"),
        ({"sha256": None}, TypeError, "fetch: sha256 must be a string, got NoneType"),
        ({"timeout": None}, TypeError, "fetch: timeout must be a number of seconds, got NoneType"),
        ({"timeout": 0}, ValueError, "fetch: timeout must be positive and finite, got 0"),
        ({"timeout": float("nan")}, ValueError, "fetch: timeout must be positive and finite, got nan"),
    ],
)
def test_refuses(path, change, error, message):
    with pytest.raises(error, match=message):
        fetch(**{"urls": "http://127.0.0.1:1/", "path": path, "sha256": SHA256, **change})
    assert not path.parent.exists()


# -- several processes ------

SCRIPT = """
import sys
from fastdl.data import download
url, path, sha256, verbose = sys.argv[1:]
if verbose == "True":
    download._Progress.update = lambda self, have: print(have, flush=True)
download.fetch(url, path, sha256)
print("done", flush=True)
"""


@pytest.fixture
def start():
    processes, watchdogs = [], []

    def start(url, path, verbose=False):
        package = str(Path(fastdl.__file__).parents[1])
        env = {**os.environ, "PYTHONPATH": package}
        command = [sys.executable, "-c", SCRIPT, url, str(path), SHA256, str(verbose)]
        process = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        processes.append(process)
        watchdogs.append(threading.Timer(WAIT, process.kill))  # so that no read from it can hang
        watchdogs[-1].start()
        return process

    yield start
    for process, watchdog in zip(processes, watchdogs):
        watchdog.cancel()
        process.kill()
        process.communicate()


def test_two_processes_at_once_download_once(server, path, start):
    first = start(server.url + "held", path)
    assert server.reached.wait(WAIT)  # the first holds the lock and waits for the server
    second = start(server.url + "held", path)
    assert second.stderr.readline() == f"waiting for another process that downloads {path}\n"
    server.release.set()
    for process in (first, second):
        out, err = process.communicate(timeout=WAIT)
        assert (process.returncode, out) == (0, "done\n"), err
    assert len(server.requests) == 1
    assert_fetched(path)


def test_a_killed_process_leaves_its_part_and_no_lock(server, path, start):
    process = start(server.url + "stalls", path, verbose=True)
    assert "500\n" in iter(process.stdout.readline, "")  # so much has arrived
    process.kill()
    process.communicate(timeout=WAIT)
    fetch(server.url + "stalls", path, SHA256)
    assert_fetched(path)
    assert ranges(server) == [None, "bytes=500-"]


def test_threads_of_one_process_download_once(server, path):
    threads = [threading.Thread(target=fetch, args=(server.url + "held", path, SHA256, False)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert server.reached.wait(WAIT)
    server.release.set()
    for thread in threads:
        thread.join(WAIT)
    assert len(server.requests) == 1
    assert_fetched(path)


def test_a_fast_download_says_nothing(server, path, capsys):
    fetch(server.url + "good", path, SHA256)
    assert capsys.readouterr() == ("", "")
