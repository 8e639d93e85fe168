"""Matrix products by cuBLASLt without a GPU: the emulated kernels call a stand-in that keeps the library's rules
(cublaslt_stub.cpp), and the loader meets what is not cuBLASLt.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest

from kernels import test_bfloat16_products
from layouts import layouts, unchanged
from stubs import Stub, compile_library, in_use
from tolerances import assert_close

HERE = Path(__file__).parent
FLOATS = ("float32", "float64")
ALL = (True, True, True)

test_gemm_of_bfloat16 = test_bfloat16_products.test_gemm
test_gemm_of_bfloat16_in_every_layout = test_bfloat16_products.test_gemm_in_every_layout
test_gemm_of_batches_of_bfloat16 = test_bfloat16_products.test_gemm_of_batches
test_linear_of_bfloat16 = test_bfloat16_products.test_linear
test_needed_gradients_of_bfloat16 = test_bfloat16_products.test_needed_gradients_of_linear
test_special_values_of_bfloat16 = test_bfloat16_products.test_linear_relu_and_special_values
test_sums_of_bfloat16_are_of_float32 = test_bfloat16_products.test_sums_are_of_float32


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The path of the stand-in."""
    return compile_library(HERE / "cublaslt_stub.cpp", tmp_path_factory.mktemp("cublaslt") / "libstub.so")


@pytest.fixture(params=["emulated"])
def stub(request, library, emulated):
    with in_use(Stub(emulated, library, "cublaslt"), "layouts", "descriptions") as stub:
        yield stub


@pytest.fixture
def backend(stub):
    """What the tests of bfloat16 products run on here."""
    return stub.module


def random(*shape, dtype="float32", seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def check_gemm(stub, a, b, calls):
    """gemm by so many products of the library, beside fastdl's own and the one in float64."""
    stub.stand_in.stub_reset(True, False)
    stub.module.unload_cublaslt()
    own = stub.module.gemm(a, b)
    assert stub.count() == 0
    stub.module.load_cublaslt(stub.path)
    with unchanged(a, b):
        got = stub.module.gemm(a, b)
    assert stub.count() == calls + len(stub.module.cublaslt_plans())  # one product more for each choice
    want = np.matmul(a.astype("float64"), b.astype("float64")).astype(a.dtype)
    assert_close(got, want, "gemm", a.shape[-1] ** 0.5)
    assert_close(got, own, "gemm", a.shape[-1] ** 0.5)
    assert stub.wrong() == ""


SIZES = ((1, 1, 1), (1, 7, 5), (7, 1, 5), (7, 5, 1), (1, 1, 9), (13, 11, 7), (16, 32, 64), (65, 33, 17))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes_and_transposes(stub, size, dtype):
    m, n, k = size
    a, b = random(m, k, dtype=dtype), random(k, n, dtype=dtype, seed=1)
    for first, second in itertools.product((a, a.copy(order="F")), (b, b.copy(order="F"))):
        check_gemm(stub, first, second, 1)


@pytest.mark.parametrize("size", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)], ids=str)
def test_nothing_to_multiply(stub, size):
    m, n, k = size
    check_gemm(stub, random(m, k), random(k, n), 0)


def test_rows_of_a_larger_array(stub):
    """A leading dimension that is longer than the row."""
    a, b = random(9, 20)[1:8, 3:14], random(30, 17)[2:13, 4:10]
    check_gemm(stub, a, b, 1)
    check_gemm(stub, b.T, a.T, 1)
    check_gemm(stub, random(20, 20)[::2, :11], b, 1)


