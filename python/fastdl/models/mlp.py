"""Multi-layer perceptrons: MLP, and the smallest of them, Xor."""

from __future__ import annotations

from collections.abc import Sequence

from fastdl import nn


class MLP(nn.Sequential):
    """Dense layers with an activation between them; everything but the batch is flattened first.

    Args:
        sizes: features of the input, of each hidden layer, and of the result, such as (784, 500, 10).
        activation: class of the layer between two dense ones. Default `nn.ReLU`.
        dropout: probability after each activation. Default 0: none.

    >>> MLP((784, 500, 10))(fd.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """

    def __init__(self, sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU, dropout: float = 0.0) -> None:
        if len(sizes) < 2:
            raise ValueError(f"MLP: sizes must name at least an input and an output size, got {tuple(sizes)}")
        super().__init__(nn.Flatten())
        for number, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:])):
            if number > 0:
                self.append(activation())
                if dropout:
                    self.append(nn.Dropout(dropout))
            self.append(nn.Linear(inputs, outputs))


class Xor(nn.Module):
    """The 2-3-1 network that learns exclusive or: inputs (N, 2) -> one logit (N, 1), tanh between.

    Train it with `nn.BCEWithLogitsLoss`. hidden is the number of units between. Default 3.

    >>> Xor()(fd.zeros(4, 2)).shape
    (4, 1)
    """

    def __init__(self, hidden: int = 3) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(nn.functional.tanh(self.hidden(x)))
