"""A load balancer in a simulated network: a TCP proxy as HAProxy is, in front of a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anysock
from anysock.errors import UsageError, WrongType
from anysock.net.proxy_protocol import encode_v1, encode_v2
from anysock.streams.connection import Connection

#: Versions of the PROXY protocol; 0: no header is sent.
VERSIONS = (0, 1, 2)


def proxy(
    to: str, *, header: int = 2, connect_timeout: float = 5.0
) -> Callable[[Connection], Awaitable[None]]:
    """A handler which hands each connection on to the address `to`, and before its first byte says
    by a `header` of the PROXY protocol, of version 1 or 2, who the client is (0: it does not).

    As HAProxy does it: a client whose server can't be reached is reset, and so is each of the two
    when the other one is.

    >>> from anysock import sim
    >>> async def scenario(world):
    ...     world.host("server").serve(
    ...         "echo", bind="tcp://:7", proxy_protocol="required", proxy_from=["0.0.0.0/0"]
    ...     )
    ...     world.host("balancer").serve(sim.proxy("server:7"), bind="tcp://:9000")
    ...     async with await anysock.connect("balancer:9000") as connection:
    ...         await connection.send_all(b"hello")
    ...         return await connection.recv()
    >>> sim.World(seed=7).run(scenario)
    b'hello'
    """
    _check(to, header, "proxy")

    async def hand_on(connection: Connection) -> None:
        try:
            server = await anysock.connect(to, timeout=connect_timeout)
        except OSError:
            connection.abort()
            return
        async with server:
            try:
                if header == 1:
                    await server.send_all(encode_v1(connection.peer, connection.local))
                elif header == 2:
                    await server.send_all(encode_v2(connection.peer, connection.local))
                await anysock.relay(connection, server)
            except OSError:
                # One of the two is lost: the other is told so, whichever it is.
                connection.abort()
                server.abort()

    return hand_on


async def check_health(to: str, *, header: int = 2, every: float = 1.0, fails: int = 3) -> None:
    """Connect to the address `to` again and again, as load balancers do, to see whether it is well;
    return once that has failed so many times in a row.

    With a `header` of version 2 it says that it is no client (LOCAL); of version 1, it gives its
    own address; without, it closes with a reset.
    """
    _check(to, header, "check_health")
    failed = 0
    while failed < fails:
        try:
            server = await anysock.connect(to, timeout=every)
            async with server:
                if header == 2:
                    await server.send_all(encode_v2(None, None))
                elif header == 1:
                    await server.send_all(encode_v1(server.local, server.peer))
                else:
                    server.abort()
        except OSError:
            failed += 1
        else:
            failed = 0
        await anysock.sleep(every)


def _check(to: str, header: int, caller: str) -> None:
    if not isinstance(to, str):
        raise WrongType(f"{caller}() takes the address of a server, not {to!r}")
    if header not in VERSIONS:
        raise UsageError(
            f"the PROXY protocol has the versions 1 and 2, and 0 for none; not {header!r}"
        )
