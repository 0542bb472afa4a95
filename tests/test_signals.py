"""What signals ask of a run."""

from __future__ import annotations

import signal
import sys
import time

import pytest
from saved_runs import posix

import recon.job.interrupts
from recon.errors import SuspendedError
from recon.job.interrupts import Interrupts

# ---------------------------------------------------------------- signals


@posix
def test_outside_patience_a_signal_ends_the_run():
    for number, error in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SuspendedError)):
        before = signal.getsignal(number)
        with pytest.raises(error), Interrupts():
            signal.raise_signal(number)
        assert signal.getsignal(number) is before


@posix
def test_inside_patience_the_first_is_noted():
    with Interrupts() as interrupts, interrupts.patience():
        signal.raise_signal(signal.SIGINT)
        assert interrupts.wish == "keep"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with Interrupts() as interrupts, interrupts.patience():
        for _ in range(3):  # Slurm may send several
            signal.raise_signal(signal.SIGUSR1)
        assert (interrupts.wish, interrupts.cause) == ("leave", "SIGUSR1")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with Interrupts() as interrupts:
        with interrupts.patience():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(SuspendedError):  # the result is being written, the machine goes
            signal.raise_signal(signal.SIGTERM)


@posix
def test_patience_lasts_until_all_have_asked():
    """Elements side by side: the one that is done first leaves the other's."""
    with Interrupts() as interrupts, interrupts.patience():
        with interrupts.patience():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.wish == "leave"


def test_in_another_thread_nothing_is_installed():
    import threading

    seen = []

    def work():
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


class Tidied:
    """What gets a signal while Python throws it away, where an exception is printed and forgotten."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def tidy_up(number):
    thrown = Tidied(number)
    del thrown
    until = time.monotonic() + 20
    while time.monotonic() < until:
        pass


@posix
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize(("name", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", SuspendedError)])
def test_a_signal_that_comes_while_python_tidies_up_is_not_lost(name, error, busy, capsys, monkeypatch):
    """On a busy machine, too, where Python does so for longer."""
    again = recon.job.interrupts._again
    if busy:
        monkeypatch.setattr(recon.job.interrupts, "_again", lambda number: (again(number), time.sleep(0.1)))
    before = sys.unraisablehook
    with pytest.raises(error), Interrupts():
        tidy_up(getattr(signal, name))
    assert "Traceback" not in capsys.readouterr().err
    assert sys.unraisablehook is before


@posix
@pytest.mark.parametrize(("name", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", SuspendedError)])
def test_a_signal_that_comes_while_an_earlier_one_is_kept_is_not_printed(name, error, capsys, monkeypatch):
    """Whoever presses Ctrl-C again and again also meets the hook that keeps it from being lost."""
    number, again = getattr(signal, name), recon.job.interrupts._again
    seen = []

    def once_more(kept):
        again(kept)
        if not seen:
            seen.append(kept)
            signal.raise_signal(number)  # inside the hook
            for _ in range(1000):  # where the handler may run
                pass

    monkeypatch.setattr(recon.job.interrupts, "_again", once_more)
    with pytest.raises(error), Interrupts():
        tidy_up(number)
    assert seen
    assert "Traceback" not in capsys.readouterr().err
    time.sleep(0.05)  # nothing else comes
