"""Load an echo server from several machines, with Locust (https://locust.io).

    pip install 'anysock[locust]'
    locust --headless --host SERVER:8000 --users 100 --run-time 30s

One machine runs ``locust --master``, the others ``locust --worker --master-host MASTER``: see
docs/load-from-many-machines.md. Each user keeps one connection, sends a message, waits for its
answer, and checks every byte. "connect" and "echo" are told apart in Locust's tables; failures are
named by their kind.

ECHO_SIZE sets the size of a message in bytes (64), ECHO_WAIT the pause of a user between two
messages in seconds (0).
"""

import contextlib
import os
import time
from collections.abc import Iterator

# First: it lets gevent put its own in the place of the blocking sockets that are used below.
from locust import User, constant, task

import anysock
from anysock.clients.echo_check import EchoCheck, Verdict

SIZE = int(os.environ.get("ECHO_SIZE", "64"))
TIMEOUT = 10.0

# A server that is gone is not to be flooded.
RETRY_SECONDS = 1.0


class WrongAnswer(Exception):
    """What came back is not what was sent."""


class Echo:
    """A connection to an echo server. Each call blocks its own user, and nobody else: under the
    `blocking` engine an await is a blocking call, and gevent makes that a switch."""

    def __init__(self, address: str) -> None:
        self._connection = anysock.run(anysock.connect, address, engine="blocking")
        self._check = EchoCheck(SIZE)
        self._number = 0

    def exchange(self) -> None:
        """Send a message and receive its answer. Raises WrongAnswer, OSError."""
        anysock.run(self._exchange, engine="blocking")

    async def _exchange(self) -> None:
        self._number += 1
        async with anysock.timeout(TIMEOUT):
            await self._connection.send_all(self._check.sent(self._number))
            while True:
                data = await self._connection.recv()
                answers = self._check.received(data) if data else self._check.ended()
                for answer in answers:
                    if answer.verdict is not Verdict.OK:
                        raise WrongAnswer(f"{answer.verdict.value} answer")
                    return
                if not data:
                    raise WrongAnswer("closed by the server")

    def close(self) -> None:
        anysock.run(self._connection.close, engine="blocking")


class EchoUser(User):
    """Sends a message, waits for its answer, and again."""

    wait_time = constant(float(os.environ.get("ECHO_WAIT", "0")))

    def on_start(self) -> None:
        self._echo: Echo | None = None

    def on_stop(self) -> None:
        self._hang_up()

    @task
    def echo(self) -> None:
        if self._echo is None:
            with self._told("connect"):
                self._echo = Echo(self.host)
        if self._echo is None:
            time.sleep(RETRY_SECONDS)
            return
        with self._told("echo", SIZE):
            try:
                self._echo.exchange()
            except BaseException:
                self._hang_up()
                raise

    @contextlib.contextmanager
    def _told(self, name: str, size: int = 0) -> Iterator[None]:
        """Locust is told how long the block took, or how it failed. (Its own `measure` tells what
        is interrupted at the end of a run as a success.)"""
        begun = time.perf_counter()
        failure = None
        try:
            yield
        except Exception as error:
            failure = error
        self.environment.events.request.fire(
            request_type="TCP",
            name=name,
            response_time=(time.perf_counter() - begun) * 1000,
            response_length=size,
            exception=failure,
            context={},
        )

    def _hang_up(self) -> None:
        echo, self._echo = self._echo, None
        if echo is not None:
            echo.close()
