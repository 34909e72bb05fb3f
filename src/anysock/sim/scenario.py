"""The stock scenario: the real server, the clients of a plan, a drain at some moment; then all is
healed, and everything must come to an end."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from anysock.engines.sim.network import Network
from anysock.options.keywords import options_of
from anysock.sim.cases import Case
from anysock.sim.failure import Failure
from anysock.sim.finding import Finding
from anysock.sim.oracles import History, judge
from anysock.sim.oracles.disturbances import disturbances, latency
from anysock.sim.oracles.ledger import Ledger
from anysock.sim.oracles.records import HostAtEnd
from anysock.sim.oracles.witness import Witness
from anysock.sim.plan import Client, Plan
from anysock.sim.talks import Conversation, play
from anysock.sim.tls import CERTIFICATE, client_context
from anysock.sim.tracing import hash_of_trace
from anysock.sim.world import World

#: Where the server listens.
PORT = 7

#: When nothing goes wrong any more, in virtual seconds.
HEALED_AT = 10.0

#: When the server is drained at the latest.
DRAINED_AT = 15.0

#: When everything must have ended: after the drain, slow readers need some time.
UNTIL = 90.0


@dataclass(slots=True)
class Outcome:
    """What came of a history."""

    plan: Plan
    finding: Finding | None
    #: How long it was, in virtual seconds.
    seconds: float
    #: How often each kind of fault has struck, and each place of `sim.sometimes`.
    fired: Counter[str]
    #: How the connections of the server have ended.
    reasons: Counter[str]
    network: Network

    @property
    def trace_hash(self) -> str:
        """The same for the same history, in every process."""
        return hash_of_trace(self.network.trace)


def run_history(case: Case, plan: Plan, *, real_world: str | Collection[str] = "refuse") -> Outcome:
    """The history of `plan`. Raises `RealWorld` where the handler has touched the real machine in
    a way that `real_world` refuses: see `World`."""
    world = World(plan=plan, real_world=real_world)
    scene = _Scene(case, world)
    finding = None
    try:
        world.run(scene.play, until=UNTIL)
    except Failure as failure:
        finding = failure.finding
    else:
        wrong = next(scene.wrong(), None)
        if wrong is not None:
            finding = Finding(wrong.partition(":")[0], wrong, world.now)
    if finding is not None and world.network.faults is not None:
        object.__setattr__(finding, "occurrences", world.network.faults.occurrences)
    reasons = Counter(
        served.reason.value if served.reason else "open"
        for served in scene.ledger.record.connections
    )
    return Outcome(plan, finding, world.now, world.fired, reasons, world.network)


class _Scene:
    def __init__(self, case: Case, world: World) -> None:
        self._case = case
        self._world = world
        self._witnesses: list[Witness] = []
        self._left: list[HostAtEnd] = []
        network = world.network
        plan = world.plan
        form = case.form if case.form.known else None
        server = world.host("server")
        where, options = f"{server.host.addresses[0]}:{PORT}", plan.options
        if plan.tls:
            options = {**options, "tls_cert": CERTIFICATE}
        scheme = "tls" if plan.tls else "tcp"
        self._options = options_of(None, {"bind": f"{scheme}://{where}", **options})
        # By its name, which a certificate is for.
        self._address = f"tls://{server.name}:{PORT}" if plan.tls else where
        self.ledger = Ledger(
            "server",
            self._options,
            lambda: network.now,
            answers=None if form is None else form.answers,
            answers_at_once=None if form is None else form.at_once,
        )

    async def play(self, world: World) -> None:
        plan = world.plan
        host = world.host("server")
        # A server that is killed promises nothing: of the faults, a crash is for clients.
        host.host.process = None
        # What its loop has open.
        own = set(host.host.sockets)
        server = host.serve(self._case.handler, self._options, events=self.ledger)
        tasks = [self._client(client, self._address) for client in plan.clients]
        world.after(HEALED_AT, world.heal)

        def drain() -> None:
            if not server.ending:
                host.spawn(server.drain(), "drain")

        world.after(DRAINED_AT if plan.drain_at is None else plan.drain_at, drain)
        for task, client in zip(tasks, plan.clients, strict=True):
            if client.ends != "stay":
                await task.ended()
        world.after(0.0, drain)
        await world.join()
        await host.tasks[0].join()
        self.ledger.close(server)
        self._left = [
            HostAtEnd(
                each.name,
                tuple(f"descriptor {fd}" for fd in each.host.sockets if fd not in own),
                tuple(str(task) for task in each.waiting()),
            )
            for each in (host,)
        ]

    def _client(self, client: Client, address: str) -> Any:
        world, network = self._world, self._world.network
        host = world.host(f"client{client.host}")
        witness = Witness(str(client.number), host.name, lambda: network.now)
        self._witnesses.append(witness)
        own: Callable[[Any], Any] | None = None
        if self._case.own is not None:
            chance = world.chance.stream(f"client/{client.number}")
            own = functools.partial(_with_chance, self._case.own, chance)
        tls = client_context() if world.plan.tls else None
        talk = play(client, witness, address, self._case.form, own, tls=tls)
        return host.spawn(talk, f"client {client.number}")

    def wrong(self) -> Any:
        network = self._world.network
        history = History(
            servers=[self.ledger.record],
            # What a client of the user's own does is not written down.
            clients=[] if self._case.own else [each.record for each in self._witnesses],
            disturbances=disturbances(network),
            hosts=self._left,
            latency=latency(network),
            ended=network.now,
        )
        return judge(history, self._case.oracles)


async def _with_chance(own: Conversation, chance: Any, connection: Any) -> None:
    await own(connection, chance)
