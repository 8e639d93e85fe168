"""Save and load tensors in safetensors files: no pickle, written atomically, damage noticed on reading.

A file holds arrays and, in its header, a little JSON. `save` and `load` take what `torch.save` would be given for a
model: a `state_dict`, or nested dicts, lists and numbers around tensors (an optimizer's `state_dict`). A flat dict of
tensors makes a plain safetensors file that any other library reads. Needs the package safetensors:
`pip install "fastdl[train]"`.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Mapping

import numpy as np

from . import kernels
from .tensor import Tensor, check_dtype

__all__ = ["save", "load"]

# The one metadata key in the safetensors header; its value is JSON. One, because the library writes several in an
# order that changes from run to run, and equal states should make equal files.
_HEADER = "fastdl"


def save(state, path) -> None:
    """Write tensors to `path` (safetensors), atomically: after a crash the old file or the new one is there, whole.

    state: dict of Tensors or NumPy arrays by name, e.g. `model.state_dict()`; nested dicts, lists, tuples, numbers,
        strings and None around them are kept too (in the header, as JSON).
    path: file to write. The order is `torch.save`'s; `save(path, state)` is understood as well.
    Raises TypeError naming the entry that can't be saved, ImportError when safetensors is missing.

    >>> fastdl.save(model.state_dict(), "model.safetensors")
    """
    if isinstance(state, (str, os.PathLike)) and isinstance(path, Mapping):
        state, path = path, state
    if not isinstance(state, Mapping):
        raise TypeError(f"save: state must be a dict of tensors, got {type(state).__name__}")
    flat = all(isinstance(name, str) and _is_array(value) for name, value in state.items())
    arrays: dict = {}
    tree = pack(state, arrays, caller="save")
    write_file(path, arrays, {} if flat else {"state": tree})


def load(path):
    """Read what `save` wrote: a dict of Tensors by name (or the nested state), on the host.

    Plain safetensors files of other libraries are read too. Raises FileNotFoundError, and ValueError naming the file
    and what is wrong when it is truncated, altered or no safetensors file.

    >>> model.load_state_dict(fastdl.load("model.safetensors"))
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    arrays, header = read_file(path)
    for name, array in arrays.items():
        try:
            check_dtype(name, array.dtype)
        except TypeError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error
    tensors = {name: Tensor(array) for name, array in arrays.items()}
    return unpack(header["state"], tensors, path) if "state" in header else tensors


def pack(value, arrays: dict, caller: str, path: str = ""):
    """JSON-ready twin of nested `value`; its arrays are moved into `arrays` under dotted names.

    An array becomes {"@": name}, a tuple {"@tuple": [...]}, a dict whose keys are not plain strings {"@items": [...]}.
    """
    if _is_array(value):
        name = path
        while name in arrays:  # {"a.b": x, "a": {"b": y}}: two paths, one spelling
            name += "'"
        arrays[name] = to_numpy(value)
        return {"@": name}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    prefix = f"{path}." if path else ""
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("@") for key in value):
            return {key: pack(item, arrays, caller, prefix + key) for key, item in value.items()}
        pairs = value.items()
        return {"@items": [[pack(k, {}, caller, path), pack(v, arrays, caller, f"{prefix}{k}")] for k, v in pairs]}
    if isinstance(value, (list, tuple)):
        items = [pack(item, arrays, caller, f"{prefix}{i}") for i, item in enumerate(value)]
        return {"@tuple": items} if isinstance(value, tuple) else items
    raise TypeError(
        f"{caller}: {path or 'state'} must be a tensor, array, number, string, None, dict, list or tuple, "
        f"got {type(value).__name__}"
    )


def unpack(tree, arrays: Mapping, path):
    """The nested value whose JSON twin `pack` made; ValueError naming the file where the two don't fit."""

    def build(node):
        if isinstance(node, list):
            return [build(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "@" in node:
            return arrays[node["@"]]
        if "@tuple" in node:
            return tuple(build(item) for item in node["@tuple"])
        if "@items" in node:
            return {build(key): build(item) for key, item in node["@items"]}
        return {key: build(item) for key, item in node.items()}

    try:
        return build(tree)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)}: damaged file: its state is not readable ({error!r})") from error


def write_file(path, arrays: dict, header: dict) -> None:
    """Write arrays and a header that is ready for JSON to a safetensors file with a checksum over both, atomically."""
    write = require_safetensors().numpy.save
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header = {**header, "crc32": _checksum(arrays, header)}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(write(arrays, {_HEADER: json.dumps(header)}))


def read_file(path) -> tuple[dict, dict]:
    """(arrays, header) of a safetensors file; ValueError naming the file and what is wrong with it."""
    library = require_safetensors()
    path = os.fspath(path)
    with open(path, "rb"):  # FileNotFoundError, IsADirectoryError and PermissionError with Python's own words
        pass
    try:
        with library.safe_open(path, "np") as file:
            text = (file.metadata() or {}).get(_HEADER)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except library.SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise ValueError(f"{path}: truncated or no safetensors file: {reason}") from error
    except TypeError as error:
        raise ValueError(f"{path}: holds a type that NumPy does not have: {error}") from error
    if text is None:  # written by another library
        return arrays, {}
    try:
        header = json.loads(text)
        stated = header.pop("crc32")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged file: its header is not readable ({error!r})") from error
    if stated != _checksum(arrays, header):
        raise ValueError(f"{path}: damaged file: its content does not match its checksum")
    return arrays, header


@contextlib.contextmanager
def replacing(path):
    """Yield the name of a temporary file beside `path`; when the block ends without error it is flushed to disk and
    takes the place of `path` in one step. Otherwise it is removed and `path` is left as it was."""
    temporary = f"{_temporary_prefix(path)}{os.getpid()}.tmp"
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync(os.path.dirname(temporary))


def remove_stale(path) -> None:
    """Delete temporary files that writers of `path` left behind when they were killed."""
    directory, prefix = os.path.split(_temporary_prefix(path))
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if name.startswith(prefix) and name.endswith(".tmp"):
                os.unlink(os.path.join(directory, name))


def write_text(path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def to_numpy(value) -> np.ndarray:
    """The host array of a Tensor or array, a copy if it lies on the GPU."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else kernels.to_host(value)


def _is_array(value) -> bool:
    return isinstance(value, Tensor) or kernels.is_array(value)


def _temporary_prefix(path) -> str:
    directory, name = os.path.split(os.path.abspath(os.fspath(path)))
    return os.path.join(directory, f".{name}.")


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(arrays: dict, header: dict) -> int:
    """CRC-32 over names, types, shapes, bytes and header: safetensors itself would not notice a flipped bit."""
    total = zlib.crc32(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        total = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return total


def require_safetensors():
    """The package safetensors with its NumPy part; ImportError saying what to install."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError('saving and loading needs safetensors: pip install "fastdl[train]"') from error
    return safetensors
