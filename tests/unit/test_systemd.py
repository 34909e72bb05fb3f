"""What systemd hands over, and what it is told; without a systemd."""

from __future__ import annotations

import logging
import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock import systemd
from anysock.errors import StartError, UsageError
from anysock.net.addresses import Address
from anysock.systemd import Notifier, NotifyEvents, take_inherited

US = str(os.getpid())


# -- sockets ------------------------------------------------------------------------------------


@pytest.fixture
def fds(monkeypatch):
    """Three descriptors in a row, the first of which counts as the first of systemd's."""
    first = max(map(int, os.listdir("/proc/self/fd"))) + 10
    with open(os.devnull) as file:
        for place in range(3):
            os.dup2(file.fileno(), first + place)
    monkeypatch.setattr(systemd, "FIRST_FD", first)
    yield [first, first + 1, first + 2]
    for place in range(3):
        os.close(first + place)


def test_what_is_handed_over_has_its_name(fds):
    environment = {"LISTEN_PID": US, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web::a b", "HOME": "/"}
    assert take_inherited(environment) == [("web", fds[0]), ("", fds[1]), ("a b", fds[2])]
    assert environment == {"HOME": "/"}, "the programs that we start would take them for theirs"


def test_it_is_not_for_the_programs_that_we_start(fds):
    for fd in fds:
        os.set_inheritable(fd, True)
    take_inherited({"LISTEN_PID": US, "LISTEN_FDS": "3"})
    assert not any(os.get_inheritable(fd) for fd in fds)


def test_without_names_it_is_unknown(fds):
    for environment in ({}, {"LISTEN_FDNAMES": ""}):
        environment |= {"LISTEN_PID": US, "LISTEN_FDS": "2"}
        assert take_inherited(environment) == [("unknown", fds[0]), ("unknown", fds[1])]


@pytest.mark.parametrize(
    "pid", ["1", "", f" {US}", f"{US}0", "x"], ids=["1", "none", "blank", "longer", "word"]
)
def test_what_is_for_another_process_is_not_for_us(fds, pid):
    environment = {"LISTEN_PID": pid, "LISTEN_FDS": "3", "LISTEN_PIDFDID": "7"}
    assert take_inherited(environment) == []
    assert environment == {}


def test_without_systemd_there_is_nothing():
    assert take_inherited({}) == []
    assert take_inherited({"LISTEN_PID": US, "LISTEN_FDS": "0"}) == []


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "LISTEN_FDS in the environment is no number: ''"),
        ({"LISTEN_FDS": "-1"}, "no number: '-1'"),
        ({"LISTEN_FDS": "²"}, "no number"),
        ({"LISTEN_FDS": "4"}, r"LISTEN_FDS says 4, but there is no descriptor \d+"),
        ({"LISTEN_FDS": "9" * 18}, "there is no descriptor"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web"}, "LISTEN_FDS says 2, and .* names 1"),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"}, "LISTEN_FDS says 1, and .* names 2"),
    ],
)
def test_an_environment_that_contradicts_itself_is_one_clear_line(fds, environment, told):
    with pytest.raises(StartError, match=told) as caught:
        take_inherited({"LISTEN_PID": US} | environment)
    assert "\n" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(["LISTEN_FDS", "LISTEN_FDNAMES"]), st.text()))
def test_whatever_the_environment_says_it_is_read_or_refused(environment):
    environment["LISTEN_PID"] = US
    try:
        handed = take_inherited(environment)
    except StartError:
        pass
    else:
        assert all(fd >= systemd.FIRST_FD for _, fd in handed)
    assert environment == {}


def expand(monkeypatch, handed, *addresses):
    monkeypatch.setattr(systemd, "_handed_over", handed)
    return [str(each) for each in systemd.expand([Address.parse(text) for text in addresses])]


def test_addresses_of_systemd_become_descriptors(monkeypatch):
    handed = [("web", 3), ("tls", 4), ("web", 5)]
    assert expand(monkeypatch, handed, "systemd://") == ["fd://3", "fd://4", "fd://5"]
    assert expand(monkeypatch, handed, ":80", "systemd://web", "tls+systemd://tls") == [
        "tcp://:80",
        "fd://3",
        "fd://5",
        "tls+fd://4",
    ]


def test_what_was_not_handed_over_is_one_clear_line(monkeypatch):
    with pytest.raises(StartError, match="systemd://: systemd has handed over no socket"):
        expand(monkeypatch, [], "systemd://")
    with pytest.raises(StartError, match="systemd://x: no socket has that name, only a, b"):
        expand(monkeypatch, [("b", 3), ("a", 4)], "systemd://x")
    with pytest.raises(UsageError, match="one descriptor is named twice"):
        expand(monkeypatch, [("b", 3)], "systemd://", "fd://3")


