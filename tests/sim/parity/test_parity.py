"""The simulated sockets answer each script as Linux does on loopback."""

from __future__ import annotations

import sys

import pytest

from tests.sim.parity import (  # noqa: F401
    closing,
    connecting,
    datagrams,
    listening,
    resets,
    sending,
    unix,
    unix_names,
)
from tests.sim.parity.catalogue import SCRIPTS, Script
from tests.sim.parity.linux import Linux
from tests.sim.parity.net import Machine, Net
from tests.sim.parity.simulated import Simulated

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that is simulated")

_AGREED = frozenset(
    {
        "both_close_one_after_the_other",
        "shutdown_for_receiving_then_data",
        "shutdown_for_receiving_with_data",
        "shutdown_for_receiving_then_an_end",
        "close_with_unread_data",
        "close_with_unread_data_after_an_answer",
        "close_with_unread_data_and_an_end",
        "close_with_data_that_was_peeked_at",
        "data_after_the_peer_has_closed",
        "data_after_the_peer_has_closed_then_error",
        "data_for_a_closed_half",
        "linger_of_none",
        "linger_of_none_after_the_peers_end",
        "linger_of_none_with_data_on_its_way",
        "abort_as_streams_do",
        "abort_of_one_that_sends",
        "reset_is_told_once",
        "reset_is_told_to_a_writer",
        "reset_is_told_by_so_error",
        "reset_met_by_shutdown",
        "reset_after_our_end",
        "reset_of_a_full_socket",
        "reset_with_unread_data",
        "close_with_data_on_its_way",
        "shutdown_with_data_on_its_way",
        "both_full_then_one_closes",
        "used_after_close",
        "simultaneous_ends",
        "connection_outlives_its_listener",
        "before_connect",
        "accepted",
        "sent_before_it_is_accepted",
        "refused_then_written",
        "bound_but_not_listening",
        "connected_to_a_listener_that_closes",
        "backlog_of_none",
        "backlog_has_room_again",
        "given_up_while_the_backlog_is_full",
        "listener_closes_while_its_backlog_is_full",
        "from_a_bound_address",
        "from_a_port_that_is_taken",
        "to_any_address",
        "over_ipv6",
        "over_ipv6_and_ipv4_side_by_side",
        "accept_with_nobody",
        "accept_in_order",
        "accept_without_descriptors",
        "accept_without_descriptors_with_nobody",
        "socket_without_descriptors",
        "peer_resets_in_the_backlog",
        "peer_resets_in_the_backlog_after_data",
        "peer_ends_in_the_backlog",
        "peer_of_the_backlog_is_accepted_after_a_reset_peer",
        "listener_shut_down",
        "listener_shut_down_for_receiving",
        "listener_closes_with_a_backlog",
        "listen_again_with_less_room",
        "listen_without_bind",
        "listen_on_a_connection",
        "address_in_use",
        "address_of_a_closed_listener",
        "address_of_nobody",
        "ports_are_chosen",
        "pieces_become_one",
        "reading_more_and_less",
        "nothing_written_after_a_reset",
        "peeking",
        "vector_after_the_end",
        "files",
        "file_into_a_full_socket",
        "full_then_room_again",
        "full_with_buffers_of_the_system",
        "both_full_then_both_drained",
        "closed_window_opens_for_an_end",
        "larger_than_all_buffers",
        "buffer_sizes_read_back",
        "echo_of_many_sizes",
    }
)


def told_by(machine: Machine, script: Script) -> list[str]:
    """What `script` tells of `machine`, a line a call."""
    net = Net(machine)
    try:
        script(net)
        return [f"{what} -> {found!r:.200}" for what, found in net.told]
    finally:
        net.close()
        machine.close()


def test_there_are_scripts_enough():
    assert len(SCRIPTS) >= 45


@pytest.mark.parametrize("name", SCRIPTS)
def test_parity(name, tmp_path, request):
    if name not in _AGREED and not name.startswith(("udp_", "unix_")):
        request.applymarker(pytest.mark.xfail(strict=False, reason="not mended yet"))
    linux = told_by(Linux(tmp_path), SCRIPTS[name])
    simulated = told_by(Simulated(), SCRIPTS[name])
    assert linux
    assert simulated == linux
