"""Stop between two steps when the user or the machine asks for it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class StopRequest:
    """Whether to stop.

    Attributes:
        signal: name of the signal that came, such as `SIGTERM`; None as long as none did.
    """

    signal: str | None = None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of dying of it; the second acts as usual.

    The former handlers are back afterwards. Outside the main thread, where Python allows no
    handlers, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal is not None:
            signal.signal(number, former[number])
            signal.raise_signal(number)
        request.signal = signal.Signals(number).name

    former: dict[int, Any] = {
        number: signal.signal(number, note) or signal.SIG_DFL for number in SIGNALS
    }
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
