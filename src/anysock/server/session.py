"""One connection of a server, from accept to close::

    Session.enter             judged; waits for room; a task of its own is spawned
      └─ _run
           ├─ _greet          PROXY header, TLS, where there are any; then limits are put around its
           │                  stream
           ├─ the handler
           └─ part            closed, accounted for, forgotten: the one end of every session

Meanwhile the server may end it: its housekeeping calls `Session.check`, a drain calls
`Session.end_if_idle` and `Session.abort_late`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anysock.engines.base import Binding, Engine, Event, Stream, Task
from anysock.engines.straight import straight
from anysock.errors import AnysockError, NotServed
from anysock.handlers import Handler
from anysock.hints import add_hint
from anysock.server.gate import AdmissionGate
from anysock.server.handshake import Handshake, Refused
from anysock.server.process import OwnProcess
from anysock.server.time_limits import Activity, TimeLimits
from anysock.server.verdicts import how_it_ended, is_cancellation, may_be_an_interrupt, of_the_peer
from anysock.streams.connection import Connection
from anysock.streams.current import serves
from anysock.streams.running import RunningServer
from anysock.telemetry.events import CloseReason, Events


class Sessions:
    """The sessions of a server that are open."""

    def __init__(self) -> None:
        #: How many had to be aborted when the server drained.
        self.aborted = 0
        self._open: dict[Connection, Session] = {}
        # A mark for each that is forgotten, and whose end is being told; perhaps on another thread.
        self._told: dict[object, None] = {}
        self._all_gone: Event | None = None

    def __len__(self) -> int:
        return len(self._open)

    def all(self) -> list[Session]:
        """All of them, as of now: others come and go, on other threads too."""
        return list(self._open.values())

    def add(self, session: Session) -> None:
        self._open[session.connection] = session

    @property
    def gone(self) -> bool:
        """Whether none is left, and the end of each is told."""
        # In this order: a session is always in one of the two.
        return not self._open and not self._told

    def remove(self, session: Session) -> object | None:
        """Forget a session; None if it is forgotten already, or was never added. Else, what
        `notify` is to be called with when its end is told."""
        mark = object()
        self._told[mark] = None
        if self._open.pop(session.connection, None) is not None:
            return mark
        del self._told[mark]
        return None

    def notify(self, mark: object) -> None:
        """One has ended, with all that belongs to it."""
        del self._told[mark]
        if self._all_gone is not None and self.gone:
            self._all_gone.set()

    async def until_none(self, engine: Engine) -> None:
        """Wait until none is left."""
        # A new event each time: there may have been none left before the last of the backlog was
        # accepted. It is made before the check, since the last may end at any moment.
        self._all_gone = engine.event()
        if not self.gone:
            await self._all_gone.wait()

    def count_aborted(self) -> None:
        """One had to be aborted because the server drained. It is told as aborted when it is
        closed: no other end is counted."""
        self.aborted += 1

    def abort_late(self) -> bool:
        """Abort all, at the end of a drain. True if any is not gone yet."""
        left = self.all()
        for session in left:
            if session.abort_late():
                self.count_aborted()
        return not self.gone

    def is_handled_by(self, task: Task[object]) -> bool:
        """Whether `task` runs the handler of one of them."""
        return any(session.is_run_by(task) for session in self.all())


@dataclass(frozen=True, slots=True)
class Desk:
    """What all sessions of a server share."""

    server: RunningServer[Any]
    engine: Engine
    events: Events
    gate: AdmissionGate
    handshake: Handshake
    handler: Handler
    sessions: Sessions
    process: OwnProcess


class _Name:
    """The name of a task that serves a client: seldom asked for, and costly to make."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __str__(self) -> str:
        return f"client {self._stream.peer}"


