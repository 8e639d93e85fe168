"""Convolutions by cuDNN without a GPU: the emulated kernels call a stand-in that keeps the library's rules
(cudnn_stub.cpp), and the loader meets what is not cuDNN. The tests of conv2d that take a backend run here too, with
the stand-in behind the kernels.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from kernels import test_bfloat16_products, test_conv2d
from kernels.test_bfloat16_products import check_conv
from kernels.test_conv2d import ALL, NIL, ONE, WINDOWS, arrays, check, outcome
from stubs import Stub, compile_library, in_use
from tolerances import assert_close

HERE = Path(__file__).parent
PASSES = ("forward", "input gradient", "weight gradient")
SIZE, WINDOW = (2, 4, 6, 2), WINDOWS[5]
SIZES = "2x4x9x7, 6 filters 3x2, groups 2, stride 1x2, padding 2x1, dilation 2x3, alignment 16 16 16"

test_by_hand = test_conv2d.test_by_hand
test_attributes_by_hand = test_conv2d.test_attributes_by_hand
test_against_torch = test_conv2d.test_against_torch
test_windows_and_sizes = test_conv2d.test_windows_and_sizes
test_needed_gradients = test_conv2d.test_needed_gradients
test_relu = test_conv2d.test_relu
test_layouts = test_conv2d.test_layouts
test_special_values = test_conv2d.test_infinity_and_nan_stay_where_they_are
test_bfloat16 = test_bfloat16_products.test_conv2d
test_needed_gradients_of_bfloat16 = test_bfloat16_products.test_needed_gradients_of_conv2d
test_layouts_of_bfloat16 = test_bfloat16_products.test_conv2d_layouts
test_special_values_of_bfloat16 = test_bfloat16_products.test_conv2d_relu_and_special_values


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The path of the stand-in."""
    return compile_library(HERE / "cudnn_stub.cpp", tmp_path_factory.mktemp("cudnn") / "libstub.so")


def counts(stub):
    """Calls of each pass."""
    return tuple(stub.count(name) for name in PASSES)


@pytest.fixture(params=["emulated"])
def stub(request, library, emulated):
    """Each candidate seems faster than those before it, so that fastdl's own kernel, the first, is never kept."""
    with in_use(Stub(emulated, library, "cudnn"), "descriptors") as stub:
        emulated.emulate_clock(True)
        yield stub


@pytest.fixture
def backend(stub):
    """What the tests of conv2d run on here."""
    return stub.module


def plans(stub):
    """The plans without their times."""
    return [re.sub(r", [-0-9.]+ ms$", "", line) for line in stub.module.cudnn_plans()]


def problem(size=SIZE, window=WINDOW, dtype="float32"):
    return arrays(size, window, dtype)


def test_each_pass_is_chosen_once(stub, reference):
    values, attrs = problem()
    for count in (2, 3, 4):  # the first time also to choose
        check(stub.module, reference, values, attrs)
        assert counts(stub) == (count,) * 3
    # of the own kernel, one that can't run and one that does
    assert plans(stub) == [f"float32 {name} {SIZES}: engine 8, of 3 plans" for name in PASSES]


def test_own_kernel_stays_unless_one_is_faster(stub, reference):
    stub.module.emulate_clock(False)
    values, attrs = problem()
    for _ in range(2):
        first = outcome(stub.module, *values, attrs)
        assert counts(stub) == (1, 1, 1)
    assert plans(stub) == [f"float32 {name} {SIZES}: own kernel, of 3 plans" for name in PASSES]
    stub.module.unload_cudnn()  # the bits are those of the own kernel
    for a, b in zip(outcome(stub.module, *values, attrs), first):
        np.testing.assert_array_equal(a, b)


def test_what_only_the_fallback_has(stub, reference):
    stub.stand_in.stub_only_fallback(True)
    for dtype in ("float32", "bfloat16"):
        values, attrs = problem(dtype=dtype)
        outcome(stub.module, *values, attrs)
    lines = plans(stub)
    assert len(lines) == 6 and all("engine 8" in line for line in lines), lines


@pytest.mark.parametrize("need", list(itertools.product((False, True), repeat=3)), ids=str)
def test_only_what_is_needed(stub, need):
    (x, weight, _, dy), attrs = problem()
    stub.module.conv2d_backward(dy, x, weight, *attrs, need)
    assert counts(stub) == (0, 2 * need[0], 2 * need[1])


def moved(array, offset):
    """The same array, its memory order kept, so many elements past a border of 16 bytes."""
    last = np.ascontiguousarray(array.transpose(0, 2, 3, 1) if array.ndim == 4 else array)
    room = np.empty(last.size + offset, array.dtype)[offset:].reshape(last.shape)
    room[...] = last
    return room.transpose(0, 3, 1, 2) if array.ndim == 4 else room


