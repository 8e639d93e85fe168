"""Dense networks: exclusive or, a small regressor's size, the MNIST recipe, and one with BatchNorm."""

from ._step import Task, step_case


def cases(rivals):
    for task in tasks():
        yield step_case(rivals, task)


def tasks():
    """What is trained."""
    yield Task("XOR 2-3-1, batch 8, SGD", _xor, (8, 2), 0, "SGD", 2.0 * 8 * (3 * 9 - 6), {"lr": 0.1})
    yield mlp("MLP 10-45-45-10, 128, Adam", (10, 45, 45, 10), 128)
    yield mlp("MLP 784-500-10, 100, Adam", (784, 500, 10), 100, target={"tf32": 25})
    yield mlp("MLP 784-512-512-10 BN, 128", (784, 512, 512, 10), 128, norm=True)


def mlp(name: str, sizes: tuple[int, ...], batch: int, norm: bool = False, target=None) -> Task:
    """Dense layers of these sizes with ReLU, and BatchNorm if asked, between; Adam. target: as in `Case`."""

    def build(nn):
        layers = []
        for inputs, outputs in zip(sizes, sizes[1:-1]):
            layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if norm else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))

    products = sum(a * b for a, b in zip(sizes, sizes[1:]))
    flops = 2.0 * batch * (3 * products - sizes[0] * sizes[1])  # the input needs no gradient
    return Task(name, build, (batch, sizes[0]), sizes[-1], "Adam", flops, {"lr": 1e-3}, target or {})


def _xor(nn):
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
