"""What systemd tells a service, and what it wants to be told: socket activation and notification.

Both are variables of the environment and messages to a socket (sd_listen_fds(3), sd_notify(3)); no
library of systemd is needed. Variables are removed once read, so that child processes do not
inherit them.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable, MutableMapping, Sequence
from typing import TypeAlias

from anysock.engines.base import Task
from anysock.engines.current import current_engine
from anysock.errors import StartError, UsageError
from anysock.net.addresses import Address
from anysock.net.printable import printable
from anysock.telemetry.events import Events

Environment: TypeAlias = MutableMapping[str, str]

# The first descriptor that is handed over (sd_listen_fds(3)).
FIRST_FD = 3

# Seconds that a message may wait for room in systemd's queue, which is emptied at once.
_SEND_SECONDS = 1.0

# Seconds that are added to each time-out that systemd is told.
_MARGIN_SECONDS = 5.0

_log = logging.getLogger("anysock")


# -- sockets that systemd has opened ---------------------------------------------------------------

# The sockets that were handed over to this process; None: nobody has asked yet.
_handed_over: list[tuple[str, int]] | None = None


def inherited() -> list[tuple[str, int]]:
    """The sockets that systemd has handed over to this process: their names and descriptors.

    There are none unless LISTEN_PID says that they are for us, and not for a parent process. Raises
    `StartError` when the environment contradicts itself.
    """
    global _handed_over
    if _handed_over is None:
        _handed_over = take_inherited(os.environ)
    return _handed_over


def take_inherited(environment: Environment) -> list[tuple[str, int]]:
    """As `inherited`, from `environment`, whose variables are removed."""
    pid, count, names = (
        environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    # From newer versions of systemd, to tell processes of one PID apart.
    environment.pop("LISTEN_PIDFDID", None)
    if pid != str(os.getpid()):
        return []
    if not _is_number(count):
        raise StartError(f"LISTEN_FDS in the environment is no number: {count!r}")
    fds = range(FIRST_FD, FIRST_FD + int(count))
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
        except (OSError, OverflowError):
            raise StartError(
                f"LISTEN_FDS says {len(fds)}, but there is no descriptor {fd}"
            ) from None
    named = names.split(":") if names else ["unknown"] * len(fds)
    if len(named) != len(fds):
        raise StartError(f"LISTEN_FDS says {len(fds)}, and LISTEN_FDNAMES names {len(named)}")
    return list(zip(named, fds, strict=True))


def expand(addresses: Iterable[Address]) -> list[Address]:
    """`addresses`, with each ``systemd://`` replaced by the sockets that were handed over under
    that name. Raises `StartError` when there are none.
    """
    expanded: list[Address] = []
    for address in addresses:
        if address.kind != "systemd":
            expanded.append(address)
            continue
        handed = inherited()
        if not handed:
            raise StartError(
                f"{address}: systemd has handed over no socket (LISTEN_PID, LISTEN_FDS); is a "
                ".socket unit of the same name started?"
            )
        scheme = "tls+fd" if address.tls else "fd"
        found = [Address(scheme=scheme, fd=fd) for name, fd in handed if address.name in ("", name)]
        if not found:
            names = ", ".join(sorted({name for name, _ in handed}))
            raise StartError(f"{address}: no socket has that name, only {names}")
        expanded += found
    fds = [address.fd for address in expanded if address.kind == "fd"]
    if len(set(fds)) < len(fds):
        raise UsageError("--bind: one descriptor is named twice")
    return expanded


# -- what systemd wants to be told -----------------------------------------------------------------


class Notifier:
    """Reports the state of the service to systemd (sd_notify(3)).

    A process that systemd has not started, with ``Type=notify``, has nobody to report to: then
    nothing is done. When systemd can't be reached, that is no failure, only one warning. May be
    used from any thread. `environment` is `os.environ` by default.
    """

    def __init__(self, environment: Environment | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._warned = False
        self._where = environment.pop("NOTIFY_SOCKET", "")
        #: Seconds between two calls of `watchdog`: half the time after which systemd takes the
        #: service for dead (sd_watchdog_enabled(3)). None: it does not watch.
        self.watchdog_seconds = self._watchdog_seconds(environment)
        # Kept open: a service that has run out of descriptors is not dead, and must be able to say
        # so. It is the one socket outside of the engines: it leads to the machine, not to a peer.
        self._socket: socket.socket | None = None
        if self._where:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(_SEND_SECONDS)
            # The same, for messages that do not wait.
            self._hasty = self._socket.dup()
            self._hasty.setblocking(False)

    @property
    def anybody(self) -> bool:
        """Whether there is anybody to report to."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The service is ready: after its start, and again after a reload."""
        self._tell(READY="1", STATUS=status)

    def reloading(self) -> None:
        """The service reads its files again. `ready` must follow, whether that works or not."""
        # By the clock that systemd uses, which may be another than the engine's.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(RELOADING="1", MONOTONIC_USEC=str(now))

    def stopping(self, status: str = "", seconds: float | None = None) -> None:
        """The service begins to end. For `status` and `seconds`, see the method `status`."""
        self._tell(STOPPING="1", STATUS=status, EXTEND_TIMEOUT_USEC=_patience(seconds))

    def status(self, text: str, seconds: float | None = None) -> None:
        """The text that ``systemctl status`` shows. With `seconds`, the end may take that much
        longer, even if the unit's TimeoutStopSec is over."""
        self._tell(STATUS=text, EXTEND_TIMEOUT_USEC=_patience(seconds))

    def watchdog(self) -> None:
        """The service lives."""
        self._tell(WATCHDOG="1")

    def close(self) -> None:
        """Report nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._hasty.close()
            self._socket = None

    def _tell(self, **words: str) -> None:
        if self._socket is None:
            return
        # A line is one variable: the rest of a text of several lines would be taken for others.
        lines = [
            f"{name}={printable(' '.join(text.split()))}" for name, text in words.items() if text
        ]
        # Nothing waits for a message that will be repeated, or that systemd can do without.
        waits = bool(words.keys() - {"STATUS", "WATCHDOG", "EXTEND_TIMEOUT_USEC"})
        sock = self._socket if waits else self._hasty
        try:
            sock.sendto("\n".join(lines).encode(), self._address())
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:
            self._warn(f"can't tell systemd how the service fares: {_reason(error)}")

    def _address(self) -> str:
        # An abstract one begins with a NUL (unix(7)), which no environment can hold.
        if self._where[0] not in "/@":
            raise ValueError("neither a path nor @name")
        return self._where.replace("@", "\0", 1) if self._where[0] == "@" else self._where

    def _watchdog_seconds(self, environment: Environment) -> float | None:
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        if not self._where or not microseconds or pid not in ("", str(os.getpid())):
            return None
        if not _is_number(microseconds) or not int(microseconds):
            self._warn(f"systemd's watchdog gets no word: WATCHDOG_USEC is {microseconds!r}")
            return None
        return int(microseconds) / 2 / 1e6

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s (NOTIFY_SOCKET=%s)", text, self._where)


class NotifyEvents(Events):
    """Reports to systemd, by `notifier`, what happens to a server."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        # What it was told when the server began to serve.
        self._serving = ""

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        self._serving = f"listening on {', '.join(addresses)} ({engine})"
        self._notifier.ready(self._serving)

    def accepting_paused(self) -> None:
        self._notifier.status("accepting is paused")

    def accepting_resumed(self) -> None:
        self._notifier.status(self._serving)

    def reload_begun(self) -> None:
        self._notifier.reloading()

    def reloaded(self) -> None:
        self._notifier.ready(self._serving)

    def reload_failed(self, error: Exception) -> None:
        if self._serving:
            self._notifier.ready(f"{self._serving}; not reloaded: {error}")

    def drain_delayed(self, seconds: float) -> None:
        self._notifier.stopping(f"draining begins in {seconds:g} s", seconds)

    def drain_begun(self, connections: int, seconds: float) -> None:
        self._notifier.stopping(f"draining: {connections} connections left", seconds)

    def drain_left(self, connections: int, seconds: float) -> None:
        self._notifier.status(f"draining: {connections} connections left", seconds)

    def drained(self, aborted: int, seconds: float) -> None:
        self._notifier.status(f"drained, {aborted} connections aborted")

    def gave_up(self, error: Exception, seconds: float) -> None:
        self._notifier.stopping(f"giving up: {error}", seconds)


class WatchdogEvents(Events):
    """Feeds systemd's watchdog while a server serves.

    A task of the server's own engine does that, and so not while a handler holds up the loop. Where
    each client has a thread, or one is served at a time, no handler holds up a loop: then the
    watchdog is fed as long as the process lives.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._task: Task[object] | None = None

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        seconds = self._notifier.watchdog_seconds
        if seconds is not None:
            self._task = current_engine().spawn_background(
                self._live(seconds), "systemd's watchdog"
            )

    async def _live(self, seconds: float) -> None:
        engine = current_engine()
        while True:
            self._notifier.watchdog()
            await engine.sleep(seconds)

    def drained(self, aborted: int, seconds: float) -> None:
        if self._task is not None:
            self._task.cancel()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _patience(seconds: float | None) -> str:
    return "" if seconds is None else str(round((max(seconds, 0) + _MARGIN_SECONDS) * 1e6))


def _reason(error: Exception) -> object:
    return getattr(error, "strerror", None) or error
