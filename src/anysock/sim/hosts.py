"""A host of a history, as a scenario has it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.host import Host
from anysock.engines.sim.links import Link
from anysock.errors import UsageError
from anysock.handlers import Handler
from anysock.options.keywords import ServeKeywords, options_of
from anysock.options.serve import ServeOptions
from anysock.server.server import OUR_TASKS
from anysock.sim.faces import AWorld
from anysock.sim.serving import HostServer
from anysock.sim.tasks import HostTask, tell_failures
from anysock.streams.running import State_co
from anysock.tasks import arguments
from anysock.telemetry.events import Events

if TYPE_CHECKING:
    from anysock.server.admission import Slots
    from anysock.server.server import Lifespan

T = TypeVar("T")

# Where a server listens that was not told where: every address, so that other hosts get there.
_EVERYWHERE = "tcp://:8000"

# Tasks that wait as long as there is a server: what waits with them is not to be blamed on them.
_NOT_TOLD = OUR_TASKS - {"main", "drain"}

# Why nothing gets through to a machine that is off.
_DARK = "power"

# Signals that do nothing to a process which does not wait for them (signal(7)).
_IGNORED = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}


class HostHandle:
    """One host: `World.host` makes it.

    Its name is a name in the history's DNS: ``anysock.connect("server:8000")`` finds it.
    """

    def __init__(self, world: AWorld, name: str) -> None:
        self.world = world
        self.name = name
        #: The simulated machine.
        #:
        #: :meta private:
        self.host = Host(world.network, name)
        self.host.process = self
        #: What runs on it.
        #:
        #: :meta private:
        self.engine = self._boot()
        #: Whether its process lives; false after a `crash`.
        self.alive = True
        #: The servers on it: after a `restart`, the new ones.
        self.servers: list[HostServer[Any]] = []
        #: Its tasks, in the order of spawning.
        self.tasks: list[HostTask[Any]] = []
        self._serve_again: list[Callable[[], HostServer[Any]]] = []
        # The loops of processes that have crashed. What they ran is kept, for else its `finally`
        # blocks would run when Python finds that nobody needs it any more.
        self._abandoned: list[Any] = []
        self._ended: list[HostServer[Any]] = []
        # What leads nowhere while the machine is without power.
        self._dark: list[Link] = []

    def __repr__(self) -> str:
        return f"<host {self.name!r}{'' if self.alive else ', crashed'}>"

    @property
    def server(self) -> HostServer[Any]:
        """The server on it that began last. Raises `UsageError` where there is none."""
        if not self.servers:
            raise UsageError(f"nothing was served on the host {self.name!r}")
        return self.servers[-1]

    def serve(
        self,
        handler: Handler[State_co] | str,
        options: ServeOptions | None = None,
        *,
        lifespan: Lifespan[State_co] | str | None = None,
        events: Events | None = None,
        slots: Slots | None = None,
        **keywords: Unpack[ServeKeywords],
    ) -> HostServer[State_co]:
        """Serve `handler` on it, by a real `anysock.Server`, which is returned; the arguments are
        those of that. It listens when its host gets its first turn, before anybody can connect
        from another, if nothing holds the host up. SIGINT and SIGTERM drain it: see `signal`. What
        it would log, the story tells; `anysock.LogEvents` as `events` logs it all the same.

        Without `bind`, it listens on port 8000 of every address of the host.
        """
        if options is None and not {"bind", "host", "port"} & keywords.keys():
            keywords["bind"] = _EVERYWHERE
        chosen = options_of(options, keywords)

        def serve() -> HostServer[State_co]:
            server: HostServer[State_co] = HostServer(
                self,
                handler,
                chosen,
                lifespan=lifespan,
                events=events,
                slots=slots,
            )
            self.servers.append(server)
            self.tasks.append(HostTask(self, server.run_on_host(), "server", background=True))
            return server

        served = serve()
        self._serve_again.append(serve)
        return served

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> HostTask[T]:
        """Run `coro` as a task on this host. What it connects to, or listens on, it does from here.

        On a host that has crashed it does not run: to join it raises `Crashed`.
        """
        arguments.check_task(coro, name, "spawn")
        task = HostTask(self, coro, name or str(getattr(coro, "__qualname__", "task")))
        self.tasks.append(task)
        return task

    def call(self, func: Callable[[], T]) -> T:
        """Call `func()` as this host's own code, and return its result: what belongs to a host,
        such as a connection of its server, must not be closed or sent to by another."""
        arguments.check_function(func, "call")
        with self.host.entered():
            result = func()
        if self.alive:
            self.host.plan()
        return result

    # -- what may happen to it -------------------------------------------------------------------

    def crash(self, *, power: bool = False) -> None:
        """Its process dies, as by SIGKILL: no ``finally`` runs. Its system closes what it had open,
        as Linux does: peers see the end of the stream, or a reset where something was unread.

        With `power`, it is the machine that stops: nothing is sent, and what peers send gets no
        answer before a `restart`, and a reset then.

        Does nothing to a host that has crashed already.
        """
        if not self.alive:
            return
        if self.engine.watch.current is not None:
            # It is one of its own tasks that calls this, and ends with it.
            self.world.network.after(0.0, lambda: self.crash(power=power))
            return
        self.world.network.note(self.name, "loses power" if power else "crashes")
        self.alive = False
        self._abandoned.append(self.engine.watch)
        self.host.engine = None
        self._dark = self._ways() if power else []
        for way in self._dark:
            way.stop(_DARK)
        with self.host.entered():
            for sock in list(self.host.sockets.values()):
                if power:
                    sock.vanish()
                else:
                    sock.close()
        for server in self.servers:
            server.mute()
        for task in self.tasks:
            task.crashed()

    def restart(self) -> None:
        """Begin again, after a `crash`, or with one: what was served on it is served again."""
        self.crash()
        if self.alive:
            self.world.network.after(0.0, self.restart)
            return
        self.world.network.note(self.name, "restarts")
        for way in self._dark:
            way.go_on(_DARK)
        self.engine = self._boot()
        self.alive = True
        self.host.stalled = False
        self._ended += self.servers
        self.servers.clear()
        for serve in self._serve_again:
            serve()

    def _ways(self) -> list[Link]:
        """The ways to and from all other hosts."""
        network, ours = self.world.network, self.host
        others = [each for each in network.hosts.values() if each is not ours]
        return [network.link(*pair) for each in others for pair in ((ours, each), (each, ours))]

    def stall(self, seconds: float | None = None) -> None:
        """Stop its process, as by SIGSTOP, for so many seconds; None: until `resume`. Its system
        goes on: it acknowledges what arrives, until its buffers are full."""
        self.world.network.note(self.name, "stalls")
        self.host.stalled = True
        if seconds is not None:
            self.world.network.after(seconds, self.resume)

    def resume(self) -> None:
        """Let its process go on."""
        if self.host.stalled:
            self.world.network.note(self.name, "goes on")
            self.host.stalled, self.host.was_stalled = False, True
            self.world.network.busy(self.host)

    def clock_jump(self, seconds: float) -> None:
        """Set its wall clock forward, or back. What time has passed is measured by another."""
        self.world.network.note(self.name, "clock jumps by", seconds)
        self.host.clock_offset += seconds

    def limit_descriptors(self, most: int) -> None:
        """At most so many descriptors may be open from now on; it does not close any."""
        self.world.network.note(self.name, "may have descriptors:", most)
        self.host.descriptors = most

    def signal(self, signum: int) -> None:
        """Let a signal come, such as ``signal.SIGTERM``, which drains a server; a second one ends
        it at once. A process that does not wait for it is ended by it, or stopped by SIGSTOP."""
        kind = signal.Signals(signum)
        self.world.network.note(self.name, kind.name)
        if kind is signal.SIGSTOP:
            self.stall()
        elif kind is signal.SIGCONT:
            self.resume()
        elif kind not in _IGNORED and not (self.alive and self.engine.signal(signum)):
            self.crash()

    # -- for the world ---------------------------------------------------------------------------

    def waiting(self) -> list[Any]:
        """What has not ended, but for servers.

        :meta private:
        """
        if not self.alive:
            return []
        servers = [task.task for task in self.tasks if task.background]
        return [
            task
            for task in self.engine.watch.tasks
            if task.name not in _NOT_TOLD and task not in servers
        ]

    def _boot(self) -> SimEngine:
        engine = SimEngine(host=self.host)

        def failed(task: str, error: Exception) -> None:
            self.world.failed(self.name, f"task {task!r}", error)

        tell_failures(engine.watch, failed)
        return engine

    def finish(self) -> None:
        """The history is over: what still runs, or has crashed, is closed, within its own world.

        :meta private:
        """
        kernels = [*self._abandoned, *([self.engine.watch] if self.alive else [])]
        self.host.engine = None
        for server in (*self._ended, *self.servers):
            server.mute()
        with self.host.entered():
            for kernel in kernels:
                close(kernel)
            for task in self.tasks:
                task.close()


def close(kernel: Any) -> None:
    """Close all that a loop has run, from its youngest task to its oldest. It won't run again."""
    while kernel.tasks:
        task, _ = kernel.tasks.popitem()
        # A process that was killed runs no `finally`. Here they run, as Python can't do without,
        # but what they say is no part of the history.
        with contextlib.suppress(Exception, BaseExceptionGroup):
            task.coro.close()
    with contextlib.suppress(OSError):
        kernel.close()
