"""The host backends, for tests that go through Tensors."""

import pytest

import fastdl as fd
from fastdl import kernels


@pytest.fixture(params=["numpy", "cpu"])
def host(request):
    """Compute on each host backend in turn; one that is missing skips with the reason."""
    try:
        kernels.backend(request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    with fd.device(request.param):
        yield request.param
