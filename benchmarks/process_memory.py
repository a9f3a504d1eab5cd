"""What this process holds in memory, by kind, and the most it held. Linux only."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PERIOD_S = 0.01


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes."""

    anonymous: int  # RssAnon: the process's own
    mapped: int  # RssFile: pages of files, which the system may drop
    total: int  # VmRSS

    @classmethod
    def now(cls) -> Resident:
        kib = {}
        for line in Path("/proc/self/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("RssAnon", "RssFile", "VmRSS"):
                kib[key] = int(value.split()[0])
        return cls(kib["RssAnon"] * 1024, kib["RssFile"] * 1024, kib["VmRSS"] * 1024)


class Peak:
    """The largest of each kind while the `with` block runs, sampled every 10 ms and at its end."""

    def __init__(self) -> None:
        self.start = self.peak = Resident.now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._look()

    def _look(self) -> None:
        now, peak = Resident.now(), self.peak
        self.peak = Resident(
            max(now.anonymous, peak.anonymous),
            max(now.mapped, peak.mapped),
            max(now.total, peak.total),
        )