def test_strides_that_it_cannot_express(stub):
    a, b = random(6, 22)[:, ::2], random(11, 5)
    check_gemm(stub, a, b, 0)
    check_gemm(stub, random(6, 11)[:, ::-1], b, 0)
    check_gemm(stub, np.broadcast_to(random(1, 11), (6, 11)), b, 0)
    check_gemm(stub, np.lib.stride_tricks.sliding_window_view(random(16)[:], 11), b, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_layout(stub, dtype):
    a, b = random(2, 9, 18, dtype=dtype), random(2, 18, 5, dtype=dtype, seed=1)
    for first, second in itertools.product(layouts(a).values(), layouts(b).values()):
        got = stub.module.gemm(first, second)
        assert_close(got, np.matmul(a.astype("float64"), b.astype("float64")).astype(dtype), "gemm", 18**0.5)


BATCHES = (  # leading dimensions of a and b, calls of the library
    ((4,), (4,), 1), ((2, 3), (2, 3), 1), ((4,), (), 1), ((2, 3), (), 1), ((), (4,), 1), ((1,), (4,), 1),
    ((2, 1), (1, 3), 2), ((2, 3), (3,), 2), ((3, 1), (3, 4), 3), ((0,), (0,), 0), ((2, 0), (2, 1), 0),
    ((1, 1), (1,), 1), ((65, 1), (1, 2), 0),
)  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("first, second, calls", BATCHES, ids=str)
def test_batches(stub, first, second, calls, dtype):
    check_gemm(stub, random(*first, 5, 7, dtype=dtype), random(*second, 7, 3, dtype=dtype, seed=1), calls)


def test_one_b_for_batches_with_gaps(stub):
    """Rows of a that don't follow each other from batch to batch."""
    a, b = random(4, 8, 7), random(7, 3)
    check_gemm(stub, a[:, :5], b, 1)
    check_gemm(stub, a[::2], b, 1)
    check_gemm(stub, a.swapaxes(1, 2)[:, :5], random(8, 3), 1)


def test_batches_of_heads(stub):
    """[batch, time, head, feature] seen as [batch, head, time, feature]: a call for each of the batch."""
    q, k = random(2, 6, 3, 4).swapaxes(1, 2), random(2, 6, 3, 4, seed=1).swapaxes(1, 2)
    check_gemm(stub, q, k.swapaxes(2, 3), 2)


LAYERS = (((1,), 1, 1), ((3,), 4, 5), ((2, 3), 5, 7), ((13,), 17, 15), ((64,), 30, 10), ((1,), 40, 6), ((33,), 1, 9))


@pytest.mark.parametrize("need", list(itertools.product((False, True), repeat=3)), ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_linear(stub, reference, shape, dtype, need):
    lead, i, o = shape
    x, weight, bias = random(*lead, i, dtype=dtype), random(o, i, dtype=dtype, seed=1), random(o, dtype=dtype, seed=2)
    dy = random(*lead, o, dtype=dtype, seed=3)
    exact = [a.astype("float64") for a in (x, weight, bias, dy)]
    with unchanged(x, weight, bias, dy):
        got = (stub.module.linear_forward(x, weight, bias), *stub.module.linear_backward(dy, x, weight, need))
    want = (reference.linear_forward(*exact[:3]), *reference.linear_backward(exact[3], *exact[:2], need))
    assert stub.count() > 0
    fused = 1 + (need[1] and need[2])  # each made twice: once to choose
    assert stub.count("epilogues") == (2 * fused if dtype == "float32" else 0)
    for a, b, length in zip(got, want, (i, o, x.size // i, dy.size // o)):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b.astype(dtype), "linear", length**0.5)


@pytest.mark.parametrize("shape", [((0,), 3, 4), ((2, 0), 3, 4), ((3,), 0, 4), ((3,), 4, 0)], ids=str)
def test_linear_of_nothing(stub, reference, shape):
    lead, i, o = shape
    x, weight, bias, dy = random(*lead, i), random(o, i), random(o), random(*lead, o)
    got = (stub.module.linear_forward(x, weight, bias), *stub.module.linear_backward(dy, x, weight, ALL))
    want = (reference.linear_forward(x, weight, bias), *reference.linear_backward(dy, x, weight, ALL))
    for a, b in zip(got, want):
        assert_close(a, b, "linear")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "misaligned"])
def test_relu_keeps_nan(stub, dtype, offset):
    x, weight = random(5 * 9 + 1, dtype=dtype)[offset:][:45].reshape(5, 9), random(7, 9, dtype=dtype, seed=1)
    x[2, 3] = np.nan
    for bias in (random(8, dtype=dtype, seed=2)[offset:][:7], None):
        plain = stub.module.linear_forward(x, weight, bias)
        with_relu = stub.module.linear_forward(x, weight, bias, relu=True)
        assert np.isnan(with_relu[2]).all() and not np.isnan(np.delete(with_relu, 2, axis=0)).any()
        assert with_relu.tobytes() == stub.module.relu_forward(plain).tobytes()


def test_alignment_has_plans_of_its_own(stub):
    room = random(4096)
    for offset in (0, 1, 2, 4):
        check_gemm(stub, room[offset:][: 8 * 16].reshape(8, 16), room[512:][: 16 * 4].reshape(16, 4), 1)


def test_chosen_once(stub):
    a, b = random(5, 6), random(6, 7)
    for count in (2, 3, 4):  # the first time also to choose
        stub.module.gemm(a, b)
        assert stub.count() == count
    assert stub.module.cublaslt_plans() == [
        "float32 1 x 5x7x6, NN, alignment 16 16 16 16: algorithm 2 of 3, 0.000000 ms"
    ]


def test_bfloat16_has_plans_of_its_own(stub, bfloat16):
    x, weight, bias, dy = (random(*s, dtype="bfloat16") for s in ((8, 16), (24, 16), (24,), (8, 24)))
    for _ in range(2):
        bfloat16.gemm(x, weight.T)
        bfloat16.linear_forward(x, weight, bias, relu=True)
        bfloat16.linear_backward(dy, x, weight, ALL)
    assert stub.count() == 4 * 3 and stub.count("epilogues") == 2 * 3 and stub.count("tf32") == 0
    chosen = "algorithm 2 of 3, 0.000000 ms"
    assert sorted(stub.module.cublaslt_plans()) == [
        f"bfloat16 1 x 8x16x24, NN, alignment 16 16 16 16: {chosen}",
        f"bfloat16 1 x 8x24x16, TN, alignment 16 16 16 16: {chosen}",
        f"bfloat16 bias 1 x 8x24x16, TN, alignment 16 16 16 16: {chosen}",
        f"bfloat16 to float32 row sums 1 x 24x16x8, NT, alignment 16 16 16 16: {chosen}",
    ]
    stub.module.set_tf32(True)
    bfloat16.gemm(x, weight.T)
    assert stub.count("tf32") == 0 and len(stub.module.cublaslt_plans()) == 4


def test_bfloat16_is_aligned_to_two_bytes(stub, bfloat16):
    room = random(600, dtype="bfloat16")
    a, b = room[1:][: 8 * 16].reshape(8, 16), room[202:][: 16 * 4].reshape(16, 4)
    want = (a.astype("float64") @ b.astype("float64")).astype("bfloat16").astype("float32")
    np.testing.assert_allclose(bfloat16.gemm(a, b).astype("float32"), want, rtol=2.0**-7)
    assert "alignment 4 2 16 16" in stub.module.cublaslt_plans()[0]
    count = stub.count()
    y = bfloat16.linear_forward(a, random(4, 16, dtype="bfloat16"), room[1:5])  # no epilogue, so not a sum either
    assert y.dtype == "bfloat16" and stub.count() == count


def test_tf32_is_off_until_asked_for(stub):
    a, b = random(5, 6), random(6, 7)
    assert stub.module.get_tf32() is False
    stub.module.gemm(a, b)
    assert stub.count("tf32") == 0
    stub.module.set_tf32(True)
    assert stub.module.get_tf32() is True
    stub.module.gemm(a, b)
    assert stub.count("tf32") > 0
    count = stub.count("tf32")
    stub.module.gemm(a.astype("float64"), b.astype("float64"))
    stub.module.set_tf32(False)
    stub.module.gemm(a, b)
    assert stub.count("tf32") == count


def test_capture_needs_a_choice_made_before(stub):
    a, b = random(5, 6), random(6, 7)
    want = stub.module.gemm(a, b)
    stub.module.emulate_capture(True)
    np.testing.assert_array_equal(stub.module.gemm(a, b), want)
    with pytest.raises(RuntimeError, match="captured and needs the choice .*: run the step once without capture first"):
        stub.module.gemm(b, random(7, 3))


@pytest.mark.parametrize("how", [{"supports": False}, {"create_fails": True}], ids=["no algorithm", "no handle"])
def test_library_that_cannot(stub, reference, how):
    stub.reset(**how)
    a, b = random(5, 6), random(6, 7)
    assert_close(stub.module.gemm(a, b), a @ b, "gemm")
    x, weight, bias, dy = random(4, 6), random(3, 6), random(3), random(4, 3)
    assert_close(
        stub.module.linear_forward(x, weight, bias, relu=True), np.maximum(x @ weight.T + bias, 0), "linear", 3
    )
    got = stub.module.linear_backward(dy, x, weight, ALL)
    for a, b in zip(got, reference.linear_backward(dy, x, weight, ALL)):
        assert_close(a, b, "linear", 3)
    assert stub.count() == 0
    assert all("own kernel" in line for line in stub.module.cublaslt_plans())


def test_finder_is_asked_by_the_first_product(stub):
    asked = []

    def find():
        asked.append(True)
        stub.module.load_cublaslt(stub.path)

    stub.module.unload_cublaslt()
    stub.module.set_cublaslt_finder(find)
    stub.module.relu_forward(random(3))
    assert asked == []
    for _ in range(2):
        stub.module.gemm(random(300, 50), random(50, 20))  # enough work to release the GIL
    assert asked == [True] and stub.count() > 0


def test_finder_that_finds_nothing(stub):
    stub.module.unload_cublaslt()
    asked = []
    stub.module.set_cublaslt_finder(lambda: asked.append(True))
    for _ in range(2):
        assert_close(stub.module.gemm(random(3, 2), random(2, 3)), random(3, 2) @ random(2, 3), "gemm")
    assert asked == [True] and stub.count() == 0


def test_finder_waits_for_the_end_of_a_capture(stub):
    stub.module.unload_cublaslt()
    stub.module.set_cublaslt_finder(lambda: stub.module.load_cublaslt(stub.path))
    stub.module.emulate_capture(True)
    with pytest.raises(RuntimeError, match="captured and needs cuBLASLt"):
        stub.module.gemm(random(3, 2), random(2, 3))


def test_products_from_many_threads(stub):
    from concurrent.futures import ThreadPoolExecutor

    pairs = [(random(40 + i % 3, 30, seed=i), random(30, 50, seed=i + 100)) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for (a, b), got in zip(pairs, pool.map(lambda pair: stub.module.gemm(*pair), pairs)):
            assert_close(got, a @ b, "gemm", 30**0.5)


NOT_CUBLASLT = (  # source, or None for none; the message
    (None, "cannot open shared object file"),
    ("int unrelated = 1;", "is not cuBLASLt: it has no cublasLtGetVersion"),
    ('extern "C" __attribute__((visibility("default"))) unsigned long cublasLtGetVersion() { return 130100; }',
     "is not cuBLASLt: it has no cublasLtGetStatusName"),
)  # fmt: skip


@pytest.mark.parametrize("source, message", NOT_CUBLASLT, ids=["no file", "no symbols", "one symbol"])
def test_what_is_not_cublaslt(stub, tmp_path, source, message):
    target = tmp_path / "liblacking.so"
    if source is not None:
        (tmp_path / "lacking.cpp").write_text(source)
        compile_library(tmp_path / "lacking.cpp", target)
    with pytest.raises(RuntimeError, match=f"liblacking.so.*{message}"):
        stub.module.load_cublaslt(str(target))
    stub.module.gemm(random(3, 2), random(2, 3))  # what was open stays in use
    assert stub.count() > 0


def test_another_version(stub, tmp_path):
    path = compile_library(HERE / "cublaslt_stub.cpp", tmp_path / "libold.so", "-DVERSION=120602")
    with pytest.raises(RuntimeError, match=r"libold.so is cuBLASLt 12\.6, expected that of CUDA 13"):
        stub.module.load_cublaslt(path)


def test_version(stub):
    assert stub.module.load_cublaslt(stub.path) == 130100
