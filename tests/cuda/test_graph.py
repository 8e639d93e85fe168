"""Captured steps on the GPU: as CUDA graphs, bit for bit what the step does as written."""

import gc
import weakref

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from fastdl import kernels, nn
from small_nets import batch, small_net

pytestmark = pytest.mark.usefixtures("cuda")


def net():
    fd.manual_seed(1)
    return nn.Sequential(small_net("cuda"), nn.Dropout(0.3), nn.Dropout(0.2), nn.Linear(3, 3, device="cuda"))


def make(captured, optimizer="Adam", clip=None, **options):
    """(model, optimizer, step) of a small network."""
    model = net()
    rule = getattr(fd.optim, optimizer)(model.parameters(), lr=0.01, **options)

    def step(x, y):
        rule.zero_grad()
        output = model(x)
        loss = F.cross_entropy(output, y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        rule.step()
        return loss, output

    return model, rule, fd.capture(step) if captured else step


def data(k, n=12):
    x, y = batch(n)
    return (x * float(1 + k % 5)).cuda(), y.cuda()


def bits(model, rule):
    state = [v for entry in rule.state_dict()["state"].values() for v in entry.values()]
    tensors = [*model.state_dict().values(), *(v for v in state if isinstance(v, fd.Tensor))]
    counts = [v for v in state if isinstance(v, int)] + [p._version for p in model.parameters()]
    return [t.cpu().numpy().tobytes() for t in tensors] + counts


def same_run(run, **options):
    """run(model, rule, step) captured and as written gives the same bits, results included."""
    found = []
    for captured in (False, True):
        model, rule, step = make(captured, **options)
        fd.manual_seed(9)
        results = run(model, rule, step)
        found.append((bits(model, rule), results, fd.random.default_generator.state_dict()))
    assert found[0] == found[1]
    return step


def losses(step, count):
    return [[t.detach().cpu().numpy().tobytes() for t in step(*data(k))] for k in range(count)]


@pytest.mark.parametrize("optimizer, options", [
    ("Adam", {}), ("AdamW", {"amsgrad": True}), ("SGD", {"momentum": 0.9}), ("SGD", {}), ("Adam", {"clip": 0.1}),
    ("RMSprop", {"centered": True}),
], ids=str)  # fmt: skip
def test_replays_equal_the_step_as_written(optimizer, options):
    step = same_run(lambda model, rule, step: losses(step, 7), optimizer=optimizer, **options)
    assert step.programs == 1


def test_learning_rates_modes_and_seeds_are_followed():
    def run(model, rule, step):
        found = losses(step, 5)
        rule.param_groups[0]["lr"] = 0.1
        found += losses(step, 2)
        model.eval()
        found += losses(step, 5)
        model.train()
        fd.manual_seed(4)
        return found + losses(step, 4)

    assert same_run(run).programs == 3  # training, evaluation, the other seed


def test_other_shapes_have_programs_of_their_own():
    def run(model, rule, step):
        return [[t.detach().cpu().numpy().tobytes() for t in step(*data(k, 12 if k % 3 else 5))] for k in range(12)]

    assert same_run(run).programs == 2


def test_another_precision_has_a_program_of_its_own():
    _, _, step = make(True)
    losses(step, 2)
    try:
        fd.set_float32_matmul_precision("high")
        losses(step, 2)
    finally:
        fd.set_float32_matmul_precision("highest")
    assert step.programs == 2


def test_gradients_that_pile_up():
    def run(model, rule, step):
        @fd.capture if isinstance(step, fd.capture(lambda: 0).__class__) else lambda f: f
        def accumulate(x, y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        found = []
        for k in range(12):
            found.append(accumulate(*data(k)).item())
            if k % 4 == 3:
                rule.step()
                rule.zero_grad(set_to_none=False)
        return found

    same_run(run)


def test_results_are_copies_and_inputs_are_not_kept():
    _, _, step = make(True)
    kept = [step(*data(k))[0] for k in range(5)]
    assert len({loss.item() for loss in kept}) == 5 and not any(loss.requires_grad for loss in kept)
    x, y = data(0)
    before = x.tolist()
    step(x, y)
    assert x.tolist() == before


def test_inference_and_structures():
    model = net().eval()
    infer = fd.capture(lambda batch, scale: {"y": model(batch["x"]) * scale, "n": 3})
    for k in range(5):
        x, _ = data(k)
        out = infer({"x": x}, 2.0)
        assert out["n"] == 3 and out["y"].tolist() == (model(x) * 2.0).tolist()


@pytest.mark.parametrize("leave", [
    lambda t: t.item(), lambda t: t.tolist(), lambda t: bool(t > 0), lambda t: t.cpu(), lambda t: fd.rand(2),
], ids=["item", "tolist", "bool", "cpu", "rand"])  # fmt: skip
def test_what_leaves_the_gpu_is_refused(leave):
    x = fd.ones(3, device="cuda")

    def step(x):
        y = (x * 2.0).sum()
        leave(y)
        return y

    with pytest.raises(fd.CaptureError, match="step can't be replayed: .*test_graph.py.*The step itself was done"):
        fd.capture(step)(x)
    fallen = fd.capture(step, fallback=True)
    with pytest.warns(RuntimeWarning, match="It runs as written, slower"):
        assert fallen(x).item() == 6.0
    assert fallen(x).item() == 6.0


def test_what_a_graph_cannot_hold_runs_as_written():
    """Waiting for the GPU by CuPy's own means is found while recording; what Python did then is taken back."""
    model, rule, _ = make(False)
    other, other_rule, plain = make(False)

    def step(x, y):
        rule.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        rule.step()
        float(loss.data)  # which fastdl does not see
        return loss

    def plain_step(x, y):
        other_rule.zero_grad()
        loss = F.cross_entropy(other(x), y)
        loss.backward()
        other_rule.step()
        return loss

    captured = fd.capture(step, fallback=True)
    fd.manual_seed(2)
    captured(*data(0))
    with pytest.warns(RuntimeWarning, match="recording a CUDA graph failed"):
        captured(*data(1))
    captured(*data(2))
    fd.manual_seed(2)
    for k in range(3):
        plain_step(*data(k))
    assert bits(model, rule) == bits(other, other_rule)


def test_values_that_change_outside_are_found():
    count = [0]

    def step(x):
        count[0] += 1
        return x * float(count[0])

    x = fd.ones(2, device="cuda")
    captured = fd.capture(step)
    captured(x)
    with pytest.raises(fd.CaptureError, match="uses the number 2.0, which it did not use the first time"):
        captured(x)
    for known in range(6):
        x * float(known)
    captured = fd.capture(step)
    assert captured(x).tolist() == [4.0, 4.0] and captured(x).tolist() == [5.0, 5.0]
    x * 6.0
    with pytest.raises(fd.CaptureError, match="other bits than the function for the result"):
        captured(x)


def test_memory_changed_in_place_is_followed():
    total = fd.zeros(2, device="cuda")

    @fd.capture
    def step(x):
        total.add_(x)
        return total * 1.0

    for k in range(6):
        assert step(fd.full((2,), 2.0, device="cuda")).tolist() == [2.0 * (k + 1)] * 2


def test_explain_says_where_to_look():
    _, _, step = make(True)
    step(*data(0))
    with pytest.raises(RuntimeError, match="one CUDA graph; Nsight Systems"):
        step.explain()


def test_a_step_on_the_host_with_kernels_on_the_gpu_is_refused():
    weight = fd.ones(2, device="cuda")

    @fd.capture
    def step(x):
        (weight * 2.0).sum()
        return x * 2.0

    with pytest.raises(fd.CaptureError, match="kernels on the GPU in a step without inputs there"):
        step(fd.ones(2))


def test_a_step_on_the_gpu_with_kernels_on_the_host_is_refused(cpu):
    weight = fd.ones(2)

    @fd.capture
    def step(x):
        (weight * 2.0).sum()
        return x * 2.0

    with fd.device("cpu"), pytest.raises(fd.CaptureError, match="it runs kernels on the host in a step on the GPU"):
        step(fd.ones(2, device="cuda"))


def test_tensors_of_the_host_among_inputs_and_results_are_refused():
    x, host = fd.ones(2, device="cuda"), fd.ones(2)
    for step, args in ((lambda x, y: x * 2.0, (x, host)), (lambda x: (x * 2.0, host), (x,))):
        with pytest.raises(fd.CaptureError, match="takes or returns tensors in the host's memory"):
            fd.capture(step)(*args)
    with pytest.raises(fd.CaptureError, match="got a CuPy array"):
        fd.capture(lambda x: x.data)(x)


def test_inputs_changed_in_place_are_refused():
    for change in (lambda x: x.add_(1.0), lambda x: x[0].zero_()):
        with pytest.raises(fd.CaptureError, match="a change of an input in place"):
            fd.capture(lambda x, change=change: change(x) * 2.0)(fd.ones(2, 2, device="cuda"))


def test_intermediates_changed_in_place():
    model = nn.Sequential(nn.Linear(4, 4, device="cuda"), nn.ReLU(inplace=True), nn.Linear(4, 2, device="cuda"))

    @fd.capture
    def step(x):
        h = model(x)
        h += 1.0
        h[0] = 3.0
        return h.sum()

    x = fd.rand(3, 4, device="cuda")
    found = [step(x * float(k)).item() for k in (1, 2, 3, 4, 1, 2, 3)]
    assert found[:3] == found[4:] and len(set(found)) == 4 and step.programs == 1


def test_arrays_that_only_the_graph_reads_stay():
    box = [fd.full((2,), 5.0, device="cuda"), fd.tensor([7, 8], device="cuda")]

    @fd.capture
    def step(x):
        return x * box[0] + box[1].float()

    x = fd.ones(2, device="cuda")
    for _ in range(4):
        step(x)
    gone = [weakref.ref(t.data) for t in box]
    box.clear()
    gc.collect()
    assert all(ref() is not None for ref in gone)
    box += [fd.zeros(2, device="cuda"), fd.zeros(2, device="cuda")]
    assert step(x).tolist() == [12.0, 13.0]


def test_what_fails_is_not_tried_again():
    x, calls = fd.ones(2, device="cuda"), []

    def step(x):
        calls.append(1)
        return x * float(len(calls))

    captured = fd.capture(step)
    captured(x)
    with pytest.raises(fd.CaptureError):
        captured(x)
    assert captured.programs == 0


def test_an_interrupt_while_recording_leaves_the_stream_free():
    calls = []

    def step(x):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return x * 2.0

    captured, x = fd.capture(step), fd.ones(2, device="cuda")
    captured(x)
    with pytest.raises(KeyboardInterrupt):
        captured(x)
    other = fd.capture(lambda x: x * 3.0)
    assert [other(x).tolist() for _ in range(4)] == [[3.0, 3.0]] * 4


def test_steps_without_inputs_and_steps_on_the_host():
    with fd.device("cuda"):
        weight, host = fd.ones(2), fd.ones(2, device="cpu")
        step = fd.capture(lambda: weight * 2.0)
        assert [step().tolist() for _ in range(5)] == [[2.0, 2.0]] * 5
        on_host = fd.capture(lambda x: x * 2.0)
        assert [on_host(host).tolist() for _ in range(5)] == [[2.0, 2.0]] * 5


def test_an_error_in_the_step_is_the_callers():
    x = fd.ones(2, 3, device="cuda")
    step = fd.capture(lambda x: x @ x)
    for _ in range(2):
        with pytest.raises(ValueError, match="matmul: other must have 3 rows"):
            step(x)


def test_a_learning_rate_that_is_not_finite_is_refused():
    _, rule, step = make(True)
    losses(step, 4)
    rule.param_groups[0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="lr must be finite, got nan"):
        step(*data(0))


def test_inputs_that_require_grad():
    def run(captured):
        x = fd.ones(3, device="cuda", requires_grad=True)

        def step(x):
            x.grad = None
            y = (x * x).sum()
            y.backward()
            return y

        step = fd.capture(step) if captured else step
        found = []
        for k in range(5):
            with fd.no_grad():
                x.fill_(float(k))
            found.append((step(x).item(), x.grad.tolist()))
        return found

    assert run(True) == run(False)


def test_kernels_read_the_counter_from_memory(cuda):
    x = fd.ones(40, device="cuda")
    place = kernels.place(np.array(7, np.int64), "cuda")
    found = [fd.Tensor(cuda.dropout(x.data, 0.5, 3, counter)).tolist() for counter in (place, 7)]
    assert found[0] == found[1]
