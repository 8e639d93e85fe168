"""Tensors, layers, optimizers, data and training on the GPU: nothing moves unasked, and results are the CPU's."""

import copy

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from fastdl import kernels, nn
from fastdl.data import ArrayDataset, DataLoader, Subset, random_split
from fastdl.recipes import runner
from fastdl.train import Trainer, load_checkpoint, save_checkpoint
from functional.cases import CASES
from small_nets import batch, small_net
from tolerances import assert_close

pytestmark = pytest.mark.usefixtures("cuda")


def on_gpu(*tensors):
    return all(kernels.on_gpu(t.data) for t in tensors)


# Where tensors are


def test_moving_there_and_back():
    x = fd.tensor([[1.0, 2.0], [3.0, 4.0]])
    y = x.to("cuda")
    assert y.device == "cuda" and on_gpu(y) and not on_gpu(x)
    assert y.to("cuda") is y and x.cpu() is x and x.to("cpu") is x and y.cuda() is y
    assert y.cpu().tolist() == y.tolist() == x.tolist() and y[1, 0].item() == 3.0
    assert y.to(x) is not y and not on_gpu(y.to(x)) and y.double().dtype == np.float64
    assert on_gpu(x.cuda(), x.to("cuda", np.float64), x.to(y), y.float())


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)], ids=str)
def test_moving_keeps_the_memory_order(order):
    host = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5).transpose(order)
    there = fd.from_numpy(host).cuda()
    assert there.data.strides == host.strides
    np.testing.assert_array_equal(there.cpu().numpy(), host)
    assert there.cpu().data.strides == host.strides


def test_gradients_move_back():
    x = fd.tensor([1.0, 2.0], requires_grad=True)
    (x.cuda() * 3.0).sum().backward()
    assert not on_gpu(x.grad) and x.grad.tolist() == [3.0, 3.0]
    y = fd.tensor([1.0, 2.0], requires_grad=True, device="cuda")
    (y.cpu() * y.cpu()).sum().backward()
    assert on_gpu(y.grad) and y.grad.tolist() == [2.0, 4.0]


def test_device_in_use_and_named():
    assert fd.get_device() != "cuda"
    with fd.device("cuda"):
        assert fd.get_device() == "cuda"
        made = (
            fd.tensor(1.0), fd.zeros(2), fd.ones(2), fd.full((2,), 3), fd.arange(3), fd.linspace(0, 1, 3), fd.eye(2),
            fd.rand(2), fd.randn(2), fd.randint(5, (2,)), fd.randperm(4), fd.as_tensor([1.0]), nn.Linear(2, 2).weight,
            nn.BatchNorm2d(2).running_mean, nn.BatchNorm2d(2).num_batches_tracked, nn.Embedding(3, 2).weight,
        )  # fmt: skip
        assert on_gpu(*made)
        assert not on_gpu(fd.from_numpy(np.ones(2))) and not on_gpu(fd.tensor(1.0, device="cpu"))
        with fd.device("numpy"):
            assert fd.zeros(1).device == "numpy"
        assert fd.zeros(1).device == "cuda"
    assert not on_gpu(fd.zeros(1)) and on_gpu(fd.zeros(1, device="cuda"), nn.Linear(1, 1, device="cuda").bias)


def test_likes_are_made_beside():
    x = fd.zeros(2, device="cuda")
    made = (fd.zeros_like(x), fd.ones_like(x), fd.full_like(x, 2), fd.rand_like(x), fd.randn_like(x), fd.tensor(x))
    assert on_gpu(*made, x.detach(), x.clone(), copy.deepcopy(x))
    assert not on_gpu(fd.tensor(x, device="cpu"))
    assert on_gpu(fd.Tensor(x.data), fd.as_tensor(x.data), fd.tensor(x.data))


def test_nothing_leaves_unasked():
    x = fd.zeros(2, device="cuda")
    for call in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(TypeError, match=r"the tensor lies on the GPU; copy it to the host with t.cpu\(\).numpy"):
            call()
    with pytest.raises(TypeError, match="from_numpy: array must be a NumPy array, got ndarray"):
        fd.from_numpy(x.data)


def test_precision_reaches_the_kernels(cuda):
    fd.set_float32_matmul_precision("high")
    try:
        assert cuda.get_tf32()
    finally:
        fd.set_float32_matmul_precision("highest")
    assert not cuda.get_tf32()


def test_printing():
    assert repr(fd.tensor([1.0, 2.0], device="cuda")) == "tensor([1., 2.], device='cuda')"
    assert f"{fd.tensor(0.5, device='cuda'):.2f}" == "0.50"


