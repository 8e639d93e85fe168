"""fastdl.capture: a replayed step equals the step as written, bit for bit."""

import re

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn, optim
from fastdl.nn import functional as F

pytestmark = pytest.mark.skipif(fd.get_device() != "cpu", reason="needs the compiled kernels")


class Training:
    """A model, its optimizer and a step, made anew from the same seed each time."""

    def __init__(self, build, optimizer, schedule=None, clip=None, loss=F.cross_entropy):
        fd.manual_seed(3)
        self.model = build()
        self.optimizer = optimizer(self.model.parameters())
        self.schedule = schedule(self.optimizer) if schedule else None
        self.clip, self.loss = clip, loss

    def step(self, x, y):
        self.optimizer.zero_grad()
        output = self.model(x)
        loss = self.loss(output, y)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss, output

    def run(self, batches, captured):
        """The bits of everything that training changes, and of every result."""
        step = fd.capture(self.step) if captured else self.step
        bits = []
        for x, y in batches:
            loss, output = step(x, y)
            if self.schedule:
                self.schedule.step()
            bits.append(loss.detach().numpy().tobytes() + output.detach().numpy().tobytes())
        state = [t.numpy().tobytes() for t in self.model.state_dict().values()]
        for saved in self.optimizer.state_dict()["state"].values():
            state += [v.numpy().tobytes() if isinstance(v, fd.Tensor) else v for v in saved.values()]
        self.captured = step
        return bits, state, fd.random.default_generator.state_dict()


def batches(shape, count, classes=4, sizes=(8,)):
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        n = sizes[i % len(sizes)]
        x = rng.standard_normal((n, *shape), np.float32)
        found.append((fd.tensor(x), fd.tensor(rng.integers(0, classes, n))))
    return found


def mlp():
    return nn.Sequential(
        nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 7), nn.Tanh(), nn.Dropout(0.1),
        nn.Linear(7, 4),
    )  # fmt: skip


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 5, 3), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(5, 4),
    )  # fmt: skip


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def assert_same(make, data):
    eager, replayed = make().run(data, False), make().run(data, True)
    for wrong, (a, b) in enumerate(zip(eager[0], replayed[0])):
        assert a == b, f"the result of step {wrong} differs"
    assert eager[1:] == replayed[1:]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_mlp_gives_the_same_bits_for_hundreds_of_steps(optimizer):
    def make():
        return Training(mlp, OPTIMIZERS[optimizer], lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 300), clip=1.0)

    assert_same(make, batches((6,), 300))


def test_a_cnn_with_changing_shapes():
    def make():
        return Training(cnn, OPTIMIZERS["adam"], lambda o: optim.lr_scheduler.StepLR(o, 10, 0.5))

    assert_same(make, batches((3, 8, 8), 100, sizes=(8, 8, 8, 5, 1)[:4]))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_the_bits(threads):
    def make():
        return Training(lambda: nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 4)), OPTIMIZERS["adam"])

    before = fd.get_num_threads()
    try:
        fd.set_num_threads(2)
        want = make().run(batches((200,), 20, sizes=(64,)), False)
        fd.set_num_threads(threads)
        assert make().run(batches((200,), 20, sizes=(64,)), True) == want
    finally:
        fd.set_num_threads(before)


def test_one_program_for_each_kind_of_input():
    training = Training(mlp, OPTIMIZERS["adam"])
    training.run(batches((6,), 12, sizes=(8, 5)), True)
    assert training.captured.programs == 2


def test_the_python_code_runs_twice_only():
    calls = []

    @fd.capture
    def step(x):
        calls.append(1)
        return x * 2

    inputs = [fd.tensor([float(i), 1.0]) for i in range(5)]
    for i, x in enumerate(inputs):
        assert step(x).tolist() == [2.0 * i, 2.0]
    assert len(calls) == 2


def test_inputs_that_share_memory_have_a_program_of_their_own():
    step = fd.capture(lambda a, b: a * b)
    z = fd.tensor([1.0, 2.0, 3.0])
    pairs = [(z, z), (z, z), (z, z), (z, z.clone()), (z.clone(), z), (z, fd.ones(3)), (z[:2], z[1:]), (z[:2], z[1:])]
    for a, b in pairs:
        assert step(a, b).tolist() == [p * q for p, q in zip(a.tolist(), b.tolist())]
    assert step.programs == 3


def test_an_input_known_by_another_name_is_found_when_it_moves():
    constant = fd.tensor([1.0, 2.0])
    step = fd.capture(lambda x: x * constant)
    for _ in range(3):
        assert step(constant).tolist() == [1.0, 4.0]
    with pytest.raises(fd.CaptureError, match="gave other bits"):
        step(fd.ones(2))