@pytest.mark.parametrize("offset", range(1, 5))
@pytest.mark.parametrize("groups", [1, 4])  # the second: weights in the library's order as they are
def test_alignment_has_plans_of_its_own(stub, reference, groups, offset):
    (x, weight, bias, dy), attrs = problem((2, 4, 8, groups))
    check(stub.module, reference, (x, weight, bias, dy), attrs)
    check(stub.module, reference, (moved(x, offset), weight, bias, moved(dy, offset)), attrs)
    assert len(plans(stub)) == (3 if offset == 4 else 6)


def test_filters_in_the_librarys_order_are_not_copied(stub, reference):
    """The plans' alignment is that of the filters themselves, not of a copy in the workspace."""
    (x, weight, bias, dy), attrs = problem((2, 8, 8, 1))
    check(stub.module, reference, (x, moved(weight, 1), bias, dy), attrs)
    forward, backward, of_weight = stub.module.cudnn_plans()
    assert "alignment 16 4 16" in forward and "alignment 16 4 16" in backward and "alignment 16 16 16" in of_weight
    place = moved(np.zeros_like(weight), 1)
    stub.module.conv2d_backward(dy, x, weight, *attrs, (False, True, False), out=(place, None))
    gradients = [plan for plan in stub.module.cudnn_plans() if "weight gradient" in plan]
    assert len(gradients) == 2 and sum("alignment 16 4 16" in plan for plan in gradients) == 1


def test_float64_and_empty_arrays_are_not_for_it(stub, reference):
    check(stub.module, reference, *problem(dtype="float64"))
    for size in ((0, 3, 4, 1), (2, 0, 3, 1), (2, 3, 0, 1)):
        check(stub.module, reference, *problem(size))
    assert counts(stub) == (0, 0, 0) and stub.module.cudnn_plans() == []


def test_one_tap_on_every_pixel_is_a_dense_layer(stub, reference):
    check(stub.module, reference, *problem((2, 3, 5, 1), ((4, 7), ONE, ONE, NIL, ONE)))
    assert counts(stub) == (0, 0, 0)
    check(stub.module, reference, *problem((2, 4, 6, 2), ((4, 7), ONE, ONE, NIL, ONE)))  # groups
    check(stub.module, reference, *problem((2, 9, 5, 1), ((4, 7), ONE, (2, 2), NIL, ONE)))
    assert counts(stub) == (4, 4, 4)


FIRST = "2x3x9x7, 8 filters 3x2, groups 1, stride 1x2, padding 2x1, dilation 2x3, alignment 16 16 16"