def test_protocols():
    x = fd.zeros(2, 3, device="cuda")
    assert x.__dlpack_device__()[0] == 2 and x.__cuda_array_interface__["shape"] == (2, 3)
    assert not hasattr(fd.zeros(1), "__cuda_array_interface__")

    class Foreign:
        __cuda_array_interface__ = x.__cuda_array_interface__

    x.fill_(2.0)
    shared = fd.as_tensor(Foreign())
    shared[0] = 3.0
    assert on_gpu(shared) and x.tolist() == [[3.0] * 3, [2.0] * 3]
    assert fd.as_tensor(Foreign(), dtype="float64").dtype == np.float64
    with pytest.raises(RuntimeError, match="requires grad"):
        x.requires_grad_().__cuda_array_interface__  # noqa: B018
    with pytest.raises(BufferError, match="requires grad"):
        x.__dlpack__()


# Mixing


@pytest.mark.parametrize("case", [case for case in CASES if len(case.specs()) > 1], ids=str)
def test_mixing_raises(case):
    tensors = [fd.tensor(array) for array, _ in case.arrays()]
    for i in range(len(tensors)):
        mixed = [t.cuda() if j == i else t for j, t in enumerate(tensors)]
        with pytest.raises(TypeError, match=r"(move it with|must lie)"):
            case.call(getattr(F, case.name), mixed)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: x + y,
        lambda x, y: x.long() + y.long(),
        lambda x, y: x.long() == y.long(),
        lambda x, y: x + y.long(),
        lambda x, y: x @ y,
        lambda x, y: x.backward(y),
        lambda x, y: setattr(x, "grad", y),
        lambda x, y: x.__setitem__(0, y[0]),
        lambda x, y: x[y.long()],
        lambda x, y: x[np.array([0])] if on_gpu(x) else x[y.long()],
        lambda x, y: fd.where(x > 0, x.long(), y.long()),
        lambda x, y: fd.cat([x, y]),
        lambda x, y: nn.Linear(2, 2)(x.cuda() if on_gpu(x) else y),
    ],
)
def test_more_mixing_raises(call):
    for x, y in (("cuda", "cpu"), ("cpu", "cuda")):
        with pytest.raises(TypeError, match=r"(move it with|must lie)"):
            call(fd.ones(2, device=x, requires_grad=True) * 1.0, fd.ones(2, device=y))


def test_copy_moves_since_it_is_asked_to():
    x = fd.zeros(2, device="cuda")
    x.copy_(fd.tensor([1.0, 2.0]))
    x.copy_(np.array([1.0, 2.0], np.float32))
    assert on_gpu(x) and x.tolist() == [1.0, 2.0]


