"""TLS in a simulation: a certificate that a server can show there, and a client can trust.

>>> import anysock
>>> from anysock import sim
>>> async def scenario(world):
...     world.host("server").serve("echo", bind="tls://:7", tls_cert=sim.CERTIFICATE)
...     address = "tls://server:7"
...     async with await anysock.connect(address, tls=sim.client_context()) as connection:
...         await connection.send_all(b"hello")
...         return await connection.recv()
>>> sim.World(seed=7).run(scenario)
b'hello'

Real time, which must not matter, has no part in it: the certificate is valid for ever, and a server
gives no tickets to resume a session. Its key is of Ed25519, whose signatures all have one length.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import TYPE_CHECKING

from anysock.engines.sim.tls_chance import seeded

if TYPE_CHECKING:
    import ssl

#: A file with a certificate for the hosts ``server``, ``proxy`` and ``localhost``, and its key,
#: which everybody knows: it is for simulations alone.
CERTIFICATE = Path(__file__).with_name("not_secret.pem")


@functools.cache
def client_context() -> ssl.SSLContext:
    """What a client needs that trusts `CERTIFICATE`, and nothing else. It is made once: a context
    takes as long as half a history."""
    from anysock.net.certificates import client_context as make

    # With random numbers of its own: whichever history is the first draws no others than the rest.
    stream = random.Random("client_context")
    with seeded(lambda: stream):
        return make(CERTIFICATE)
