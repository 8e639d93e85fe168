"""Changes in place: those that autograd follows, and those that it must refuse because a gradient would be wrong."""

import numpy as np
import pytest

import fastdl as fd


def leaf(*values, dtype="float64"):
    return fd.tensor(list(values), dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    "function, change, message",
    [
        (lambda x, w: x * w, "x", "Mul needs its input 'input' as it was"),
        (lambda x, w: x * w, "w", "Mul needs its input 'other' as it was"),
        (lambda x, w: x.exp(), "y", "Exp needs its output as it was"),
        (lambda x, w: fd.relu(x), "y", "Relu needs its output as it was"),
        (lambda x, w: x @ w, "w", "MatMul needs its input 'other' as it was"),
    ],
    ids=["mul input", "mul other", "exp output", "relu output", "matmul"],
)
def test_damage_in_place_is_noticed(function, change, message):
    a = fd.ones(3, 3, requires_grad=True)
    x, w = a * 2.0, a * 3.0
    y = function(x, w)
    {"x": x, "y": y, "w": w}[change].add_(1.0)
    with pytest.raises(RuntimeError, match=message + ".*in-place operation modified it.*clone"):
        y.sum().backward()


def test_harmless_changes_in_place_pass():
    a = leaf(2.0)
    x = a * 3.0
    y = x + 1.0  # addition needs neither operand
    x.mul_(10.0)
    (y + x).sum().backward()
    assert a.grad.item() == 33.0


def test_damage_through_a_view_or_a_detached_alias_is_noticed():
    a = fd.ones(4, requires_grad=True)
    for alias in (lambda x: x.detach(), lambda x: x.detach()[1:]):
        x = a * 2.0
        y = (x * x).sum()
        alias(x).add_(1.0)
        with pytest.raises(RuntimeError, match="in-place operation modified it"):
            y.backward()


def test_updating_a_parameter_between_forward_and_backward_is_noticed():
    w = leaf(1.0, 2.0)
    y = (w * w).sum()
    with fd.no_grad():
        w.sub_(0.1)
    with pytest.raises(RuntimeError, match="in-place operation modified it"):
        y.backward()


def test_leaf_in_place_needs_no_grad():
    w = leaf(1.0)
    for change in (lambda: w.add_(1.0), lambda: w.zero_(), lambda: w.__setitem__(0, 3.0), lambda: w.copy_(w.detach())):
        with pytest.raises(RuntimeError, match="leaf tensor that requires grad.*no_grad"):
            change()
    with fd.no_grad():
        w.add_(1.0)
        w[0] += 1.0
    assert w.item() == 3.0 and w.requires_grad and w.is_leaf


def test_views_of_a_leaf_are_guarded_too():
    a = fd.ones(4, requires_grad=True)
    for change in (lambda: a[0].mul_(2.0), lambda: a.view(2, 2).T.zero_(), lambda: a[1:].__setitem__(0, 1.0)):
        with pytest.raises(RuntimeError, match="leaf tensor that requires grad.*no_grad"):
            change()
    with fd.no_grad():
        a[0].mul_(2.0)
    assert a.tolist() == [2.0, 1.0, 1.0, 1.0]


def test_writing_through_a_view_changes_the_history_of_its_base():
    a, b = leaf(1.0, 2.0, 3.0), leaf(5.0)
    x = a * 1.0
    part = x[1:]
    part.mul_(10.0)
    part[0] = b[0]
    np.testing.assert_array_equal(x.detach().numpy(), [1.0, 5.0, 30.0])
    (x.sum() + part.sum()).backward()
    np.testing.assert_array_equal(a.grad.numpy(), [1.0, 0.0, 20.0])
    np.testing.assert_array_equal(b.grad.numpy(), [2.0])


def test_writing_through_a_view_makes_a_constant_depend_on_the_values():
    a, x = leaf(1.0, 2.0), fd.zeros(2, 2, dtype="float64")
    x.T[0].add_(a * 3.0)
    assert x.requires_grad
    (x * x).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [18.0, 36.0])


def _through_views(a, b, weights):
    """Writes through chains of views, the same calls in fastdl and torch."""
    x = a * 1.0
    x[0] += b
    x[:, 1] *= 2.0
    x.view(-1)[2:5].mul_(x.detach().view(-1)[0].item())
    x.T[2].add_(b[:2] * b[1:])
    x.unsqueeze(0).permute(2, 0, 1)[1].squeeze(0).copy_(b[:2])
    x[1][0:2] = b[1] * 4.0
    (x * weights).sum().backward()
    return x


def test_writing_through_views_like_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal((2, 3))]
    ours = [fd.tensor(array, requires_grad=True) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    got, want = _through_views(*ours), _through_views(*theirs)
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-14)
    for x, reference in zip(ours, theirs):
        np.testing.assert_allclose(x.grad.numpy(), reference.grad.numpy(), rtol=1e-14)


def test_a_view_taken_before_a_change_in_place_follows_it():
    a = leaf(1.0, 2.0)
    x = a * 1.0
    part = x[0]
    x.mul_(3.0)
    (part * 2.0).backward()
    np.testing.assert_array_equal(a.grad.numpy(), [6.0, 0.0])
    plain = fd.zeros(2, dtype="float64")
    part = plain[1]
    plain.add_(a * 5.0)  # now plain depends on a, and so does the old view
    part.backward()
    np.testing.assert_array_equal(a.grad.numpy(), [6.0, 5.0])


def test_views_taken_inside_no_grad():
    x = leaf(1.0, 2.0) * 1.0
    with fd.no_grad():
        part = x[0]
    assert (part * 2.0).requires_grad is False
    with pytest.raises(RuntimeError, match="mul_: a view that was taken inside no_grad"):
        part.mul_(2.0)
    x.mul_(3.0)
    with pytest.raises(RuntimeError, match="view that was taken inside no_grad.*modified in place"):
        part * 2.0


def test_in_place_operations_are_recorded():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    x = a * 1.0
    x += b
    x *= 2.0
    x.sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [2.0, 2.0])
    np.testing.assert_array_equal(b.grad.numpy(), [2.0, 2.0])


def test_assignment_is_recorded():
    a, b = leaf(1.0, 2.0, 3.0), leaf(5.0)
    x = a * 2.0
    x[1:2] = b
    np.testing.assert_array_equal(x.detach().numpy(), [2.0, 5.0, 6.0])
    (x * fd.tensor([1.0, 10.0, 100.0], dtype="float64")).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [2.0, 0.0, 200.0])
    np.testing.assert_array_equal(b.grad.numpy(), [10.0])


def test_filling_a_constant_makes_it_depend_on_the_values():
    b, x = leaf(5.0, 6.0), fd.zeros(2, 2, dtype="float64")
    x[0] = b
    x[1] = b * 2.0
    x.sum().backward()
    np.testing.assert_array_equal(b.grad.numpy(), [3.0, 3.0])


def test_indices_that_backward_reads_are_safe():
    x, rows = fd.ones(3, 2, requires_grad=True), np.array([0, 0])
    y = x[rows]
    z = x * 1.0
    z[rows] = 0.0
    rows[:] = 2
    (y.sum() + z.sum()).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[2, 2], [1, 1], [1, 1]])
    values, indices = (x * 1.0).max(0)
    indices.fill_(1)
    with pytest.raises(RuntimeError, match="in-place operation modified it"):
        values.sum().backward()


def test_writing_through_a_view_of_a_number():
    a = fd.tensor(2.0, requires_grad=True)
    x = a * 3.0
    x.view(1).mul_(5.0)
    x.backward()
    assert x.item() == 30.0 and a.grad.item() == 15.0
