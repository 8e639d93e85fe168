"""A training step in fastdl and in PyTorch from one description: both have the same `nn` and `optim`."""

import numpy as np

from ..case import Case, torch_or_none


def step_case(name: str, build, shape: tuple, classes: int, optimizer: str, flops: float, **options) -> Case:
    """One step on a fixed batch. `build(nn)` makes the model from fastdl.nn or torch.nn; options go to the optimizer.

    flops: of the products, forward and backward. The check compares the losses of the first steps, which start from
    the same weights.
    """
    import fastdl as fd

    fd.manual_seed(0)
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal(shape, np.float32), rng.integers(0, classes, shape[0])
    model = build(fd.nn)
    weights = {key: np.array(value.detach().numpy()) for key, value in model.state_dict().items()}
    update = getattr(fd.optim, optimizer)(model.parameters(), **options)
    runs = {"fastdl": _step(model, update, fd.nn.functional.cross_entropy, fd.tensor(images), fd.tensor(labels))}
    if torch := torch_or_none():
        other = build(torch.nn)
        other.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        x = torch.from_numpy(images)
        if x.ndim == 4:  # the better memory format for convolutions
            x, other = x.contiguous(memory_format=torch.channels_last), other.to(memory_format=torch.channels_last)
        fused = getattr(torch.optim, optimizer)(other.parameters(), fused=True, **options)
        runs["torch"] = _step(other, fused, torch.nn.functional.cross_entropy, x, torch.from_numpy(labels))
    return Case("training", name, runs, flops=flops, check="torch" in runs, reference="torch")


def _step(model, optimizer, loss_function, x, y):
    def step():
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step
