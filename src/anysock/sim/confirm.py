"""Whether a plan fails under a real engine, too: over real sockets, by the real clock, in a process
of its own. The server's options and the scripts of the clients are real as they are; a few kinds of
faults have a counterpart, and the others have none."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anysock.engines.current import current_engine
from anysock.errors import StartError
from anysock.options.keywords import options_of
from anysock.options.serve import ServeOptions
from anysock.server.server import Server
from anysock.sim import wall
from anysock.sim.cases import Case, case_of
from anysock.sim.finding import Finding
from anysock.sim.oracles import History, judge
from anysock.sim.oracles.ledger import Ledger
from anysock.sim.oracles.witness import Witness
from anysock.sim.plan import Client, Plan
from anysock.sim.replay import Replay
from anysock.sim.talks import play
from anysock.sim.tls import CERTIFICATE, client_context
from anysock.tasks.groups import task_group
from anysock.tasks.runtime import move_on_after, run

#: For how long one engine is tried, in seconds.
SECONDS = 3.0

# How long one history may take, and how long its clients have before the server is drained.
_ONE_SECONDS, _BEFORE_DRAIN = 10.0, 2.0

# How far apart the times of a real machine are, that is busy with something else: oracles excuse
# what is within.
_LATENCY = 0.25

_MANY_ADDRESSES = sys.platform == "linux"

# What a kind of fault is made by, under a real engine: options of the server.
_COUNTERPARTS: dict[str, dict[str, Any]] = {
    "latency": {"delay": 0.02},
    "jitter": {"delay": 0.02, "jitter": 0.01},
    "split": {"slice": 300},
    "partial": {"slice": 100},
    "short": {"recv_size": 64},
    "small-buffers": {"socket_buffer": 2304},
    "merge": {},
    "schedule": {},
}


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What came of it under one engine."""

    engine: str
    #: ``yes``, ``no``, or ``can't tell``.
    answer: str
    #: In how many histories.
    tries: int
    #: Why it can't be told, if it can't.
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return f"also under {self.engine}: {self.answer}: {self.why}"
        tried = f"{self.tries} {'try' if self.tries == 1 else 'tries'}"
        return f"also under {self.engine}: {self.answer}, in {tried}"


def confirmed(replay: Replay, engine: str) -> Confirmation:
    """Try what has failed under a real engine, in another process."""
    asked = json.dumps({"replay": replay.to_dict(), "engine": engine})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "anysock.sim.confirm"],
            input=asked.encode(),
            stdout=subprocess.PIPE,
            timeout=SECONDS + 2 * _ONE_SECONDS,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        answer = "yes" if replay.finding.kind == "deadlock" else "can't tell"
        return Confirmation(engine, answer, 1, "it did not come to an end")
    if done.returncode:
        return Confirmation(engine, "can't tell", 0, f"it ended with code {done.returncode}")
    return Confirmation(engine, **json.loads(done.stdout))


def main() -> None:
    """Answer what `confirmed` asks."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.read())
    data = asked["replay"]
    plan = Plan.from_dict(data["plan"])
    case = case_of(data["handler"], data["check"], ServeOptions(**plan.options))
    kind, engine = data["finding"]["kind"], asked["engine"]
    with answers:
        json.dump(_tried(case, plan, kind, engine), answers)


def _tried(case: Case, plan: Plan, kind: str, engine: str) -> dict[str, Any]:
    tries, ends_at = 0, wall.seconds() + SECONDS
    try:
        while wall.seconds() < ends_at:
            tries += 1
            if any(found.kind == kind for found in findings(case, plan, engine)):
                return {"answer": "yes", "tries": tries}
    except StartError as error:
        return {"answer": "can't tell", "tries": tries, "why": str(error)}
    without = [name for name in plan.faults if name not in _COUNTERPARTS]
    if without:
        why = f"nothing real stands for {', '.join(without)}"
        return {"answer": "can't tell", "tries": tries, "why": why}
    return {"answer": "no", "tries": tries}


def findings(case: Case, plan: Plan, engine: str) -> list[Finding]:
    """What is wrong with the history of `plan`, under a real engine. Raises `StartError` where that
    can't serve."""
    history = _RealHistory(case, plan)
    return run(history.play, engine=engine)


class _RealHistory:
    def __init__(self, case: Case, plan: Plan) -> None:
        self._case = case
        self._plan = plan
        self._found: list[Finding] = []

    async def play(self) -> list[Finding]:
        engine = current_engine()
        began = engine.now()

        def now() -> float:
            return engine.now() - began

        plan, form = self._plan, self._case.form
        counterparts: dict[str, Any] = {}
        for name in plan.faults:
            counterparts |= _COUNTERPARTS.get(name, {})
        asked: dict[str, Any] = {"seed": plan.seed, **counterparts, **plan.options}
        if plan.tls:
            asked["tls_cert"] = CERTIFICATE
        asked["bind"] = "tls://127.0.0.1:0" if plan.tls else "127.0.0.1:0"
        options = options_of(None, asked)
        ledger = _RealLedger(
            "server",
            options,
            now,
            answers=form.answers if form.known else None,
            answers_at_once=form.at_once if form.known else None,
        )
        ledger.failed = self._raised
        server: Server[Any] = Server(self._case.handler, options, events=ledger)
        witnesses = []
        async with move_on_after(_ONE_SECONDS) as scope, server, task_group() as group:
            busy, asleep = [], []
            for client in plan.clients:
                # On Linux the loopback has many addresses: sources differ as hosts do.
                local = f"127.0.1.{client.host % 250 + 1}" if _MANY_ADDRESSES else None
                witness = Witness(str(client.number), f"client{client.host}", now, local=local)
                witnesses.append(witness)
                task = group.spawn(self._client(client, witness, server.addresses[0]))
                if client.ends != "stay":
                    busy.append(task)
                if client.reading == "never":
                    asleep.append(task)
            drain_at = plan.drain_at
            if drain_at is None:
                drain_at = _BEFORE_DRAIN + max((c.starts for c in plan.clients), default=0.0)
            async with move_on_after(drain_at):
                for task in busy:
                    await task.join()
            await server.drain()
            for task in asleep:
                task.cancel()  # they would not notice for a while
        if scope.fired:
            return [*self._found, Finding("deadlock", "it has not ended", now())]
        history = History(
            servers=[ledger.close(server)],
            clients=[] if self._case.own else [each.record for each in witnesses],
            latency=_LATENCY,
            ended=now(),
        )
        wrong = judge(history, self._case.oracles)
        return [*self._found, *(Finding(each.partition(":")[0], each) for each in wrong)]

    async def _client(self, client: Client, witness: Witness, address: str) -> None:
        own: Callable[[Any], Any] | None = None
        conversation = self._case.own
        if conversation is not None:
            chance = random.Random(f"{self._plan.seed}/client/{client.number}")

            async def own(connection: Any) -> None:
                await conversation(connection, chance)

        try:
            tls = client_context() if self._plan.tls else None
            await play(client, witness, address, self._case.form, own, tls=tls)
        except Exception as error:  # noqa: BLE001
            self._raised("task", error)

    def _raised(self, what: str, error: BaseException) -> None:
        self._found.append(Finding(f"{what}: {type(error).__name__}", str(error)))


class _RealLedger(Ledger):
    """Tells of failures of handlers as a world does."""

    failed: Callable[[str, BaseException], None]

    def handler_failed(self, connection: Any, error: BaseException) -> None:
        super().handler_failed(connection, error)
        self.failed("handler", error)


if __name__ == "__main__":
    main()
