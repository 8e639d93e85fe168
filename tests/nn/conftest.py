"""Fixtures of the layer tests."""

import pytest

from fastdl import kernels


@pytest.fixture(params=["numpy", "cpu"])
def device(request):
    """Each host backend in turn, in use while the test runs."""
    before = kernels.host().name
    try:
        kernels.set_host(request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    yield request.param
    kernels.set_host(before)
