"""Formulas of element-wise operations, which a captured step makes piece by piece in one call."""

import math

import numpy as np

from ..case import Case, normal, place


def gelu(tanh, x, y):
    """GELU in its tanh form (Hendrycks and Gimpel 2016, section 2), times y."""
    return x * 0.5 * (tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1) * y


def affine(tanh, x, y):
    return (x * 2 + 1) * y - x


def cases(rivals):
    import fastdl as fd
    from fastdl.nn import functional

    rng = np.random.default_rng(0)
    torch, jax = rivals.torch, rivals.jax
    for formula, count in ((affine, 4), (gelu, 9)):
        for shape in ((100, 512), (1000, 1000), (3000, 3000)):
            x, y = normal(rng, *shape), normal(rng, *shape)
            ours = tuple([fd.Tensor(place(array)) for array in (x, y)])
            step = fd.capture(lambda x, y, f=formula: f(functional.tanh, x, y))
            runs = {
                "fastdl": lambda s=step, o=ours: s(*o).data,
                "numpy": lambda f=formula, x=x, y=y: f(np.tanh, x, y),
            }
            if torch:
                theirs = tuple(map(rivals.tensor, (x, y)))
                runs["torch"] = lambda f=formula, t=theirs: f(torch.tanh, *t)
            if "torch-compile" in rivals:
                torch._inductor.config.compile_threads = 1  # no pool of compilers beside the timings
                compiled = torch.compile(lambda x, y, f=formula: f(torch.tanh, x, y), dynamic=False)
                runs["torch-compile"] = lambda c=compiled, t=theirs: c(*t)
            if jax:
                jitted = jax.jit(lambda x, y, f=formula: f(jax.numpy.tanh, x, y))
                arrays = tuple(map(jax.numpy.asarray, (x, y)))
                runs["jax"] = lambda j=jitted, a=arrays: j(*a).block_until_ready()
            name = f"{formula.__name__} {shape[0]}x{shape[1]}, {count} operations"
            yield Case("chain", name, runs, bytes=12.0 * x.size)
