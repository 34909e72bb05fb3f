"""What goes wrong with a connection under load, by kind."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
from collections.abc import Iterator

_KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ECONNABORTED: "reset",
    errno.ETIMEDOUT: "timed out",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "no free port on this side",
    errno.EMFILE: "no free descriptor on this side",
    errno.ENFILE: "no free descriptor on this side",
}


def kind_of(error: OSError) -> str:
    """The kind of `error`, as reports name it."""
    number = error.errno or 0
    return _KINDS.get(number, os.strerror(number).lower())


class Fault(Exception):
    """The connection can't go on; its one argument is the kind, as reports name it."""

    @property
    def kind(self) -> str:
        return str(self.args[0])


class Errors(collections.Counter[str]):
    """How often each kind has happened."""

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """A `Fault` or an OSError in the block ends the block, and is counted."""
        try:
            yield
        except Fault as fault:
            self[fault.kind] += 1
        except OSError as error:
            self[kind_of(error)] += 1
