"""Embedding: a table of vectors looked up by index."""

from __future__ import annotations

from fastdl import functional as F
from fastdl.nn import _check, init
from fastdl.nn._state import assign
from fastdl.nn.module import Module
from fastdl.nn.parameter import Parameter
from fastdl.tensor import Tensor


class Embedding(Module):
    """Look up rows of a table, index (...) of int -> (..., embedding_dim); see `fastdl.functional.embedding`.

    padding_idx: a row that starts as zeros and gets no gradient; negative counts from the end. Default None.

    Parameters:
        weight (num_embeddings, embedding_dim), standard normal.

    >>> Embedding(10, 4)(fd.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        self.num_embeddings = _check.integer("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = _check.integer("Embedding", "embedding_dim", embedding_dim)
        if padding_idx is not None:
            padding_idx = _check.integer("Embedding", "padding_idx", padding_idx, -num_embeddings, num_embeddings)
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = Parameter(init.empty((self.num_embeddings, self.embedding_dim), device, dtype))
        self.reset_parameters()

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """An embedding whose table is a copy of `embeddings` (rows, dim); frozen unless freeze=False."""
        if embeddings.ndim != 2:
            raise ValueError(f"Embedding: embeddings must have 2 dimensions, got shape {tuple(embeddings.shape)}")
        layer = cls(*embeddings.shape, padding_idx=padding_idx, dtype=embeddings.dtype)
        assign(layer.weight, embeddings.data)
        layer.weight.requires_grad_(not freeze)
        return layer

    def reset_parameters(self) -> None:
        """Draw a new table; the padding row is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, index):
        return F.embedding(index, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"
