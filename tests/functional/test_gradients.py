"""Every function of fastdl.functional: backward against central differences, and complete tables."""

import pytest

import fastdl as fd
from fastdl import functional as F
from functional.cases import CASES, UNGRADED


@pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=str)
def test_gradcheck(device, case):
    tensors = [fd.tensor(array, requires_grad=grad) for array, grad in case.arrays()]

    def call(*tensors):
        fd.manual_seed(5)
        return case.call(getattr(F, case.name), tensors)

    assert fd.gradcheck(call, tuple(tensors))


def test_every_function_has_a_case():
    graded, ungraded = {case.name for case in CASES}, {case.name for case in UNGRADED}
    assert set(F.__all__) == graded | ungraded
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "argmax", "argmin", "floor_divide", "remainder"):
        assert name not in graded


def test_all_is_what_the_package_exports():
    public = {name for name in vars(F) if not name.startswith("_") and callable(getattr(F, name))}
    assert public == set(F.__all__)
