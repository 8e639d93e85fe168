"""Turn Ctrl-C (SIGINT) into a request to stop after the running step."""

from __future__ import annotations

import signal
import threading


class CatchInterrupt:
    """Within `with CatchInterrupt() as interrupt:` the first SIGINT sets `interrupt.requested`; the second
    raises KeyboardInterrupt at once. The previous handler is restored on leaving.

    Outside the main thread, where Python delivers no signals, and where SIGINT is ignored (a job under `nohup`) or
    handled by a host program in C, nothing is changed.
    """

    def __init__(self):
        self.requested = False
        self._previous = None

    def __enter__(self) -> CatchInterrupt:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if previous not in (None, signal.SIG_IGN):
                self._previous = previous
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _handle(self, signum, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