class Session:
    """One connection. No other object sets its fields."""

    __slots__ = (
        "_cancel_delivered",
        "_counted",
        "_desk",
        "_ended_at",
        "_has_slot",
        "_task",
        "_told_opened",
        "aborted",
        "activity",
        "connection",
        "ended",
    )

    def __init__(self, connection: Connection, desk: Desk, now: float) -> None:
        self.connection = connection
        self.activity = Activity(now)
        #: Why the server has ended it, if it has.
        self.ended: CloseReason | None = None
        #: Whether it was aborted.
        self.aborted = False
        self._desk = desk
        self._ended_at = 0.0  # not `now`: it would keep a number of its own alive
        # What it holds of the gate: the count of its source, and a slot.
        self._counted = False
        self._has_slot = False
        self._told_opened = False
        # What runs its handler; and whether that was told of the abort.
        self._task: Task[object] | None = None
        self._cancel_delivered = False

    # -- accept --------------------------------------------------------------------------------

    async def enter(self, binding: Binding, waited: bool) -> None:
        """Wait until it may come in, and have a task serve it; or close it, where it may not.
        `waited` says that it has waited in the backlog already.

        Raises whatever goes wrong, such as `NotServed` when there is no room for one more task.
        Then it is closed, with a reset, since it can't be put back into the backlog.
        """
        desk = self._desk
        try:
            # Before it waits for room: a peer that may not come in must not take another one's
            # place.
            refused, error = self._refusal()
            if refused is None:
                if waited or not desk.gate.take_at_once(self.activity.opened_at):
                    refused = await desk.gate.take_slot(waited)
                    self.activity.opened_at = desk.engine.now()
                self._has_slot = refused is None
                if refused is CloseReason.ABORTED:
                    desk.sessions.count_aborted()
            desk.sessions.add(self)
            desk.events.connection_accepted(self.connection, self.activity.opened_at)
            if refused is None:
                self._begin(binding)
            else:
                self._tell_opened()
                self.ended = refused
                self.connection.abort()
                await self.part(refused, error)
        except BaseException:
            # Nobody else would close it.
            self.connection.stream.abort()
            await self.part(CloseReason.ABORTED, None)
            self._give_back()  # where it had not come as far as to be told of
            raise

    def _refusal(self) -> tuple[CloseReason | None, OSError | None]:
        """Why its peer may not come in, if there were room; None: it may."""
        handshake = self._desk.handshake
        if not handshake.by_proxies:
            return self._judge(), None
        if handshake.may_be_a_proxy(self.connection):
            return None, None
        why = PermissionError("its sender is none of the proxies (--proxy-from)")
        return CloseReason.PROXY_HEADER, why

    def _begin(self, binding: Binding) -> None:
        """It has come in: have a task serve it."""
        desk, connection = self._desk, self.connection
        if desk.handshake.by_proxies:
            connection.of_proxy = True
        else:
            self._tell_opened()
        running = self._run(binding)
        try:
            desk.engine.spawn(running, name=_Name(connection.stream))
        except OSError as error:
            running.close()
            raise NotServed(error.errno, error.strerror) from error
        except BaseException:
            running.close()
            raise

    def _judge(self) -> CloseReason | None:
        """Why its peer may not come in; None: it may, and its source is counted."""
        gate = self._desk.gate
        if not gate.judges:
            return None
        refused = gate.judge(self.connection.peer)
        self._counted = refused is None
        return refused

    def _tell_opened(self) -> None:
        """Report that it is open: once, and behind a proxy only when its header was read."""
        if not self._told_opened:
            self._told_opened = True
            self._desk.events.connection_opened(self.connection)

    # -- serve ---------------------------------------------------------------------------------

    async def _run(self, binding: Binding) -> None:
        """Run the handler. Whatever it does, this accounts for it, and closes.

        A handler that raises, be it SystemExit, is reported, with its traceback, and its client
        sees the end of the stream; nobody else notices. A peer that is gone is no failure. Only a
        cancellation, and a Ctrl-C that nobody has caught, go on up.
        """
        desk, connection = self._desk, self.connection
        task = self._runs_as(desk.engine.current_task())
        serves(connection)
        reason = CloseReason.ABORTED
        lost: OSError | None = None
        try:
            if binding.tls or desk.handshake.by_proxies:
                await self._greet(binding)
            desk.handshake.put_limits(connection)
            self.activity.begin(connection.stream, desk.engine.now())
            if desk.gate.draining:  # it came in late, and its handler is not to wait for a look
                connection.draining = True
            await straight(task, desk.handler(connection))
            reason, lost = self.reason(), connection.stream.lost
        except Refused as refused:
            if not refused.politely:
                connection.abort()
            reason, lost = self.ended or refused.reason, refused.error
        except BaseException as error:
            if is_cancellation(task, error, desk.engine.cancellations):
                raise
            if may_be_an_interrupt(error) and not desk.process.catches_sigint:
                raise
            if (end := of_the_peer(connection, self.reason(), error)) is not None:
                reason, lost = end
            else:
                reason = CloseReason.FAILED
                add_hint(error, desk.engine.loop)
                desk.events.handler_failed(connection, error)
        finally:
            await self.part(reason, lost)

    async def _greet(self, binding: Binding) -> None:
        """Have the proxy's word, and TLS. Raises `Refused` when the connection is not served."""
        desk, connection = self._desk, self.connection
        handshake = desk.handshake
        step = CloseReason.HANDSHAKE
        async with desk.engine.scope(handshake.timeout) as scope:
            if handshake.by_proxies:
                step = CloseReason.PROXY_HEADER
                try:
                    itself = await handshake.read_proxy_header(connection)
                finally:
                    self._tell_opened()
                # A proxy's own header is to be taken as valid (section 2.2), so that `allow`
                # and `deny` are not for it.
                if not itself and (refused := self._judge()) is not None:
                    raise Refused(refused)
            if binding.tls:
                step = CloseReason.HANDSHAKE
                await handshake.start_tls(connection)
        if scope.fired:
            raise Refused(step, TimeoutError("it took too long"))

    def reason(self) -> CloseReason:
        """Why the connection has ended, when its handler has returned."""
        return self.ended or how_it_ended(self.connection)

    # -- part ----------------------------------------------------------------------------------

    async def part(self, reason: CloseReason, lost: OSError | None) -> None:
        """Close the connection, and account for its end. The one place where that is done."""
        try:
            await self.connection.stream.close()
        except (OSError, AnysockError) as error:
            # The peer was gone already.
            lost = lost or (error if isinstance(error, OSError) else None)
        finally:
            self.account_for(reason, lost)

    def account_for(self, reason: CloseReason, lost: OSError | None) -> None:
        """Give back what it has held, and tell of its end; once."""
        desk, connection = self._desk, self.connection
        if (mark := desk.sessions.remove(self)) is None:
            return
        if self.ended is CloseReason.ABORTED or reason is CloseReason.ABORTED:
            reason = self.ended or reason
        try:
            self._give_back()
            if not self._told_opened:
                self._tell_opened()
            connection.lasted = desk.engine.now() - self.activity.opened_at
            if reason is CloseReason.OUTBOX_FULL:
                lost = connection.overrun
            desk.events.connection_closed(connection, reason, lost)
        finally:
            desk.sessions.notify(mark)

    def _give_back(self) -> None:
        if self._counted:
            self._counted = False
            self._desk.gate.leave(self.connection.peer)
        if self._has_slot:
            self._has_slot = False
            self._desk.gate.give_back()

    # -- ended by the server -----------------------------------------------------------------------

    def is_silent(self, now: float, limits: TimeLimits) -> bool:
        """Whether `check` would end it for what has not come or gone."""
        stream = self.connection.stream
        return self.ended is None and self.activity.is_silent(stream, now, limits)

    def excuse(self, seconds: float, now: float) -> None:
        """The server was held up for `seconds`, which count against nobody."""
        self.activity.excuse(seconds, now)
        self._ended_at = min(self._ended_at + seconds, now)

    def check(self, now: float, limits: TimeLimits) -> None:
        """End the connection if it has taken too long for something."""
        if self.ended is not None:
            if now - self._ended_at >= limits.grace:
                self.abort()
            return
        reason = self.activity.overdue(self.connection.stream, now, limits)
        if reason is CloseReason.WRITE_TIMEOUT:
            self.end_at_once(reason, now)
        elif reason is not None:
            self.end(reason, now)
            if reason is CloseReason.IDLE and self.activity.progress is not None:
                self.abort()  # a peer that does not read would not notice anything else

    def end_if_idle(self, now: float, held_up: float = 0.0) -> None:
        """The server drains: end the connection if it is at rest. `held_up` is how many seconds
        the server was held up, so that nobody can tell."""
        stream = self.connection.stream
        self.connection.draining = True
        if held_up:
            self.excuse(held_up, now)
        elif self.activity.is_at_rest(stream, now) and self.ended is None:
            self.ended, self._ended_at = CloseReason.DRAINED, now
            stream.end_receiving()

    def cost(self) -> float:
        """Bytes of memory that it holds for each byte it has moved since the last check."""
        moved = self.activity.since_sample(self.connection.stream)
        return self.connection.held / (1 + moved)

    def end(self, reason: CloseReason, now: float) -> None:
        """End the connection: the handler gets the end of the stream, and is aborted if it has not
        returned after the grace of `TimeLimits`."""
        self.ended, self._ended_at = reason, now
        self.connection.draining = True
        self.connection.stream.end_receiving()

    def end_at_once(self, reason: CloseReason, now: float) -> None:
        """End it with an abort, without a grace."""
        self.ended, self._ended_at = reason, now
        self.abort()

    def abort_late(self) -> bool:
        """The time of the drain is over. Whatever the connection was being ended for, it is
        aborted, and that is what is told of it; unless a limit has aborted it already. True if it
        is aborted now."""
        if self.aborted:
            return False
        self.ended = CloseReason.ABORTED
        self.abort()
        return True

    def abort(self) -> None:
        """Reset the connection, and cancel the handler: once, since that may clean up."""
        self.connection.abort()
        self.aborted = True
        self._cancel()

    def is_run_by(self, task: Task[object]) -> bool:
        return self._task == task

    def _runs_as(self, task: Task[object]) -> Task[object]:
        """Its task has begun; it may have been aborted before."""
        self._task = task
        if self.aborted:
            self._cancel()
        return task

    def _cancel(self) -> None:
        if self._task is not None and not self._cancel_delivered:
            self._cancel_delivered = True
            self._task.cancel()