def test_numbers_and_lists_meet_tensors():
    x = fd.tensor([1.0, 2.0, 3.0], device="cuda")
    assert on_gpu(x + 1, 2 * x, x.pow(2), x > 1, x.long() // 2, x.clamp(0, 2), x[[0, 2]], x[-1:])
    x[[0, 1]] = 5
    x[2] = 7.0
    assert x.tolist() == [5.0, 5.0, 7.0] and x.fill_(2).tolist() == [2.0] * 3 and x.zero_().tolist() == [0.0] * 3


def test_quotients_are_numpys():
    values = [5.0, -5.0, 1.0, -1.0, 0.0, -0.0, 0.3, 7.5, float("inf"), float("nan"), 1e300]
    others = [0.1, -0.1, 2.0, -3.0, 0.0, -0.0, float("inf"), float("-inf"), 1.0]
    a, b = (np.array(x) for x in (values, others))
    x, y = (fd.from_numpy(np.repeat(a, len(b))).cuda(), fd.from_numpy(np.tile(b, len(a))).cuda())
    with np.errstate(all="ignore"):
        for ours, numpys in ((fd.floor_divide, np.floor_divide), (fd.remainder, np.remainder)):
            got, want = ours(x, y).cpu().numpy(), numpys(np.repeat(a, len(b)), np.tile(b, len(a)))
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


def test_powers_of_integers():
    x = fd.tensor([2, 3], device="cuda")
    assert (x**2).tolist() == [4, 9]
    with pytest.raises(ValueError, match="exponent must not be negative for integers"):
        x ** fd.tensor([1, -1], device="cuda")


def test_negative_zero_arrives():
    assert (fd.ones(1, device="cuda") / -0.0).item() == float("-inf")
    assert np.signbit(fd.tensor(-0.0, device="cuda").item())


def test_an_index_out_of_range_gives_nan():
    x = fd.ones(3, 2, device="cuda")
    if kernels.backend("cuda")._cuda.__class__.__name__ == "Extension":
        pytest.skip("the emulated kernels look at indices before they run")
    assert np.isnan(x[fd.tensor([0, 7], device="cuda")].cpu().numpy()[1]).all()


# Random numbers


def test_same_seed_same_numbers():
    def draw(device):
        fd.manual_seed(3)
        x = fd.zeros(3, 4, device=device)
        model = nn.Sequential(nn.Linear(4, 8, device=device), nn.Dropout(0.4))
        return [fd.rand(5, device=device), fd.randn(5, device=device), fd.randperm(9, device=device),
                x.uniform_().clone(), x.normal_(), model(x), *model.parameters()]  # fmt: skip

    for here, there in zip(draw("cpu"), draw("cuda")):
        assert on_gpu(there)
        assert_close(there.detach().cpu().numpy(), here.detach().numpy(), "linear")


# Layers, optimizers, state


def steps(model, optimizer, x, y, count=3, clip=None):
    for _ in range(count):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return loss.item()


def assert_alike(model, other):
    for (name, here), there in zip(model.state_dict().items(), other.state_dict().values()):
        np.testing.assert_allclose(there.cpu().numpy(), here.cpu().numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_training_is_the_cpus(kind):
    x, y = batch()
    here, there = small_net(), small_net("cuda")
    a, b = (getattr(fd.optim, kind)(net.parameters(), lr=0.01) for net in (here, there))
    losses = steps(here, a, x, y, clip=0.5), steps(there, b, x.cuda(), y.cuda(), clip=0.5)
    assert abs(losses[0] - losses[1]) < 1e-5
    assert_alike(here, there)
    assert all(on_gpu(p, p.grad) for p in there.parameters())
    assert all(on_gpu(t) for t in b.state_dict()["state"].get(0, {}).values() if isinstance(t, fd.Tensor))


def test_a_model_moves_and_state_moves_freely(tmp_path):
    x, y = batch()
    here = small_net()
    first = fd.optim.Adam(here.parameters())
    steps(here, first, x, y)
    fd.save(here.state_dict(), tmp_path / "here.safetensors")
    there = small_net().cuda()
    assert all(on_gpu(t) for t in (*there.parameters(), *there.buffers()))
    assert not any(on_gpu(t) for t in small_net().cuda().cpu().parameters())
    second = fd.optim.Adam(there.parameters())
    there.load_state_dict(fd.load(tmp_path / "here.safetensors"))
    second.load_state_dict(first.state_dict())
    assert_alike(here, there)
    steps(here, first, x, y), steps(there, second, x.cuda(), y.cuda())
    assert_alike(here, there)
    fd.save(there.state_dict(), tmp_path / "there.safetensors")
    here.load_state_dict(there.state_dict())
    first.load_state_dict(second.state_dict())
    assert not any(on_gpu(p) for p in here.parameters()) and there.to("cpu") is there and not on_gpu(there[0].weight)


def test_an_optimizer_does_not_follow_a_move():
    model = nn.Linear(2, 2)
    optimizer = fd.optim.SGD(model.parameters(), lr=0.1)
    model.to("cuda")
    model(fd.ones(1, 2, device="cuda")).sum().backward()
    with pytest.raises(RuntimeError, match="parameter 0 has been moved to 'cuda'.*make a new optimizer"):
        optimizer.step()


def test_parameters_in_both_memories():
    one, other = fd.ones(2, requires_grad=True), fd.ones(2, requires_grad=True, device="cuda")
    optimizer = fd.optim.SGD([one, other], lr=0.5)
    one.sum().backward(), other.sum().backward()
    optimizer.step()
    assert one.tolist() == other.tolist() == [0.5, 0.5]


# Data and training


def test_data_set_and_loader():
    images = np.random.default_rng(0).integers(0, 255, (20, 3, 4, 5), dtype=np.uint8)
    dataset = ArrayDataset(images, np.arange(20))
    there = dataset.to("cuda")
    assert there.to("cuda") is there and dataset.to("cpu") is dataset
    options = dict(batch_size=6, shuffle=True, scale=1 / 255, mean=[0.1, 0.2, 0.3], std=0.5)
    rows = [3, 1, 1, 7, 19, 4, 2]
    for data, copied in ((dataset, there), (Subset(dataset, rows), Subset(there, rows))):
        loaders = [DataLoader(d, generator=fd.Generator(5), **options) for d in (data, copied)]
        for (x, y), (x_there, y_there) in zip(*loaders):
            assert on_gpu(x_there, y_there)
            assert_close(x_there.cpu().numpy(), x.numpy(), "gather")
            assert y_there.tolist() == y.tolist()
    assert all(kernels.on_gpu(a) for a in (*Subset(there, rows)[:2], *Subset(dataset, rows).to("cuda")[2:4]))
    parts = random_split(there, [0.5, 0.5], seed=1, stratify=1)
    assert [len(p) for p in parts] == [10, 10] and all(p.to("cpu").arrays[0] is not images for p in parts)


@pytest.mark.parametrize("device", ["cuda", "cpu", "numpy"])
def test_batches_are_copied_where_they_are_wanted(device):
    data = ArrayDataset(np.arange(24, dtype=np.float32).reshape(6, 1, 2, 2), np.arange(6))
    loaders = [DataLoader(d, batch_size=4, device=device) for d in (data, data.to("cuda"))]
    for batches in zip(*loaders, DataLoader(data, batch_size=4)):
        for x, y in batches[:2]:
            assert (on_gpu(x, y) if device == "cuda" else not on_gpu(x) and not on_gpu(y))
            assert x.tolist() == batches[2][0].tolist() and y.tolist() == batches[2][1].tolist()


def test_recipes_keep_large_data_on_the_host(monkeypatch):
    from fastdl.recipes.task import loaders

    data, runtime = classes(), kernels.backend("cuda").cupy.cuda.runtime
    with fd.device("cuda"):
        for free, resident in ((1 << 30, True), (100, False)):
            monkeypatch.setattr(runtime, "memGetInfo", lambda free=free: (free, 1 << 30))
            for loader in loaders(data, data, data, 16):
                assert kernels.on_gpu(loader.dataset.arrays[0]) == resident
                assert all(on_gpu(x, y) for x, y in loader)


def classes(n=64):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n, 1, 8, 8)).astype(np.float32)
    return ArrayDataset(x, (x.mean((1, 2, 3)) > 0).astype(np.int64))


