"""DLPack: memory shared with NumPy and PyTorch, both ways."""

import numpy as np
import pytest

import fastdl as fd

SHARES_WRITABLE = pytest.mark.skipif(
    tuple(map(int, np.__version__.split(".")[:2])) < (2, 1), reason="NumPy before 2.1 takes DLPack memory read-only"
)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
def test_numpy_reads_a_tensor(dtype):
    t = fd.tensor(np.arange(12).reshape(3, 4).astype(dtype))
    for part in (t, t[1:], t.T, t[:, ::2], t[0, 0]):
        array = np.from_dlpack(part)
        assert array.dtype == dtype and np.shares_memory(array, t.data)
        np.testing.assert_array_equal(array, part.numpy())
    assert t.__dlpack_device__() == (1, 0)


@SHARES_WRITABLE
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "int64", "uint8", "bool"])
def test_pytorch_both_ways(dtype):
    torch = pytest.importorskip("torch")
    given = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))
    for part in (given, given.T, given[1:, ::2], given[:0], given[2, 3]):
        taken = fd.from_dlpack(part)
        assert taken.dtype == dtype and taken.shape == tuple(part.shape)
        assert taken.tolist() == part.tolist()
        back = torch.from_dlpack(taken)
        assert back.shape == part.shape and back.dtype == part.dtype
        if part.numel():
            assert back.data_ptr() == part.data_ptr() and back.stride() == part.stride()
    fd.from_dlpack(given)[0, 0] = 1
    torch.from_dlpack(fd.from_dlpack(given))[0, 1] = 0
    assert given[0, 0] == 1 and given[0, 1] == 0


@SHARES_WRITABLE
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_outlives_its_maker(dtype):
    torch = pytest.importorskip("torch")
    taken = [fd.from_dlpack(torch.full((1000,), float(i), dtype=getattr(torch, dtype))) for i in range(20)]
    given = [torch.from_dlpack(fd.full((1000,), float(i), dtype=dtype)) for i in range(20)]
    assert [t[-1].item() for t in taken] == [t[-1].item() for t in given] == list(map(float, range(20)))


def test_what_a_graph_follows_stays():
    t = fd.ones(3, requires_grad=True)
    with pytest.raises(BufferError, match=r"the tensor requires grad.*use t.detach\(\)"):
        np.from_dlpack(t)
    assert np.from_dlpack(t.detach()).tolist() == [1.0, 1.0, 1.0]


def test_a_captured_step_refuses(cpu):
    def step(x):
        return fd.tensor(np.from_dlpack(x * 2))

    with pytest.raises(fd.CaptureError, match="__dlpack__"):
        fd.capture(step)(fd.ones(3))


class OnOpenCL:
    def __dlpack__(self, **options):
        raise AssertionError("not to be asked for")

    def __dlpack_device__(self):
        return (4, 1)


def test_bad_input():
    with pytest.raises(TypeError, match="from_dlpack: array must speak DLPack .*got list"):
        fd.from_dlpack([1.0])
    with pytest.raises(RuntimeError, match="array must lie in the memory of .* GPU, got DLPack device 4:1"):
        fd.from_dlpack(OnOpenCL())
    with pytest.raises(TypeError, match="from_dlpack: dtype must be .* got int8"):
        fd.from_dlpack(np.ones(2, np.int8))
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="from_dlpack: dtype must be float32.* got torch.float8_e5m2"):
        fd.from_dlpack(torch.ones(2).to(torch.float8_e5m2))
    with pytest.raises((BufferError, RuntimeError), match="require grad"):
        fd.from_dlpack(torch.ones(2, requires_grad=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_read_only_memory_stays_read_only(dtype):
    t = fd.ones(3, dtype=dtype)
    t.data.flags.writeable = False
    with pytest.raises(BufferError, match="readonly|read-only"):
        t.__dlpack__()  # in the version that can't say so
    taken = fd.from_dlpack(t)
    with pytest.raises(ValueError, match="read-only"):
        taken.add_(1.0)


@SHARES_WRITABLE
def test_bfloat16_in_both_versions_of_the_protocol():
    torch = pytest.importorskip("torch")
    t = fd.tensor([[1.0, -2.0], [3.3, 4.0]], dtype="bfloat16")
    for part in (t, t.T, t[:, 1], t[1, 0], t[:0]):
        for capsule in (part.__dlpack__(), part.__dlpack__(max_version=(1, 0))):
            theirs = torch.from_dlpack(capsule)
            assert theirs.dtype == torch.bfloat16 and theirs.tolist() == part.tolist()
    torch.from_dlpack(t)[0, 0] = 5
    assert t[0, 0].item() == 5 and t.__dlpack_device__() == (1, 0)
    copied = torch.from_dlpack(t, copy=True)
    copied[0, 0] = 7
    assert t[0, 0].item() == 5


class BeforeVersions:
    """Speaks the protocol as it was before its arguments."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, stream=None):
        return self.tensor.__dlpack__()

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def test_bfloat16_of_an_older_framework():
    torch = pytest.importorskip("torch")
    given = torch.arange(4).bfloat16()
    taken = fd.from_dlpack(BeforeVersions(given))
    assert taken.dtype == fd.bfloat16 and taken.data.ctypes.data == given.data_ptr() and taken.tolist() == [0, 1, 2, 3]
