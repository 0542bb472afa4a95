"""The state of a solver in windows: one or two of them in memory, the others in a store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, kernels, namespace, to_host
from recon.geometry.tilt_geometry import Shape3
from recon.operators.windows import Window, WindowedProjector
from recon.solvers.memory import Streaming
from recon.solvers.scratch import AtOnce, FileStore, Lane, OnStream, PinnedStore, Store, Wait, scratch_folder
from recon.solvers.steps import STATE, VECTORS
from recon.solvers.weights import SAMPLED, squared_change


@dataclass(frozen=True, eq=False)
class Place:
    """Where the windows are when they are not worked on, and how they come and go.

    Attributes:
        store: keeps their arrays.
        lane: where these travel.
        slots: windows in memory at a time, 2 where they travel beside the computation.
        block: iterations on a window before the next one has its turn.
    """

    store: Store
    lane: Lane
    slots: int
    block: int


def place(how: Streaming, device: str) -> Place:
    """Where the windows of a plan wait.

    Raises:
        ResourceError: the disk for temporary files has no room.
    """
    if device == "cuda":
        return Place(PinnedStore(), OnStream(), 2, how.block)
    return Place(FileStore(scratch_folder(), how.store), AtOnce(), 1, how.block)


class WindowedState:
    """u, w, p and q of a volume, window by window.

    What halos are renewed from is kept apart, and twice: a window needs its neighbours' edges of before the block.

    Args:
        operator: split into windows.
        place: where they are.
        parts: components of each array, see `recon.solvers.steps.FIELDS`.
        dual: type of p and q.
        like: an array of the kind that is computed with.

    Attributes:
        resident: slot and window that stayed in memory, and whose state the store does not have.
        fresh: whether the halos in the store are right.
        factors: by which p and q in the store are still to be multiplied.
    """

    def __init__(
        self, operator: WindowedProjector, place: Place, parts: dict[str, int], dual: type, like: Array
    ) -> None:
        self._xp, self._k = namespace(like), kernels(like)
        self.operator, self.place, self.store, self.parts, self.dual = operator, place, place.store, parts, dual
        self._slots: list[dict[str, Array]] = []
        self._scratch: dict[str, Array] = {}
        self._generation = 0
        self.resident: tuple[int, Window] | None = None
        self.fresh = True
        self.factors: dict[str, np.float32] = {}

    def start_anew(self) -> None:
        """All that is in the store is a new state, halos too."""
        self.resident, self.fresh, self.factors = None, True, {}

    def end_block(self) -> None:
        """All windows have done the same iterations: the edges saved meanwhile are the ones to take."""
        self._generation, self.fresh, self.factors = 1 - self._generation, False, {}

    def release(self) -> None:
        """Give back the memory of what is worked on."""
        self.flush()
        self._slots, self._scratch = [], {}

    # ------------------------------------------------------------------ windows come and go

    def load(self, slot: int, w: Window) -> Wait:
        def work() -> None:
            for name, k, part in self.each(self.state(slot, w)):
                self.store.get((name, w.number, k), part)
            self.renew(slot, w)

        return self.place.lane.run(work)

    def renew(self, slot: int, w: Window) -> None:
        """Halos from the neighbours' edges of before this block, and p and q in units of new strengths."""
        low, high = w.within
        for name, k, part in self.each(self.state(slot, w)):
            for side, there, n in ((slice(0, low), "last", w.number - 1), (slice(high, None), "first", w.number + 1)):
                target = part[..., side]
                if self.fresh or not target.size:
                    continue
                edge = self._xp.empty(target.shape, dtype=target.dtype)
                self.store.get((there, self._generation, n, name, k), edge)
                target[...] = edge
            if name in self.factors:
                part *= self.factors[name]

    def save(self, state: dict[str, Array], w: Window, *, edges_only: bool) -> None:
        """A window's arrays, and what its neighbours renew their halos from."""
        low, high = w.within
        # as many as the neighbours hold of it
        first = self.operator.windows[w.number - 1].halo[1] if w.number else 0
        last = self.operator.windows[w.number + 1].halo[0] if w.number + 1 < len(self.operator.windows) else 0
        for name, k, part in self.each(state):
            if not edges_only:
                self.store.put((name, w.number, k), part)
            for there, halo, at in (
                ("first", first, slice(low, low + first)),
                ("last", last, slice(high - last, high)),
            ):
                if halo:
                    edge = self._xp.ascontiguousarray(part[..., at])
                    self.store.put((there, 1 - self._generation, w.number, name, k), edge)

    def flush(self) -> None:
        """The window that stayed in memory goes into the store, and all is there."""
        if self.resident is not None:
            slot, w = self.resident
            for name, k, part in self.each(self.state(slot, w)):
                self.store.put((name, w.number, k), part)
            self.resident = None
        self.place.lane.run(lambda: None)()

    def soon(self, w: Window) -> None:
        """A window will be loaded."""
        for name in STATE:
            for k in range(self.parts[name]):
                self.store.soon((name, w.number, k))

    def each(self, state: dict[str, Array]) -> Iterator[tuple[str, int, Array]]:
        """Each component of u, w, p and q: name, number, values."""
        for name, whole in state.items():
            for k in range(self.parts[name]):
                yield name, k, whole if name == "u" else whole[k]

    # ------------------------------------------------------------------ where travel is measured

    @property
    def planes(self) -> range:
        """Planes that stand for their neighbours."""
        nz = self.operator.volume[0]
        return range(min(SAMPLED // 2, nz - 1), nz, SAMPLED)

    def _watched(self, state: dict[str, Array], w: Window) -> Iterator[tuple[int, tuple[str, int, str, int], Array]]:
        """Each component on these planes: number of the array, name in the store, values."""
        numbers = {name: i for i, name in enumerate(STATE)}
        for name, k, part in self.each(state):
            sample = part[self.planes.start :: SAMPLED, :, slice(*w.within)]
            yield numbers[name], ("before", w.number, name, k), self._xp.ascontiguousarray(sample)

    def measure_from(self, state: dict[str, Array], w: Window) -> None:
        """Measure travel from here."""
        for _, name, now in self._watched(state, w):
            self.store.put(name, now)

    def measure(self, state: dict[str, Array], w: Window) -> list[float]:
        """`squared_change` of u, w, p and q since then; and measure from here."""
        changes = [0.0] * len(STATE)
        for i, name, now in self._watched(state, w):
            before = self._xp.empty_like(now)
            self.store.get(name, before)
            changes[i] += squared_change(now, before)
            self.store.put(name, now)
        return changes

    # ------------------------------------------------------------------ the whole, on the host

    def component(self, name: str, k: int) -> NDArray[Any]:
        """u, or one component of w, p or q, on the host."""
        self.flush()
        nz, ny, nx = self.operator.volume
        whole: NDArray[Any] = np.empty((nz, nx, ny), self.dtype(name))
        for w in self.operator.windows:
            part = self._xp.empty((nz, nx, w.held[1] - w.held[0]), dtype=whole.dtype)
            self.store.get((name, w.number, k), part)
            if name in self.factors:
                part *= self.factors[name]
            whole[..., slice(*w.own)] = to_host(part)[..., slice(*w.within)]
        return whole

    def sample(self, name: str, k: int) -> NDArray[Any]:
        """What travel is measured from, of one component on the planes for it."""
        _, ny, nx = self.operator.volume
        planes = len(self.planes)
        whole: NDArray[Any] = np.empty((planes, nx, ny), self.dtype(name))
        for w in self.operator.windows:
            part = self._xp.empty((planes, nx, w.own[1] - w.own[0]), dtype=whole.dtype)
            self.store.get(("before", w.number, name, k), part)
            whole[..., slice(*w.own)] = to_host(part)
        return whole

    def arrays(self, *, sampled: bool) -> dict[str, Later]:
        """The state, or what travel is measured from, to be read one by one."""
        return {name: Later(self, name, sampled=sampled) for name in STATE}

    def shape(self, name: str, *, sampled: bool) -> tuple[int, ...]:
        nz, ny, nx = self.operator.volume
        return self._with_parts(name, (len(self.planes) if sampled else nz, nx, ny))

    def take(self, name: str, saved: NDArray[Any], *, sampled: bool) -> None:
        """An array as `arrays` gives it, into the store.

        Raises:
            ValueError: it is of another shape or type.
        """
        shape, dtype = self.shape(name, sampled=sampled), np.dtype(self.dtype(name))
        if saved.shape != shape or saved.dtype != dtype:
            raise ValueError(
                f"{name} of the state has shape {saved.shape} of {saved.dtype}, the solver's {shape} of {dtype}"
            )
        for w in self.operator.windows:
            for k in range(self.parts[name]):
                part = (saved if name == "u" else saved[k])[..., slice(*(w.own if sampled else w.held))]
                key = ("before", w.number, name, k) if sampled else (name, w.number, k)
                self.store.put(key, self._xp.asarray(np.ascontiguousarray(part)))

    # ------------------------------------------------------------------ memory

    def dtype(self, name: str) -> type:
        """Of an array of the state."""
        return self.dual if name in ("p", "q") else np.float32

    def _largest(self) -> int:
        """Voxels of the largest window with its halo."""
        nz, _, nx = self.operator.volume
        return nz * nx * max(w.held[1] - w.held[0] for w in self.operator.windows)

    def _flat(self, name: str, parts: int) -> Array:
        if name not in self._scratch:
            self._scratch[name] = self._k.zeros((parts * self._largest(),))
        return self._scratch[name]

    def view(self, name: str, w: Window, parts: int = 0) -> Array:
        """Scratch of a window with its halo, `parts` components or, where 0, one without an axis for it."""
        shape = self._held_shape(w)
        size = math.prod(shape)
        found: Array = self._flat(name, max(parts, 1))[: max(parts, 1) * size]
        return found.reshape((parts, *shape) if parts else shape)

    def state(self, slot: int, w: Window) -> dict[str, Array]:
        """u, w, p and q of a window in a slot."""
        while len(self._slots) <= slot:
            self._slots.append({n: self._k.zeros((self.parts[n] * self._largest(),), self.dtype(n)) for n in STATE})
        found = {}
        for name in STATE:
            shape = self._with_parts(name, self._held_shape(w))
            found[name] = self._slots[slot][name][: math.prod(shape)].reshape(shape)
        return found

    def nothing(self, w: Window) -> Array:
        """A vector field without components."""
        found: Array = self._k.zeros((0, *self._held_shape(w)))
        return found

    def _with_parts(self, name: str, shape: Shape3) -> tuple[int, ...]:
        return (self.parts[name], *shape) if name in VECTORS else shape

    def _held_shape(self, w: Window) -> Shape3:
        nz, _, nx = self.operator.volume
        return nz, nx, w.held[1] - w.held[0]

    def _own_shape(self, w: Window) -> Shape3:
        nz, _, nx = self.operator.volume
        return nz, nx, w.own[1] - w.own[0]

    def own_room(self, w: Window, name: str = "u_bar") -> Array:
        """Scratch for a window's own slices, in C order."""
        shape = self._own_shape(w)
        found: Array = self._flat(name, 1)[: math.prod(shape)].reshape(shape)
        return found

    def own(self, a: Array, w: Window) -> Array:
        """A window's own slices of an array, in C order, in `u_bar`."""
        room = self.own_room(w)
        room[...] = a[..., slice(*w.within)]
        return room

    def idle_room(self, w: Window) -> Array:
        """Room for a window's own slices in the first slot, which is idle after a check."""
        shape = self._own_shape(w)
        self.state(0, w)
        found: Array = self._slots[0]["u"][: math.prod(shape)].reshape(shape)
        return found

    def in_idle_slots(self, *names: str) -> dict[tuple[str, int], Array]:
        """Own slices of as many windows as there is room for in the slots beside `idle_room`."""
        rooms = [a for slot in self._slots for name, a in slot.items() if a.dtype == np.float32]
        rooms = [a for a in rooms if a is not self._slots[0]["u"]]
        kept: dict[tuple[str, int], Array] = {}
        for name in names:
            for w in self.operator.windows:
                shape = self._own_shape(w)
                size = math.prod(shape)
                for i, room in enumerate(rooms):
                    if room.size >= size:
                        part = kept[name, w.number] = room[:size].reshape(shape)
                        self.store.get((name, w.number), part)
                        rooms[i] = room[size:]
                        break
        return kept


class Later:
    """An array of the volume's size that is put together when NumPy asks for it."""

    def __init__(self, state: WindowedState, name: str, *, sampled: bool) -> None:
        self._state, self._name, self._sampled = state, name, sampled
        self.shape, self.dtype = state.shape(name, sampled=sampled), np.dtype(state.dtype(name))
        self.ndim, self.nbytes = len(self.shape), math.prod(self.shape) * self.dtype.itemsize

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Its first axis, of a vector field one component in memory at a time."""
        read = self._state.sample if self._sampled else self._state.component
        return iter(read("u", 0)) if self._name == "u" else (read(self._name, k) for k in range(self.shape[0]))

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        read = self._state.sample if self._sampled else self._state.component
        if self._name == "u":
            return read("u", 0)
        out = np.empty(self.shape, self.dtype)
        for k in range(len(out)):
            out[k] = read(self._name, k)
        return out


__all__ = ["Place", "WindowedState", "place"]