def trainer(device, data, **options):
    net = small_net(device)
    built = Trainer(net, fd.optim.Adam(net.parameters(), lr=0.01), F.cross_entropy, ["accuracy"], **options)
    return built, DataLoader(data.to(device), batch_size=16, shuffle=True, generator=fd.Generator(1))


def test_trainer_and_checkpoints(tmp_path):
    data = classes()
    (here, loader), (there, loader_there) = (trainer(device, data) for device in ("cpu", "cuda"))
    here.fit(loader, loader, epochs=2), there.fit(loader_there, loader_there, epochs=2)
    for row, row_there in zip(here.history, there.history):
        assert row.keys() == row_there.keys()
        assert all(abs(row[key] - row_there[key]) < 1e-3 for key in row)
    assert_close(there.predict(data.arrays[0]), here.predict(data.arrays[0]), "functional", scale=1000)
    save_checkpoint(tmp_path / "c", there)
    again, loader_again = trainer("cpu", data)
    load_checkpoint(tmp_path / "c", again)
    here.fit(loader, loader, epochs=3), again.fit(loader_again, loader_again, epochs=3)
    assert all(abs(here.history[2][key] - again.history[2][key]) < 1e-2 for key in here.history[2])


def test_a_loss_that_is_not_finite_is_found_before_anything_is_saved():
    data = classes(256)
    bad = ArrayDataset(data.arrays[0] * np.float32("inf"), data.arrays[1])
    built, loader = trainer("cuda", bad)
    with pytest.raises(FloatingPointError, match="the loss became nan by step"):
        built.fit(loader, epochs=1)
    with pytest.raises(FloatingPointError):
        built.state_dict()


@pytest.mark.parametrize("name", ["xor", "digits"])
def test_recipes(name, tmp_path):
    settings = fd.recipes.get(name).Settings(steps=4)
    results = {}
    try:
        for device in ("cpu", "cuda"):
            results[device] = runner.run(name, settings, out=tmp_path / device, device=device, callbacks=[Quiet()])
    finally:
        fd.set_device("cpu")
    assert abs(results["cpu"]["test"]["loss"] - results["cuda"]["test"]["loss"]) < 1e-3
    assert results["cuda"]["device"] == "cuda"


class Quiet(fd.train.ProgressBar):
    def __init__(self):
        super().__init__()
        self._print = lambda *args: None
