"""What signals ask of a run: keep what there is (Ctrl-C), or leave and go on later (SIGTERM, SIGUSR1)."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from recon.errors import SuspendedError

# what a batch system sends before it takes the machine away; not every system has all of them
LEAVE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupts:
    """Signal handlers for the time of a run.

    Inside `patience` the first signal is only noted, as `wish`, for a solver to ask about between two
    iterations; a second Ctrl-C raises KeyboardInterrupt at once. Outside it every signal raises at once:
    KeyboardInterrupt or SuspendedError. Python delivers signals to its main thread only; in another
    thread this does nothing.

    Attributes:
        wish: ``None``, ``"keep"`` (Ctrl-C: certify, write and end) or ``"leave"`` (save and end).
        cause: name of the signal behind the wish.
    """

    def __init__(self, log: Callable[[str], None] = lambda line: None) -> None:
        self.log = log
        self.wish: str | None = None
        self.cause = ""
        self._patient, self._lock = 0, threading.Lock()  # how many ask
        self._before: dict[int, Any] = {}
        self._hook: Callable[[sys.UnraisableHookArgs], object] | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *LEAVE):
                self._before[number] = signal.signal(number, self._receive)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._lost
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python, which cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        if self._hook is not None:
            sys.unraisablehook = self._hook
            self._hook = None

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """In here somebody asks for `wish` often; several threads may be in here."""
        with self._lock:
            self._patient += 1
        try:
            yield
        finally:
            with self._lock:
                self._patient -= 1

    def _receive(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        leave = number in LEAVE
        if _in_a_hook(frame):
            _again(number)  # raised there it would be printed
            return
        if leave and self.wish == "leave":
            return  # a batch system may send several; the state is being saved
        if not self._patient or self.wish is not None:
            if leave:
                self.wish, self.cause = "leave", name
                raise SuspendedError(name)
            raise KeyboardInterrupt
        self.wish, self.cause = "leave" if leave else "keep", name
        self.log(
            f"{name}: saving a checkpoint" if leave else "Ctrl-C: finishing the check; once more stops at once"
        )  # fmt: skip

    def _lost(self, what: sys.UnraisableHookArgs) -> None:
        """A signal that came while Python tidied up, where nothing can be raised, is received once more."""
        if issubclass(what.exc_type, SuspendedError):
            self.wish = None
            _again(getattr(signal, self.cause))
        else:
            ctrl_c_again(what)


def ctrl_c_again(what: sys.UnraisableHookArgs) -> None:
    """For `sys.unraisablehook`: a Ctrl-C that Python would print and forget comes once more."""
    if issubclass(what.exc_type, KeyboardInterrupt):
        _again(signal.SIGINT)
    else:
        sys.__unraisablehook__(what)


_coming: set[int] = set()  # signals that come once more


def _again(number: int) -> None:
    """The signal, once this thread is elsewhere, however long that takes: here it would be lost like the first."""
    if number in _coming:
        return
    _coming.add(number)
    here = threading.get_ident()

    def later() -> None:
        time.sleep(0.005)
        while _in_a_hook(sys._current_frames().get(here)):
            time.sleep(0.005)
        _coming.discard(number)
        _thread.interrupt_main(signal.Signals(number))

    threading.Thread(target=later, daemon=True).start()


def _in_a_hook(frame: FrameType | None) -> bool:
    """Whether a thread that is there is still telling what nothing can be raised for."""
    hooks = Interrupts._lost.__code__, ctrl_c_again.__code__
    while frame is not None and frame.f_code not in hooks:
        frame = frame.f_back
    return frame is not None


def ignore_ctrl_c() -> Any:
    """From here on Ctrl-C does nothing. Returns the handler before; outside of the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """In here Ctrl-C does nothing."""
    before = ignore_ctrl_c()
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


__all__ = ["Interrupts", "ctrl_c_again", "ignore_ctrl_c", "unheard"]
