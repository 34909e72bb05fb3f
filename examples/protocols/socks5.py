"""A SOCKS5 proxy (RFC 1928): CONNECT to IPv4, IPv6 and names; with a password, if it shall (1929).

python examples/protocols/socks5.py --bind 127.0.0.1:1080 --user anna:secret
curl --socks5-hostname anna:secret@127.0.0.1:1080 https://example.com/
"""

import argparse
import errno
import hmac
import ipaddress
import re
import sys
from dataclasses import dataclass

import anysock

VERSION = 5
HANDSHAKE_SECONDS = 10
CONNECT_SECONDS = 10

# Ways to authenticate.
NO_PASSWORD, USERNAME_PASSWORD, NONE_OF_THEM = 0, 2, 0xFF

# Replies (RFC 1928, 6).
SUCCEEDED, FAILED, NOT_ALLOWED, NET_UNREACHABLE, HOST_UNREACHABLE, REFUSED = range(6)
COMMAND_UNKNOWN, ADDRESS_UNKNOWN = 7, 8
REPLY_OF_ERRNO = {
    errno.ECONNREFUSED: REFUSED,
    errno.ENETUNREACH: NET_UNREACHABLE,
    errno.EHOSTUNREACH: HOST_UNREACHABLE,
    errno.ETIMEDOUT: HOST_UNREACHABLE,
}

# The library's addresses are texts, and a name from outside must not become another kind of one:
# unix:///run/docker.sock is no host.
HOST_NAME = re.compile(rb"[A-Za-z0-9_.-]{1,255}")

# Who lets strangers send mail from here is soon on every block list.
FORBIDDEN_PORTS = {25}


class Rejected(Exception):
    def __init__(self, reply: int) -> None:
        super().__init__(reply)
        self.reply = reply


def encode_reply(reply: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    address = ipaddress.ip_address(host.partition("%")[0])
    kind = 1 if address.version == 4 else 4
    return bytes([VERSION, reply, 0, kind]) + address.packed + port.to_bytes(2, "big")


@dataclass
class Proxy:
    user: bytes | None = None  # name:password, or None: everybody may use it

    async def handle(self, client: anysock.Connection) -> None:
        try:
            async with anysock.timeout(HANDSHAKE_SECONDS):
                if not await self.greet(client):
                    return
                address = await receive_request(client)
            server = await connect(address)
        except Rejected as error:
            await client.send_all(encode_reply(error.reply))
            return
        async with server:
            await client.send_all(encode_reply(SUCCEEDED, *server.local[:2]))
            await anysock.relay(client, server)

    async def greet(self, client: anysock.Connection) -> bool:
        """Agree on how to authenticate, and do it."""
        version, count = await client.recv_exactly(2)
        if version != VERSION:
            return False  # SOCKS4, or another protocol altogether: there is no answer that fits
        offered = await client.recv_exactly(count)
        wanted = NO_PASSWORD if self.user is None else USERNAME_PASSWORD
        chosen = wanted if wanted in offered else NONE_OF_THEM
        await client.send_all(bytes([VERSION, chosen]))
        if chosen == NONE_OF_THEM or self.user is None:
            return chosen != NONE_OF_THEM
        await client.recv_exactly(1)  # the version of RFC 1929, which is 1
        name = await client.recv_frame(1)
        password = await client.recv_frame(1)
        # In a time that does not tell how much of it was right.
        right = hmac.compare_digest(name + b":" + password, self.user)
        await client.send_all(b"\x01\x00" if right else b"\x01\x01")
        return right


async def receive_request(client: anysock.Connection) -> str:
    """The address to connect to."""
    _, command, _, kind = await client.recv_exactly(4)
    if kind == 1:
        host = str(ipaddress.IPv4Address(await client.recv_exactly(4)))
    elif kind == 4:
        host = f"[{ipaddress.IPv6Address(await client.recv_exactly(16))}]"
    elif kind == 3:
        name = await client.recv_frame(1)
        if not HOST_NAME.fullmatch(name):
            raise Rejected(ADDRESS_UNKNOWN)
        host = name.decode()
    else:
        raise Rejected(ADDRESS_UNKNOWN)
    port = int.from_bytes(await client.recv_exactly(2), "big")
    if command != 1:
        raise Rejected(COMMAND_UNKNOWN)  # BIND and UDP ASSOCIATE
    if port in FORBIDDEN_PORTS:
        raise Rejected(NOT_ALLOWED)
    return f"tcp://{host}:{port}"


async def connect(address: str) -> anysock.Connection:
    try:
        async with anysock.timeout(CONNECT_SECONDS):
            return await anysock.connect(address)
    except (anysock.StartError, TimeoutError):  # a name that is not known, or nobody answers
        raise Rejected(HOST_UNREACHABLE) from None
    except OSError as error:
        raise Rejected(REPLY_OF_ERRNO.get(error.errno or 0, FAILED)) from None


handler = Proxy().handle

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--bind", default="127.0.0.1:1080")
    parser.add_argument("-e", "--engine", default="selector")
    parser.add_argument("--user", metavar="NAME:PASSWORD", type=str.encode)
    given = parser.parse_args()
    aborted = anysock.serve(Proxy(given.user).handle, bind=given.bind, engine=given.engine)
    sys.exit(1 if aborted else 0)