def test_few_channels_are_for_the_own_kernel(stub, reference):
    """It comes first, and without a clock nothing is faster: the library is tried, and serves only dx."""
    stub.module.emulate_clock(False)
    stub.module.set_tf32(True)
    (x, weight, bias, dy), attrs = problem((2, 3, 8, 1))
    wanted = [kernel.conv2d_forward(x, weight, bias, *attrs, relu=True) for kernel in (reference, stub.module)]
    np.testing.assert_allclose(*wanted, rtol=1e-2, atol=1e-2)
    for count in (2, 3):
        first, again = (outcome(stub.module, x, weight, bias, dy, attrs) for _ in range(2))
        for a, b in zip(first, again):
            np.testing.assert_array_equal(a, b)
        assert counts(stub) == (2, 2 * count, 2)
    assert plans(stub) == [
        f"tf32 forward {FIRST}: own kernel, of 4 plans",
        f"tf32 input gradient {FIRST}: engine 8, of 3 plans",
        f"tf32 weight gradient {FIRST}: own kernel, of 4 plans",
    ]
    stub.module.unload_cudnn()  # the bits are those of the own kernel
    for a, b in zip((first[0], first[2]), (outcome(stub.module, x, weight, bias, dy, attrs)[i] for i in (0, 2))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("channels, groups, own", [(1, 1, True), (7, 1, True), (8, 1, False), (6, 2, False)])
def test_how_few_channels(stub, channels, groups, own):
    stub.module.emulate_clock(False)
    stub.module.set_tf32(True)
    values, attrs = problem((2, channels, 8, groups))
    outcome(stub.module, *values, attrs)
    assert [": own kernel," in line for line in plans(stub)] == [own, False, own]


@pytest.mark.parametrize(
    "channels, filters, groups, own",
    [(8, 8, 1, True), (16, 32, 2, True), (9, 8, 1, False), (8, 9, 1, False), (24, 16, 2, False), (16, 24, 2, False)],
)
def test_own_weight_gradients_of_bfloat16(stub, bfloat16, reference, channels, filters, groups, own):
    """Where it can run on tensor cores it is tried beside the library's, which are rounded."""
    stub.module.emulate_clock(False)
    check_conv(bfloat16, reference, *problem((2, channels, filters, groups), dtype="bfloat16"))
    assert [": own kernel," in line for line in plans(stub)] == [False, False, own]


def test_few_channels_of_bfloat16(stub, bfloat16, reference):
    stub.module.emulate_clock(False)
    for count in (4, 6):
        check_conv(bfloat16, reference, *problem((2, 3, 8, 1), dtype="bfloat16"))
        assert counts(stub) == (2, count // 2 + 1, 2)
    assert plans(stub) == [
        f"bfloat16 forward {FIRST}: own kernel, of 4 plans",
        f"bfloat16 input gradient {FIRST}: engine 8, of 3 plans",
        f"bfloat16 weight gradient {FIRST}: own kernel, of 4 plans",
    ]


def test_few_channels_are_not_tried_while_a_graph_is_captured(stub):
    values, attrs = problem((2, 3, 8, 1))
    stub.module.emulate_capture(True)
    with pytest.raises(RuntimeError, match="captured and needs the choice"):
        stub.module.conv2d_forward(*values[:3], *attrs)
    stub.module.emulate_capture(False)
    want = outcome(stub.module, *values, attrs)
    stub.module.emulate_capture(True)
    for a, b in zip(outcome(stub.module, *values, attrs), want):
        np.testing.assert_array_equal(a, b)


def test_weights_too_large_for_the_workspace(stub, reference):
    (x, weight, bias, dy), attrs = problem((1, 256, 64, 1), ((3, 3), (3, 3), ONE, NIL, ONE))
    for filters in (weight, moved(weight, 0)):  # in either order: what is chosen for one serves the other
        check(stub.module, reference, (x, filters, bias, dy), attrs)
    assert counts(stub) == (0, 0, 0)


@pytest.mark.parametrize("how, status", [("supports", 3000), ("create_fails", 1001)])
def test_library_that_cannot(stub, reference, how, status):
    stub.reset(**{how: how != "supports"})
    values, attrs = problem()
    for _ in range(2):
        check(stub.module, reference, values, attrs)
    assert counts(stub) == (0, 0, 0)
    assert len(plans(stub)) == 3 and all(f"own kernel, status {status}" in line for line in plans(stub))


def test_tf32_is_off_until_asked_for(stub):
    values, attrs = problem()
    outcome(stub.module, *values, attrs)
    assert stub.count("tf32") == 0
    stub.module.set_tf32(True)
    outcome(stub.module, *values, attrs)
    count = stub.count("tf32")
    assert count == 6 and sum("engine 9" in line for line in plans(stub)) == 3
    stub.module.set_tf32(False)
    outcome(stub.module, *values, attrs)
    assert stub.count("tf32") == count


def test_bfloat16_is_chosen_once(stub, bfloat16, reference):
    for count in (3, 4, 5):
        check_conv(bfloat16, reference, *problem(dtype="bfloat16"))
        assert counts(stub) == (count,) * 3
    assert plans(stub) == [
        f"bfloat16 forward {SIZES}: engine 9, of 3 plans",
        f"bfloat16 input gradient {SIZES}: engine 9, of 3 plans",
        f"bfloat16 weight gradient {SIZES}: engine 9, rounded, of 3 plans",
    ]


@pytest.mark.parametrize("last", [False, True])
def test_rounded_weight_gradients(stub, bfloat16, reference, last):
    """In either order of the filters, and what is left of the workspace is enough for the library."""
    (x, weight, _, dy), attrs = problem((2, 16, 24, 1), dtype="bfloat16")
    weight = np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else weight
    exactly = reference.conv2d_backward(*(a.astype("float64") for a in (dy, x, weight)), *attrs, ALL)[1]
    got = bfloat16.conv2d_backward(dy, x, weight, *attrs, (False, True, False))[1]
    np.testing.assert_array_equal(got, exactly.astype("bfloat16").astype("float32"))
    assert ", rounded," in plans(stub)[0]


def test_weight_gradients_of_bfloat16_where_the_library_has_them(stub, bfloat16, reference):
    """Those in float32 are tried first: without a clock they stay."""
    stub.module.emulate_clock(False)
    stub.stand_in.stub_mix(True)
    check_conv(bfloat16, reference, *problem(dtype="bfloat16"))
    assert plans(stub)[2] == f"bfloat16 weight gradient {SIZES}: engine 8, of 6 plans"


@pytest.mark.parametrize("offset", [1, 2, 4, 8])
def test_bfloat16_off_a_border(stub, bfloat16, reference, offset):
    """The library is told, and has fewer engines for it."""
    (x, weight, bias, dy), attrs = problem(dtype="bfloat16")
    check_conv(bfloat16, reference, (moved(x, offset), weight, bias, moved(dy, offset)), attrs)
    assert counts(stub) == ((3, 3, 3) if offset == 8 else (2, 2, 2))


def test_capture_needs_a_choice_made_before(stub):
    values, attrs = problem()
    want = outcome(stub.module, *values, attrs)
    stub.module.emulate_capture(True)
    for a, b in zip(outcome(stub.module, *values, attrs), want):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RuntimeError, match="captured and needs the choice .*: run the step once without capture first"):
        stub.module.conv2d_forward(values[0][:1], *values[1:3], *attrs)


def test_finder_is_asked_by_the_first_convolution(stub):
    asked = []

    def find():
        asked.append(True)
        stub.module.load_cudnn(stub.path)

    stub.module.unload_cudnn()
    stub.module.set_cudnn_finder(find)
    stub.module.relu_forward(np.ones(3))
    assert asked == []
    values, attrs = problem((5, 16, 16, 1), WINDOWS[14])  # enough work to release the GIL
    for _ in range(2):
        outcome(stub.module, *values, attrs)
    assert asked == [True] and counts(stub) == (3, 3, 3)


def test_finder_that_finds_nothing(stub, reference):
    stub.module.unload_cudnn()
    asked = []
    stub.module.set_cudnn_finder(lambda: asked.append(True))
    for _ in range(2):
        check(stub.module, reference, *problem())
    assert asked == [True] and counts(stub) == (0, 0, 0)


def test_finder_waits_for_the_end_of_a_capture(stub):
    stub.module.unload_cudnn()
    stub.module.set_cudnn_finder(lambda: stub.module.load_cudnn(stub.path))
    stub.module.emulate_capture(True)
    values, attrs = problem()
    with pytest.raises(RuntimeError, match="captured and needs cuDNN"):
        stub.module.conv2d_forward(*values[:3], *attrs)


def test_convolutions_from_many_threads(stub, reference):
    from concurrent.futures import ThreadPoolExecutor

    cases = [arrays((1 + i % 3, 4, 6, 2), WINDOW, "float32", seed=i) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for got, (values, attrs) in zip(pool.map(lambda c: outcome(stub.module, *c[0], c[1]), cases), cases):
            for a, b in zip(got, outcome(reference, *values, attrs)):
                assert_close(a, b, "conv2d", values[3][:, :1].size ** 0.5)


NOT_CUDNN = (  # source, or None for none; the message
    (None, "cannot open shared object file"),
    ("int unrelated = 1;", "is not cuDNN: it has no cudnnGetVersion"),
    ('extern "C" __attribute__((visibility("default"))) unsigned long cudnnGetVersion() { return 90600; }',
     "is not cuDNN: it has no cudnnGetErrorString"),
)  # fmt: skip


@pytest.mark.parametrize("source, message", NOT_CUDNN, ids=["no file", "no symbols", "one symbol"])
def test_what_is_not_cudnn(stub, tmp_path, source, message):
    target = tmp_path / "liblacking.so"
    if source is not None:
        (tmp_path / "lacking.cpp").write_text(source)
        compile_library(tmp_path / "lacking.cpp", target)
    with pytest.raises(RuntimeError, match=f"liblacking.so.*{message}"):
        stub.module.load_cudnn(str(target))
    values, attrs = problem()
    outcome(stub.module, *values, attrs)  # what was open stays in use
    assert counts(stub) == (2, 2, 2)


@pytest.mark.parametrize("version, words", [(8907, r"8\.9"), (100200, r"10\.2")])
def test_another_version(stub, tmp_path, version, words):
    path = compile_library(HERE / "cudnn_stub.cpp", tmp_path / "libother.so", f"-DVERSION={version}")
    with pytest.raises(RuntimeError, match=rf"libother.so is cuDNN {words}, expected cuDNN 9"):
        stub.module.load_cudnn(path)


def test_version(stub):
    assert stub.module.load_cudnn(stub.path) == 91002


def test_all_gradients_at_once_and_one_by_one_have_the_same_bits(stub):
    (x, weight, _, dy), attrs = problem()
    together = stub.module.conv2d_backward(dy, x, weight, *attrs, ALL)
    for i in range(3):
        alone = stub.module.conv2d_backward(dy, x, weight, *attrs, tuple(j == i for j in range(3)))
        np.testing.assert_array_equal(alone[i], together[i])