# -- notification -------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path):
    """What stands for systemd: a socket, and its name in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        yield manager


@pytest.fixture
def notifier(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    yield notifier
    notifier.close()


def test_each_message_is_a_datagram(manager, notifier):
    notifier.ready()
    notifier.ready("listening")
    notifier.status("fine")
    notifier.stopping("3 left", 2.5)
    notifier.status("2 left", 0)
    notifier.watchdog()
    assert [manager.recv(1000) for _ in range(6)] == [
        b"READY=1",
        b"READY=1\nSTATUS=listening",
        b"STATUS=fine",
        b"STOPPING=1\nSTATUS=3 left\nEXTEND_TIMEOUT_USEC=7500000",
        b"STATUS=2 left\nEXTEND_TIMEOUT_USEC=5000000",
        b"WATCHDOG=1",
    ]


def test_a_reload_tells_when_it_began(manager, notifier):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second = manager.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= after


def test_what_becomes_of_a_reload_and_of_a_pause_is_told(manager, notifier):
    events = NotifyEvents(notifier)
    events.listening(["tcp://[::]:7", "unix:///run/echo"], "selector")
    events.reload_begun()
    events.reload_failed(StartError("the key is\nanother's"))
    events.accepting_paused()
    events.accepting_resumed()
    serving = "STATUS=listening on tcp://[::]:7, unix:///run/echo (selector)"
    heard = [manager.recv(1000).decode() for _ in range(5)]
    assert heard.pop(1).startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard == [
        f"READY=1\n{serving}",
        f"READY=1\n{serving}; not reloaded: the key is another's",
        "STATUS=accepting is paused",
        serving,
    ]


@given(st.text())
def test_a_status_is_one_line_whatever_is_in_it(text):
    name = f"anysock test {US}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name})
        notifier.ready(text)
        notifier.close()
        words = manager.recv(100_000).decode().split("\n")
    assert [word.partition("=")[0] for word in words] == ["READY", "STATUS"][: 2 if text else 1]


def test_an_abstract_socket(tmp_path):
    name = f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:])
        notifier = Notifier({"NOTIFY_SOCKET": name})
        notifier.ready()
        assert manager.recv(100) == b"READY=1"
        notifier.close()


def test_nothing_is_left_in_the_environment():
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": US, "HOME": "/"}
    Notifier(environment).close()
    assert environment == {"HOME": "/"}


def test_who_serves_does_not_wait_for_a_systemd_that_does_not_hear(tmp_path, caplog):
    """What will be told again is left out; it is no reason to warn, either."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        # Far more than go into its queue (unix(7), net.unix.max_dgram_qlen): each that waited would
        # do so for a second.
        began = time.monotonic()
        for number in range(2000):
            notifier.watchdog()
            notifier.status(f"draining: {number} connections left", 1.0)
        assert time.monotonic() - began < 60
        assert manager.recv(100) == b"WATCHDOG=1"
        notifier.close()
    assert not caplog.records


def test_no_word_to_systemd_has_control_characters(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.status("a\x1b[31m\udcff\nREADY=1")
        assert manager.recv(100) == b"STATUS=a\\x1b[31m\\udcff READY=1"
        notifier.close()


def test_without_systemd_nothing_is_done(caplog):
    notifier = Notifier({})
    assert not notifier.anybody
    for tell in (notifier.ready, notifier.reloading, notifier.stopping, notifier.watchdog):
        tell()
    notifier.close()
    assert not caplog.records


def dead(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
    return path


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("missing", "No such file or directory"),
        ("dead", "Connection refused"),
        ("relative", "neither a path nor @name"),
        ("vsock:2:1234", "neither a path nor @name"),
        ("/" + 200 * "x", "too long"),
        ("@" + 200 * "x", "too long"),
        ("a file", "Connection refused"),
    ],
)
def test_who_does_not_hear_is_one_warning_and_no_failure(tmp_path, caplog, where, told):
    if where == "missing":
        where = str(tmp_path / where)
    elif where == "dead":
        where = dead(str(tmp_path / where))
    elif where == "a file":
        (tmp_path / where).touch()
        where = str(tmp_path / where)
    notifier = Notifier({"NOTIFY_SOCKET": where, "WATCHDOG_USEC": "1000"})
    notifier.ready("listening")
    notifier.watchdog()
    notifier.stopping()
    notifier.close()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert told in record.getMessage()
    assert where in record.getMessage()


def test_who_comes_back_hears_again(tmp_path, caplog):
    where = dead(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": where})
    notifier.ready()
    os.unlink(where)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(where)
        notifier.status("still here")
        assert manager.recv(100) == b"STATUS=still here"
    notifier.close()
    assert len(caplog.records) == 1


def test_who_does_not_listen_holds_up_nobody(manager, caplog, monkeypatch):
    monkeypatch.setattr(systemd, "_SEND_SECONDS", 0.05)
    impatient = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(10_000):
        impatient.ready()
        if caplog.records:
            break
    impatient.close()
    assert "timed out" in caplog.text


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": US}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_PID": US}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_told_in_half_its_time_and_by_whom_it_asks(environment, seconds, caplog):
    notifier = Notifier({"NOTIFY_SOCKET": "/x"} | environment)
    assert notifier.watchdog_seconds == seconds
    notifier.close()
    assert not caplog.records
    assert Notifier(environment).watchdog_seconds is None, "there is nobody to tell"


@given(st.text())
def test_whatever_the_watchdog_is_said_to_want_it_is_read_or_warned_of(text):
    notifier = Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": text})
    assert notifier.watchdog_seconds is None or notifier.watchdog_seconds > 0
    notifier.close()


def test_a_watchdog_that_makes_no_sense_is_one_warning(caplog):
    Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}).close()
    assert "WATCHDOG_USEC is 'soon'" in caplog.text
