"""Between a batch and the processes that it starts: they wait for their memory, and end when it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recon.job.resources import Plan

GO = "go"


class Leash:
    """The end in the process that was started.

    It tells on standard output how much memory it will take and goes on when a line on standard input says so. Once
    standard input closes, since the batch was killed, it leaves like on SIGTERM: saved, to go on later.
    """

    def __init__(self) -> None:
        self._go = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def admit(self, needs: Plan) -> None:
        """Ask for the memory of a plan, and wait."""
        sys.stdout.write(json.dumps({"needs": needs.memory_bytes, "free": needs.available_bytes}) + "\n")
        sys.stdout.flush()
        while not self._go.wait(0.5):
            pass

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == GO:
                self._go.set()
        os.kill(os.getpid(), signal.SIGTERM)


__all__ = ["GO", "Leash"]