@pytest.mark.parametrize("calls", range(1, 5))
def test_replays_count_as_changes_in_place(calls):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @fd.capture
    def step(x):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()

    x = fd.tensor(np.random.default_rng(0).standard_normal((4, 2), np.float32))
    for _ in range(calls):
        step(x)
    weight, mean = model[1].weight, model[0].running_mean
    before = weight._version, mean._version
    y = F.linear(fd.ones(1, 2, requires_grad=True), weight).sum()
    step(x)
    assert (weight._version, mean._version) == (before[0] + 1, before[1] + 1)
    with pytest.raises(RuntimeError, match="an in-place operation modified it"):
        y.backward()


def test_a_leaf_that_is_an_argument_is_followed():
    leaves = [fd.ones(2, requires_grad=True) for _ in range(2)]

    @fd.capture
    def step(w, x):
        w.grad = None
        (w * x).sum().backward()
        with fd.no_grad():
            w.sub_(w.grad * 0.25)

    for _ in range(4):
        for i, leaf in enumerate(leaves):
            step(leaf, fd.full((2,), float(i + 1)))
    assert [leaf.tolist() for leaf in leaves] == [[0.0, 0.0], [-1.0, -1.0]]


def test_clipped_values_are_replayed():
    w = nn.Parameter(fd.ones(2))
    optimizer = optim.SGD([w], lr=1.0)

    @fd.capture
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        nn.utils.clip_grad_value_([w], 0.5)
        optimizer.step()

    for i in range(4):
        step(fd.tensor([float(i), 0.25]))
    assert w.tolist() == [1 - 1.5, 0.0]


def test_evaluation_and_training_have_programs_of_their_own():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    step = fd.capture(lambda x: model(x))
    x = fd.ones(2, 3)
    for _ in range(3):
        model.train()
        masked = step(x)
        model.eval()
        assert (step(x) == model(x)).data.all()
    assert step.programs == 2 and masked.shape == (2, 3)


def test_gradients_accumulate_as_written():
    def run(captured):
        fd.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def add(x):
            loss = model(x).sum()
            loss.backward()
            return loss

        step = fd.capture(add) if captured else add
        for i in range(12):
            step(fd.full((4, 3), float(i)))
            if i % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
        return model.weight.numpy().tobytes() if not model.weight.requires_grad else model.weight.data.tobytes()

    assert run(True) == run(False)


def test_leaves_without_an_optimizer():
    w = fd.tensor([1.0, 2.0], requires_grad=True)

    @fd.capture
    def step(x):
        w.grad = None
        (w * x).sum().backward()

    for i in range(4):
        step(fd.tensor([float(i), 1.0]))
        assert w.grad.tolist() == [float(i), 1.0]


def test_results_are_copies():
    step = fd.capture(lambda x: x + 1)
    results = [step(fd.tensor([float(i)])) for i in range(4)]
    assert [r.item() for r in results] == [1.0, 2.0, 3.0, 4.0]


def test_structures_of_arguments_and_results():
    step = fd.capture(lambda pair, scale, more: {"sum": pair[0] + pair[1] * scale, "rest": [more["z"] * 2, None, 7]})
    for i in range(4):
        a, b, z = (fd.tensor([float(i), k]) for k in (1.0, 2.0, 3.0))
        got = step((a, b), 3, more={"z": z})
        assert got["sum"].tolist() == [4.0 * i, 7.0] and got["rest"][0].tolist() == [2.0 * i, 6.0]
        assert got["rest"][1:] == [None, 7]


def test_labels_are_checked_in_every_replay():
    step = fd.capture(lambda x, y: F.cross_entropy(x, y))
    x = fd.zeros(2, 3)
    for _ in range(3):
        step(x, fd.tensor([0, 2]))
    with pytest.raises(IndexError, match=re.escape("target must lie in [0, 3)")):
        step(x, fd.tensor([0, 3]))
    assert step(x, fd.tensor([0, 2])).item() == pytest.approx(np.log(3), rel=1e-6)


def test_parameters_that_are_replaced_or_loaded_are_seen():
    model = nn.Linear(2, 1)
    step = fd.capture(lambda x: model(x))
    x = fd.ones(1, 2)
    for _ in range(3):
        step(x)
    model.load_state_dict({"weight": fd.tensor([[3.0, 4.0]]), "bias": fd.tensor([1.0])})
    assert step(x).item() == 8
    model.weight = nn.Parameter(fd.tensor([[1.0, 1.0]]))
    assert step(x).item() == 3


