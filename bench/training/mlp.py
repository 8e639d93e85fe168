"""Dense networks: exclusive or, a small regressor's size, the MNIST recipe, and one with BatchNorm."""

from .step import step_case


def cases():
    yield _mlp("XOR 2-3-2, batch 8, SGD", (2, 3, 2), 8, "SGD", lr=0.1)
    yield _mlp("MLP 10-45-45-10, 128, Adam", (10, 45, 45, 10), 128, "Adam", lr=1e-3)
    yield _mlp("MLP 784-500-10, 100, Adam", (784, 500, 10), 100, "Adam", lr=1e-3)
    yield _mlp("MLP 784-512-512-10 BN, 128", (784, 512, 512, 10), 128, "Adam", norm=True, lr=1e-3)


def _mlp(name, sizes, batch, optimizer, norm=False, **options):
    def build(nn):
        layers = []
        for inputs, outputs in zip(sizes, sizes[1:-1]):
            layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if norm else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))

    products = sum(a * b for a, b in zip(sizes, sizes[1:]))
    flops = 2.0 * batch * (3 * products - sizes[0] * sizes[1])  # the input needs no gradient
    return step_case(name, build, (batch, sizes[0]), sizes[-1], optimizer, flops, **options)
