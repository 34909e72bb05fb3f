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
from anysock.engines.base import Event, Task
from anysock.engines.current import current_engine
from anysock.engines.posix.machine import MACHINE
from anysock.errors import Cancelled
from anysock.net.addresses import resolve
from anysock.tasks import connecting, runtime


def ping(plan: Plan, print: Callable[[str], object], interim: Callable[[str], object]) -> Summary:
    """Send the probes of `plan`; ``print(line)`` is called with each line of output, and
    ``interim(line)`` with how it stands, at each SIGQUIT.

    SIGINT and SIGTERM end it early. Raises `StartError` for an unknown host name, and what `print`
    raises, such as BrokenPipeError.
    """
    resolve(plan.address, MACHINE, passive=False)
    return runtime.run(_Pinger(plan, print, interim).run)


class _Pinger:
    def __init__(
        self,
        plan: Plan,
        print: Callable[[str], object],
        interim: Callable[[str], object],
    ) -> None:
        self._plan = plan
        self._report = Report(plan, print, self._stop)
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
        for number in numbers:
            if plan.interval:
                await runtime.sleep(max(begun + (number - 1) * plan.interval - self._now(), 0.0))
            for done in [probe for probe in probes if probe.done]:
                del probes[done]
            self._report.summary.sent += 1
            probe = runtime.spawn(self._probe(number), name=f"probe-{number}")
            probes[probe] = None
            if not plan.interval:
                await probe.join()
        for probe in list(probes):
            await probe.join()

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
        except OSError as error:
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
            datagrams = await connecting.connect_datagrams(plan.address)
            return DatagramLink(report, plan.size, self._now() - begun, datagrams)
        connection = await connecting.connect(plan.address, tls=plan.tls)
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
