"""How much memory this process holds, in megabytes (10^6 bytes). No torch.

Linux tells the present and the highest value under /proc; elsewhere the highest value stands in
for both, which is what macOS offers without further packages.
"""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def rss_mb() -> float:
    """Return the memory held now."""
    return _status("VmRSS")


def peak_rss_mb() -> float:
    """Return the most memory held since the start, or since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let `peak_rss_mb` count from now; without effect where the system does not allow it."""
    if CLEAR.exists():
        try:
            CLEAR.write_text("5")
        except PermissionError:  # a container may forbid it: the peak then counts from the start
            return


def _status(key: str) -> float:
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