def test_options_of_the_optimizer_are_followed():
    w = fd.nn.Parameter(fd.tensor([1.0]))
    optimizer = optim.SGD([w], lr=0.5)

    @fd.capture
    def step():
        optimizer.zero_grad()
        (w * 1).sum().backward()
        optimizer.step()

    for _ in range(3):
        step()
    optimizer.param_groups[0]["lr"] = 0.25
    step()
    assert w.item() == -0.75
    optimizer.param_groups[0]["weight_decay"] = 1.0
    step()
    assert w.item() == -0.75 - 0.25 * (1 - 0.75)


def test_an_error_in_the_step_is_the_steps_own():
    def broken(x):
        raise KeyError("mine")

    step = fd.capture(broken)
    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            step(fd.ones(1))
    assert fd.capture(lambda x: x + 1)(fd.ones(1)).item() == 2  # the recorder is free again


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="function must be callable, got int"):
        fd.capture(3)
    with pytest.raises(TypeError, match="must be Tensors, got a NumPy array"):
        fd.capture(lambda x: x)(np.ones(3))


def test_the_numpy_backend_calls_the_function():
    with fd.device("numpy"):
        step = fd.capture(lambda x: x * x.sum().item())
        assert [step(fd.tensor([2.0])).item() for _ in range(3)] == [4.0] * 3


def test_explain_lists_the_calls():
    training = Training(mlp, OPTIMIZERS["adam"])
    training.run(batches((6,), 3), True)
    before = [p.data.copy() for p in training.model.parameters()]
    report = training.captured.explain()
    assert all(np.array_equal(a, p.data) for a, p in zip(before, training.model.parameters()))
    names = [row.call for row in report.rows]
    assert names[0] == "linear_forward" and names[-1] == "adam_step" and "dropout" in names
    first = report.rows[0]
    assert first.flops == 2 * 8 * 6 * 9 and first.bytes == 4 * (8 * 6 + 9 * 6 + 9 + 8 * 9)
    text = str(report).splitlines()
    assert len(text) == len(names) + 2 and all(len(line) <= 80 for line in text)
    with pytest.raises(RuntimeError, match="call the step first"):
        fd.capture(lambda x: x).explain()


def test_explain_shows_the_usual_program():
    step = fd.capture(lambda x, y: (x * 2).sum() + y)
    for size in (3, 32, 32, 32, 32, 7, 7):
        step(fd.ones(size, 5), fd.tensor(1.0))
    report = step.explain()
    assert report.shapes == [(32, 5), ()] and report.programs == 3
    assert str(report).splitlines()[-1] == "the most replayed of 3 programs, inputs 32x5, ()"


def test_intermediates_share_memory():
    def deep(x):
        with fd.no_grad():
            for _ in range(20):
                x = x + 1
        return x

    step = fd.capture(deep)
    x = fd.zeros(1000)
    for _ in range(3):
        assert step(x).data[0] == 20
    assert step.explain().memory <= 3 * 4096


def test_a_value_that_is_read_again_is_not_fused_away():
    layer = nn.Linear(3, 3)

    def forward(x):
        y = layer(x)
        return F.relu(y) + y

    step = fd.capture(forward)
    for i in range(4):
        x = fd.full((2, 3), float(i) - 1)
        assert np.array_equal(step(x).data, forward(x).data)


def test_a_bias_that_is_an_input_of_the_step_is_followed():
    weight, images = fd.ones(3), fd.tensor(np.random.default_rng(0).standard_normal((4, 3, 2, 2), np.float32))

    leaf = images.detach().requires_grad_()

    def gradient(bias):
        leaf.grad = None
        F.relu(F.batch_norm(leaf, None, None, weight, bias, training=True)).sum().backward()
        return leaf.grad.clone()

    captured = fd.capture(gradient)
    for i in range(5):
        bias = fd.full((3,), float(i) - 2)
        assert np.array_equal(captured(bias).data, gradient(bias).data)


def test_sums_of_nothing():
    step = fd.capture(lambda x: (x.sum(), x.mean(), x.sum(0)))
    for _ in range(4):
        total, mean, columns = step(fd.tensor(np.zeros((0, 3), np.float32)))
        assert total.item() == 0 and np.isnan(mean.item()) and columns.tolist() == [0.0, 0.0, 0.0]


def test_a_parameter_that_is_frozen_and_thawed():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = fd.optim.SGD(net.parameters(), lr=0.1)

    @fd.capture
    def step(x):
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    x = fd.ones(4, 2)
    for frozen in (False, True, False, True):
        net[0].weight.requires_grad_(not frozen)
        before = net[0].weight.tolist()
        for _ in range(3):
            step(x)
        assert (net[0].weight.tolist() == before) == frozen
    assert step.programs >= 2
