"""Ann, Bob and Cleo: the same three clients at each rung.

Ann connects first, and says nothing. Bob is quick: he says a line, and when he has his answer,
another. Cleo is slow: her line comes in two pieces.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import sockets
from recording import recording

others_have_left = threading.Event()  # all but Ann


class HasLeft(Exception):
    """It is no client any more."""


class Client:
    """A client, on a thread of its own; its socket is not recorded, it tells of itself."""

    def __init__(self, name: str, port: int, patience: float, after: Client | None) -> None:
        self.name = name
        self.has_connected = threading.Event()
        self._after = after
        self._port = port
        self._sock = sockets.plain()
        self._sock.settimeout(patience)

    def tells(self, what: str, data: bytes | None = None) -> None:
        text = None if data is None else repr(data)[1:]
        recording.tell("mark", host=self.name, what=what, text=text)

    def waits_until(self, milliseconds: float) -> None:
        """Sleep until so long after the program has begun to listen."""
        time.sleep(max(milliseconds / 1000 - recording.now() / 1e9, 0))

    def connects(self) -> None:
        """In their order, also where the machine is so busy that their times pass."""
        if self._after is not None:
            self._after.has_connected.wait()
        self._sock.bind(("127.0.0.1", 0))
        host, port = self._sock.getsockname()
        recording.names[port] = self.name
        try:
            self._sock.connect((host, self._port))
        except ConnectionRefusedError:
            self._leaves_as("is refused")
        finally:
            self.has_connected.set()
        recording.tell("queued", conn=self.name, peer=f"{host}:{port}")
        self.tells("connects")

    def says(self, data: bytes) -> None:
        self.tells("says", data)
        self._sock.sendall(data)

    def hears(self) -> None:
        """Wait for a line, or for the end."""
        heard = b""
        while not heard.endswith(b"\n"):
            try:
                data = self._sock.recv(1024)
            except TimeoutError:
                self._leaves_as("gives up")
            except ConnectionError:
                self._leaves_as("sees a reset")
            if not data:
                self._leaves_as("sees the end")
            heard += data
        self.tells("is answered", heard)

    def leaves(self) -> None:
        self._leaves_as("leaves")

    def _leaves_as(self, how: str) -> None:
        self.tells(how)
        self._sock.close()
        raise HasLeft


@dataclass
class Scene:
    """Who comes, and what they do."""

    who: tuple[str, ...] = ("Ann", "Bob", "Cleo")
    ann_leaves: str = "last"  # or "first", or "never": the program ends before her
    bobs_second: bytes = b"again\r\n"
    cleos: tuple[bytes, bytes] = (b"good", b"bye\r\n")
    # How long one of them waits for an answer before it gives up, in seconds.
    patience: float = 5.0

    def ann(self, client: Client) -> None:
        client.waits_until(10)
        client.connects()
        client.waits_until(80)
        if self.ann_leaves != "never":
            if self.ann_leaves == "last":
                others_have_left.wait()
            client.leaves()
        client.hears()

    def bob(self, client: Client) -> None:
        client.waits_until(20)
        client.connects()
        client.says(b"hello\r\n")
        client.hears()
        time.sleep(0.02)
        client.says(self.bobs_second)
        client.hears()
        client.leaves()

    def cleo(self, client: Client) -> None:
        client.waits_until(30)
        client.connects()
        client.says(self.cleos[0])
        time.sleep(0.02)
        client.says(self.cleos[1])
        client.hears()
        if self.who == ("Cleo",):
            client.hears()
        client.leaves()


_CLEO = Scene(("Cleo",), cleos=(b"hel", b"lo\r\n"))

# The rungs at which they do not do quite the same.
SCENES = {
    "s02_read_a_line": _CLEO,  # it has but one client
    "s03_answer": _CLEO,
    "s04_blocking": Scene(ann_leaves="first"),
    "s04_blocking_naive": Scene(ann_leaves="first", patience=0.15),
    "s12_failing_handler": Scene(bobs_second=b"boom\r\n"),
    "s12_failing_handler_naive": Scene(bobs_second=b"boom\r\n", patience=0.15),
    "s13_tracked_tasks": Scene(ann_leaves="never", bobs_second=b"boom\r\n"),
    "s15_io_uring": Scene(ann_leaves="never"),
}


def play(program: str, port: int, at_end: Callable[[], None]) -> None:
    """Let all clients come and go, once the program listens; then call `at_end`."""
    scene = SCENES.get(program, Scene())
    clients: list[Client] = []
    for name in scene.who:
        clients.append(Client(name, port, scene.patience, clients[-1] if clients else None))

    def one(client: Client) -> None:
        story = {"Ann": scene.ann, "Bob": scene.bob, "Cleo": scene.cleo}[client.name]
        with contextlib.suppress(HasLeft):
            story(client)

    recording.listens.wait()
    threads = [threading.Thread(target=one, args=(client,), name=client.name) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        if thread.name != "Ann":
            thread.join()
    others_have_left.set()
    if scene.ann_leaves != "never":
        for thread in threads:
            thread.join()
    at_end()
    for thread in threads:
        thread.join()
