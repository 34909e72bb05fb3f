"""Sends probes when they are due."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from anysock.clients.ping.links import DatagramLink, Link, StreamLink
from anysock.clients.ping.output import Report, interim_line
from anysock.clients.ping.plan import Plan
from anysock.clients.ping.statistics import Summary
from anysock.clients.speaking_for import proxy_header
from anysock.engines.base import Event, Task
from anysock.engines.current import current_engine
from anysock.engines.posix.machine import MACHINE
from anysock.errors import AnysockError, Cancelled, StartError
from anysock.net.addresses import resolve
from anysock.tasks import connecting, runtime

# While so many probes wait for their answers, none is sent: what a server that answers nothing
# costs is bounded, also in a flood.
_MAX_WAITING = 1000

# Of a flood, in seconds: how long an answer is waited for until the next is sent.
_FLOOD = 0.01

# Of an adaptive pace: the shortest time between two probes, and how many times the usual round trip
# an answer is waited for until the next is sent.
_ADAPTIVE_LEAST = 0.002
_ADAPTIVE_TIMES = 2


def ping(
    plan: Plan,
    print: Callable[[str], object],
    interim: Callable[[str], object],
    mark: Callable[[str], object] = lambda _: None,
) -> Summary:
    """Send the probes of `plan`; ``print(line)`` is called with each line of output, and
    ``interim(line)`` with how it stands, at each SIGQUIT. Of a flood, ``mark(text)`` is called with
    what goes on at the end of the line.

    SIGINT and SIGTERM end it early. Raises `StartError` for an unknown host name, or one that has
    no address of the family that is asked for, and what `print` raises, such as BrokenPipeError.
    """
    found = resolve(plan.address, MACHINE, passive=False)
    try:
        connecting.of_family(found, plan.family, plan.address)
    except OSError as error:
        raise StartError(f"{plan.address}: {error.strerror}") from None
    return runtime.run(_Pinger(plan, print, interim, mark).run)


class _Pinger:
    def __init__(
        self,
        plan: Plan,
        print: Callable[[str], object],
        interim: Callable[[str], object],
        mark: Callable[[str], object],
    ) -> None:
        self._plan = plan
        self._report = Report(plan, print, self._stop, mark)
        self._interim = interim
        #: The link of all probes, and, while it is opened, what the others wait for.
        self._link: Link | None = None
        self._opening: Event | None = None
        self._stopped = False

    def _stop(self) -> None:
        """Send no more probes. Only the first call cancels: what comes after is to be finished."""
        if not self._stopped:
            self._stopped = True
            self._me.cancel()

    def _say_how_it_stands(self) -> None:
        try:
            self._interim(interim_line(self._report.summary))
        except OSError as error:
            # Nobody reads it any more: as for a line of a probe.
            self._report.failure = error
            self._stop()

    async def run(self) -> Summary:
        engine, report = current_engine(), self._report
        self._now = engine.now
        report.begin()
        begun = self._now()
        probes: dict[Task[Any], None] = {}
        self._me = engine.current_task()
        with engine.watch_signals(
            (signal.SIGINT, signal.SIGTERM),
            lambda _: self._stop(),
            _exit_at_once,
            {signal.SIGQUIT: lambda _: self._say_how_it_stands()},
        ):
            with contextlib.suppress(Cancelled, TimeoutError):
                async with runtime.timeout(self._plan.deadline):
                    await self._send_all(probes, begun)
            report.summary.seconds = self._now() - begun
            for probe in probes:
                if not probe.done:
                    probe.cancel()
                    report.summary.waiting += 1
            if self._link is not None:
                await self._link.close()
        if report.failure is not None:
            raise report.failure
        report.end()
        return report.summary

    async def _send_all(self, probes: dict[Task[Any], None], begun: float) -> None:
        """Send each probe when it is due: slow answers do not delay the next."""
        plan = self._plan
        numbers = itertools.count(1) if plan.count is None else range(1, plan.count + 1)
        by_interval = plan.interval if plan.pace is None else 0.0
        for number in numbers:
            if by_interval:
                await runtime.sleep(max(begun + (number - 1) * by_interval - self._now(), 0.0))
            for done in [probe for probe in probes if probe.done]:
                del probes[done]
            if len(probes) >= _MAX_WAITING:
                await next(iter(probes)).join()  # the oldest
            self._report.sent()
            probe = runtime.spawn(self._probe(number), name=f"probe-{number}")
            probes[probe] = None
            if plan.flood:
                await self._flood(probe)
            elif plan.pace is not None:
                await self._adapt(probe)
            elif not by_interval:
                await probe.join()
        for probe in list(probes):
            await probe.join()

    async def _flood(self, probe: Task[Any]) -> None:
        """Wait until the next probe of a flood is due. One that fails at once, as where nobody
        listens, is not followed at once."""
        sent, received = self._now(), self._report.summary.received
        async with current_engine().scope(_FLOOD):
            await probe.join()
        if self._report.summary.received == received:
            await runtime.sleep(max(sent + _FLOOD - self._now(), 0.0))

    async def _adapt(self, probe: Task[Any]) -> None:
        """Wait until the next probe is due, by the round trips so far: while there are none, for
        the answer."""
        sent, usual = self._now(), self._report.usual
        patience = None if usual is None else max(_ADAPTIVE_TIMES * usual, _ADAPTIVE_LEAST)
        async with current_engine().scope(patience):
            await probe.join()
        await runtime.sleep(max(sent + _ADAPTIVE_LEAST - self._now(), 0.0))

    async def _probe(self, number: int) -> None:
        link = None
        try:
            async with runtime.timeout(self._plan.timeout):
                link = await (self._open() if self._plan.connect else self._shared())
                await link.probe(number)
        except TimeoutError:
            self._report.not_answered(number)
            if link is not None:
                link.give_up(number)
        except (OSError, AnysockError) as error:
            # An AnysockError is as much of this probe: such as a stream that we had closed.
            self._report.broken(error, number)
            if link is not None:
                link.give_up(number)
        finally:
            if link is not None and self._plan.connect:
                await link.close()

    async def _open(self) -> Link:
        plan, report = self._plan, self._report
        begun = self._now()
        if plan.address.kind == "udp":
            datagrams = await connecting.connect_datagrams(plan.address, family=plan.family)
            return DatagramLink(report, plan.size, self._now() - begun, datagrams)
        connection = await connecting.connect_with(
            plan.address,
            local=plan.source,
            family=plan.family,
            tls=plan.tls,
            preface=proxy_header(plan.send_proxy),
        )
        took = self._now() - begun
        report.summary.connect.add(took)
        return StreamLink(report, plan.size, took, connection, not plan.connect)

    async def _shared(self) -> Link:
        """The link of all probes; opened by the first, and again after it broke."""
        while self._opening is not None:
            await self._opening.wait()
        if self._link is None or self._link.broken:
            self._opening = current_engine().event()
            try:
                if self._link is not None:
                    await self._link.close()
                self._link = await self._open()
            finally:
                self._opening.set()
                self._opening = None
        return self._link


def _exit_at_once(signum: int) -> None:
    os._exit(128 + signum)
