"""How long a task may go on with one stream before the others have their turn."""

from __future__ import annotations

import errno
from collections.abc import Awaitable

from anysock.engines.base import Data
from anysock.engines.nonblocking.watching import Watch
from anysock.engines.posix.streams import OPS_BEFORE_YIELD, SocketStream, second_sender

# In the place of the descriptor that is written to, where a send may not simply write: it need not
# ask, since it meets EBADF. Then it is looked why.
NOT_NOW = -1
# The same, where nothing is wrong but that the other tasks must run first.
NOT_YET = -2


class PacedStream(SocketStream):
    """A stream whose operations are counted, for tasks of the loop of `watch`."""

    __slots__ = ("_watch",)

    _watch: Watch

    @property
    def _in_send(self) -> bool:
        return self._write_fd == NOT_NOW

    def _may_go_on(self, cost: int = 1) -> bool:
        """Whether one operation more may be done before the other tasks run.

        A budget for each iteration of the loop would have to be renewed with each message. So the
        operations are counted over iterations, and the iteration is compared only when they are
        used up: if it is another than when the count began, the others have had theirs."""
        self._budget -= cost
        if self._budget > 0:
            return True
        self._budget = OPS_BEFORE_YIELD
        counted_since, self._counted_since = self._counted_since, self._watch.iterations
        return counted_since != self._counted_since

    async def _send_in_turn(self, data: Data) -> None:
        """Let the others run, unless they have by now; then send."""
        if self._write_fd == NOT_YET:
            self._write_fd = NOT_NOW  # no other may enter meanwhile
            try:
                if self._counted_since == self._watch.iterations:
                    await self._engine.sleep(0)
            finally:
                self._let_send()
        await self.send_all(data)

    def send_all(self, data: Data) -> Awaitable[None]:
        raise NotImplementedError

    def _let_send(self) -> None:
        """The one task that was sending does so no more."""
        raise NotImplementedError

    def _explain(self, error: OSError) -> Exception:
        explained = super()._explain(error)
        if explained is error and error.errno == errno.EBADF:
            return second_sender()
        return explained
