"""MNIST from a folder, from a server, and the real thing where FASTDL_DATA names it."""

import gzip
import hashlib
import http.server
import os
import struct
import threading

import numpy as np
import pytest

from fastdl.data import DownloadError, load_mnist, mnist

REAL = os.environ.get("FASTDL_DATA")
NAMES = list(mnist.FILES)


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def small(train=7, test=3):
    """The four files of a small MNIST, by name."""
    rng = np.random.default_rng(0)
    files = {}
    for name, n in (("train", train), ("t10k", test)):
        files[f"{name}-images-idx3-ubyte.gz"] = idx(rng.integers(0, 256, (n, 28, 28)))
        files[f"{name}-labels-idx1-ubyte.gz"] = idx(np.arange(n) % 10)
    return files


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def assert_small(data):
    assert data.train_images.shape == (7, 1, 28, 28) and data.test_images.shape == (3, 1, 28, 28)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.train_labels.tolist() == list(range(7)) and data.test_labels.tolist() == [0, 1, 2]
    want = np.random.default_rng(0).integers(0, 256, (7, 28, 28))
    np.testing.assert_array_equal(data.train_images[:, 0], want)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No data folder, an empty cache, no mirrors."""
    monkeypatch.delenv("FASTDL_DATA", raising=False)
    monkeypatch.setenv("FASTDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:1/mnist/",))


def test_from_a_folder(tmp_path, monkeypatch):
    write(tmp_path / "mnist", small())
    assert_small(load_mnist(tmp_path))
    assert_small(load_mnist(str(tmp_path / "mnist")))
    monkeypatch.setenv("FASTDL_DATA", str(tmp_path))
    assert_small(load_mnist())
    monkeypatch.setenv("FASTDL_DATA", str(tmp_path / "elsewhere"))
    assert_small(load_mnist(tmp_path))


def test_from_unpacked_files(tmp_path):
    unpacked = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in small().items()}
    write(tmp_path / "mnist", unpacked)
    assert_small(load_mnist(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(tmp_path, monkeypatch, name):
    write(tmp_path / "mnist", small())
    (tmp_path / "mnist" / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_mnist(tmp_path)
    assert f"load_mnist: data_dir must hold {name}" in str(error.value)
    assert str(tmp_path / "mnist" / name) in str(error.value)
    monkeypatch.setenv("FASTDL_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"load_mnist: FASTDL_DATA must hold {name}"):
        load_mnist()


BAD = {
    "not 28x28": (
        0,
        idx(np.zeros((7, 28, 27))),
        r"uint8 images of shape \(N, 28, 28\), got uint8 \(7, 28, 27\)",
    ),
    "images are labels": (0, idx(np.zeros(7)), r"uint8 images of shape \(N, 28, 28\), got uint8 \(7,\)"),
    "labels are images": (
        1,
        idx(np.zeros((7, 28, 28))),
        r"uint8 labels of shape \(N,\), got uint8 \(7, 28, 28\)",
    ),
    "fewer labels": (1, idx(np.zeros(6)), "one label for each of 7 images, got 6"),
    "label 10": (1, idx(np.full(7, 10)), r"labels in \[0, 10\), got 10"),
    "corrupt": (2, idx(np.zeros((3, 28, 28)))[:-9], "must be a whole gzip file"),
    "truncated": (3, gzip.compress(gzip.decompress(idx(np.zeros(3)))[:-1]), "must hold 3 bytes of data"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(tmp_path, name):
    number, content, message = BAD[name]
    write(tmp_path, {**small(), NAMES[number]: content})
    with pytest.raises(ValueError, match=message) as error:
        load_mnist(tmp_path)
    assert str(tmp_path / NAMES[number]) in str(error.value)


def test_refuses_empty_files(tmp_path):
    write(tmp_path, small(train=0))
    with pytest.raises(ValueError, match="one label for each of 0 images, got 0"):
        load_mnist(tmp_path)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path.rpartition("/")[2])
        if content is None or self.path.startswith("/empty"):
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests = small(), []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(60)


def test_downloads_into_the_cache_once(tmp_path, monkeypatch, server):
    monkeypatch.setattr(mnist, "FILES", {n: hashlib.sha256(c).hexdigest() for n, c in small().items()})
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server.url}/empty/", f"{server.url}/full/"))
    assert_small(load_mnist())
    assert server.requests == [f"/{mirror}/{name}" for name in mnist.FILES for mirror in ("empty", "full")]
    assert {p.name for p in (tmp_path / "cache" / "mnist").glob("*.gz")} == set(NAMES)
    server.requests.clear()
    assert_small(load_mnist())
    assert server.requests == []


def test_download_of_something_else_is_refused(tmp_path, monkeypatch, server):
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server.url}/full/",))
    with pytest.raises(DownloadError, match="wrong contents: sha256 must be 440fcabf"):
        load_mnist()


def test_no_network_says_which_file_to_put_where(tmp_path):
    with pytest.raises(DownloadError) as error:
        load_mnist()
    name = NAMES[0]
    for word in (
        str(tmp_path / "cache" / "mnist" / name),
        mnist.FILES[name],
        f"http://127.0.0.1:1/mnist/{name}",
    ):
        assert word in str(error.value)


# Of the unpacked files, so that a copy that was packed anew passes; published sums, as in mnist.FILES.
CONTENTS = {
    "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@pytest.mark.skipif(not REAL, reason="FASTDL_DATA is not set")
def test_the_real_thing():
    data = load_mnist(REAL)
    assert data.train_images.shape == (60000, 1, 28, 28) and data.test_images.shape == (10000, 1, 28, 28)
    assert data.train_labels.shape == (60000,) and data.test_labels.shape == (10000,)
    for name, want in CONTENTS.items():
        array = getattr(data, name)
        shape = array.shape[:1] + array.shape[2:]
        header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        assert hashlib.sha256(header + array.astype(np.uint8).tobytes()).hexdigest() == want
    counts = np.bincount(data.train_images.reshape(-1), minlength=256) / data.train_images.size
    values = np.arange(256) / 255
    mean = (counts * values).sum()
    std = np.sqrt((counts * (values - mean) ** 2).sum())
    assert (round(mean, 5), round(std, 5)) == (mnist.MEAN, mnist.STD) == (0.13066, 0.30811)
    assert np.bincount(data.train_labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9] and data.test_labels[:5].tolist() == [
        7,
        2,
        1,
        0,
        4,
    ]
