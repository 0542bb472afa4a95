"""A stand-in for CuPy on a machine without a GPU: its arrays are NumPy's, and refuse what CuPy's refuse.

They take part in no NumPy function and no arithmetic with NumPy arrays, and become NumPy arrays only where that is
asked for. CUDA kernels are stood in for by those of the CPU.
"""

from __future__ import annotations

import operator
import sys
from types import ModuleType

import numpy as np
import scipy.linalg

from recon.kernels import cpu


class Array:
    """On the "device"."""

    __array_ufunc__ = None

    def __init__(self, host):
        self.host = host

    def __array__(self, *_, **__):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function, *_):
        raise TypeError(f"{function.__name__} is NumPy's")

    def __getattr__(self, name):
        found = getattr(self.host, name)
        return taken(found) if callable(found) else on(found)

    def __getitem__(self, index):
        return on(self.host[at(index)])

    def __setitem__(self, index, value):
        self.host[at(index)] = off(value)

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return (on(a) for a in self.host)

    def __bool__(self):
        return bool(self.host)

    def __float__(self):
        return float(self.host)


def on(value):
    """What NumPy returned, as CuPy would return it: scalars are arrays, too."""
    if isinstance(value, np.ndarray | np.generic):
        return Array(np.asarray(value))
    return type(value)(map(on, value)) if type(value) in (tuple, list) and not _plain(value) else value


def _plain(values):
    return all(isinstance(v, int) for v in values)  # a shape


def off(value):
    """What NumPy computes with; raises for its own arrays."""
    if isinstance(value, Array):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("unsupported type numpy.ndarray")
    return type(value)(map(off, value)) if type(value) in (tuple, list) else value


def at(index):
    """As `off`, but NumPy arrays may be indices."""
    if type(index) in (tuple, list):
        return type(index)(map(at, index))
    return index if isinstance(index, np.ndarray) else off(index)


def taken(function):
    """A function of NumPy's, of arrays on the device."""

    def call(*args, **kwargs):
        found = function(*map(off, args), **{k: off(v) for k, v in kwargs.items()})
        out = kwargs.get("out")
        return on(found) if out is None else out

    return call


def _operators():
    def own(name, function):
        setattr(Array, f"__{name}__", function)

    for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"):
        plain = getattr(operator, f"__{name}__")
        own(name, lambda a, b, f=plain: on(f(a.host, off(b))))
        own(f"r{name}", lambda a, b, f=plain: on(f(off(b), a.host)))
    for name in ("iadd", "isub", "imul", "itruediv"):
        plain = getattr(operator, name)
        own(name, lambda a, b, f=plain: Array(f(a.host, off(b))))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        plain = getattr(operator, name)
        own(name, lambda a, b, f=plain: on(f(a.host, off(b))))
    for name in ("neg", "abs", "invert"):
        plain = getattr(operator, name)
        own(name, lambda a, f=plain: on(f(a.host)))


_operators()


class _Of(ModuleType):
    """A module whose functions are those of another, of arrays on the device."""

    def __init__(self, name, module, **own):
        super().__init__(name)
        self.__dict__.update(own, _module=module)

    def __getattr__(self, name):
        found = getattr(self.__dict__["_module"], name)
        return found if isinstance(found, type | bool | int | float) else taken(found)


def _placed(a, dtype=None):
    """The one way from the host to the device."""
    return a if isinstance(a, Array) and dtype is None else Array(np.array(getattr(a, "host", a), dtype))


def stand_in(monkeypatch):
    """CuPy, and all that asks for CUDA, until the test ends."""
    linalg = _Of("cupy.linalg", np.linalg)
    cupy = _Of(
        "cupy", np, ndarray=Array, asarray=_placed, array=_placed, asnumpy=lambda a: np.array(a.host), linalg=linalg
    )
    modules = {
        "cupy": cupy,
        "cupyx": ModuleType("cupyx"),
        "cupyx.scipy": ModuleType("cupyx.scipy"),
        "cupyx.scipy.linalg": _Of("cupyx.scipy.linalg", scipy.linalg),
        "recon.kernels.cuda": _Of("recon.kernels.cuda", cpu),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("recon.backend.resolve_device", lambda device: device)
