"""TLS in a simulation: the same bytes for the same seed, and no key that others could guess."""

from __future__ import annotations

import os
import random
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import anysock
from anysock.cli import anysock as command
from anysock.cli import simulating
from anysock.engines.sim import tls_chance
from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.faults import parse
from anysock.engines.sim.tls_chance import seeded
from anysock.machine.chance import drawn_from, fresh_seed
from anysock.net.certificates import server_context
from anysock.sim.explore import Asked, Explorer
from tests.sim import handshake


def dice(seed: int) -> Callable[[], random.Random]:
    stream = random.Random(seed)
    return lambda: stream


def said(program: str, *seeds: int, hash_seed: int) -> str:
    """What `program` says in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", f"tests.sim.{program}", *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_tls_has_equal_bytes_in_two_processes():
    first, again, other = (
        said("handshake", seed, hash_seed=hash_seed) for seed, hash_seed in ((1, 0), (1, 9), (2, 0))
    )
    assert first.startswith("True "), "this Python's OpenSSL can't be seeded"
    assert first == again
    assert first != other


def test_a_history_over_tls_is_the_same_in_two_processes_and_in_any_order():
    first = said("over_tls", 1, 2, 3, 4, 5, hash_seed=0).splitlines()
    again = said("over_tls", 5, 4, 3, 2, 1, hash_seed=12345).splitlines()
    assert first == again[::-1]
    assert len({line.split()[1] for line in first}) == 5


def test_what_is_sent_is_part_of_the_trace():
    def trace(word: bytes) -> list[tuple[object, ...]]:
        async def main() -> None:
            async with anysock.Server("echo", bind="127.0.0.1:7") as server:
                async with await anysock.connect(server.addresses[0]) as connection:
                    await connection.send_all(word)
                    assert await connection.recv() == word

        engine = SimEngine(1)
        anysock.run(main, engine=engine)
        return engine.network.trace

    one, other = trace(b"word"), trace(b"wort")
    assert one == trace(b"word")
    # Each segment tells of its bytes, after its size.
    assert one != other
    assert [entry[:5] for entry in one[:-1]] == [entry[:5] for entry in other[:-1]]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_has_equal_bytes_twice_in_a_process(version):
    runs = []
    for seed in (1, 1, 2):
        with seeded(dice(seed)):
            runs.append(handshake.bytes_of_tls(version))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_lengths_are_equal_even_where_bytes_are_not():
    runs = {tuple(map(len, handshake.bytes_of_tls())) for _ in range(20)}
    assert len(runs) == 1


def drawn() -> bytes:
    return ssl.RAND_bytes(16)


def test_after_the_block_keys_are_secret_again():
    runs = []
    for _ in range(2):
        with seeded(dice(1)):
            inside = drawn()
        runs.append((inside, drawn(), handshake.bytes_of_tls()))
    assert runs[0][0] == runs[1][0] == random.Random(1).randbytes(16)
    assert runs[0][1] != runs[1][1]
    assert runs[0][2] != runs[1][2]
    follows = random.Random(1)
    assert runs[0][1] not in [follows.randbytes(16) for _ in range(1000)]


def test_after_the_block_openssl_has_its_own_generator():
    def generator() -> int:
        found: int = tls_chance.generator()._get()  # type: ignore[union-attr]
        return found

    before = generator()
    with pytest.raises(ZeroDivisionError), seeded(dice(1)):
        assert generator() != before
        raise ZeroDivisionError
    assert generator() == before


def test_other_threads_keep_their_secrets():
    found: list[bytes] = []
    with seeded(dice(1)):
        thread = threading.Thread(target=lambda: found.append(drawn()))
        thread.start()
        thread.join()
        assert drawn() == random.Random(1).randbytes(16)
    assert found[0] != random.Random(1).randbytes(16)


def test_a_block_within_a_block_gives_the_stream_back():
    outer = random.Random(1)
    with seeded(dice(1)):
        assert drawn() == outer.randbytes(16)
        with seeded(dice(2)):
            assert drawn() == random.Random(2).randbytes(16)
        assert drawn() == outer.randbytes(16)


def test_an_interrupt_while_openssl_draws_is_raised_by_the_block():
    class Interrupted(random.Random):
        def randbytes(self, n: int) -> bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), seeded(Interrupted):
        with pytest.raises(ssl.SSLError):
            drawn()
    assert drawn() != drawn()


def test_where_openssl_cannot_be_seeded_it_says_so(monkeypatch):
    # As a library that ssl is not linked with: it is given a generator, and nobody asks it.
    monkeypatch.setattr(tls_chance.Generator, "works", lambda self: False)
    tls_chance.generator.cache_clear()
    try:
        with seeded(dice(1)) as exact:
            assert not exact
            assert drawn() != random.Random(1).randbytes(16)
        traces = []
        for _ in range(2):
            explorer = Explorer(Asked(clients=2, faults=parse("rough").kinds, tls=True))
            traces.append(explorer.run(explorer.asked.plan(3)).network.trace)
        assert traces[0] == traces[1], "it tells of lengths, and they are the same"
    finally:
        tls_chance.generator.cache_clear()


@pytest.mark.parametrize("seedable", [True, False])
@pytest.mark.parametrize("tls", [["--tls"], []], ids=["tls", "plain"])
def test_anysock_sim_says_where_the_bytes_of_tls_are_not_the_same(
    monkeypatch, capsys, seedable, tls
):
    if not seedable:
        monkeypatch.setattr(tls_chance.Generator, "works", lambda self: False)
    # It makes SIGTERM end with a line, as a command may.
    monkeypatch.setattr(simulating, "sigterm_interrupts", lambda: None)
    tls_chance.generator.cache_clear()
    try:
        with pytest.raises(SystemExit) as ended:
            command.main(["sim", *tls, "-n", "1", "-c", "1", "--faults", "none", "-q"])
        assert ended.value.code == 0
        notes = f"note: {tls_chance.NOT_EXACT}\n" if tls and not seedable else ""
        assert capsys.readouterr().err == notes
    finally:
        tls_chance.generator.cache_clear()


def test_a_server_of_a_simulation_gives_no_tickets_which_hold_the_time():
    assert server_context(handshake.CERTIFICATE).num_tickets == 2
    with drawn_from(dice(1)):
        context = server_context(handshake.CERTIFICATE)
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert server_context(handshake.CERTIFICATE).num_tickets == 2


def test_a_seed_that_nobody_has_given_is_that_of_the_simulation():
    found = []
    for _ in range(2):
        with drawn_from(dice(1)):
            found.append(fresh_seed(10**9))
    assert found[0] == found[1]
    assert fresh_seed(10**9) not in found
