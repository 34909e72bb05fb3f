"""What histories have found, once, in the server; and what they have blamed it for wrongly: each by
the plan that was left of it."""

from __future__ import annotations

from typing import Any

import pytest

from anysock.options.serve import ServeOptions
from anysock.sim.cases import case_of
from anysock.sim.finding import Finding
from anysock.sim.plan import Plan
from anysock.sim.scenario import run_history

FOUND: dict[str, tuple[str, dict[str, Any]]] = {
    # What was answered before max_lifetime, and not sent yet, was destroyed by the reset that the
    # client's next word caused.
    "lines_40642_an_answer_is_lost_at_the_end_of_a_lifetime": (
        "lines",
        {
            "seed": 40642,
            "options": {"max_lifetime": 0.746},
            "faults": {"latency": {}, "partial": {}, "small-buffers": {}},
            "only": {
                "partial": ["client4.0>#0", "client4.0>#1"],
                "small-buffers": ["client4.0>#0"],
            },
            "clients": [
                {
                    "number": 10,
                    "messages": [[816, 0.2756], [122, 0.258], [582, 0.2246]],
                    "host": 4,
                    "turns": False,
                }
            ],
        },
    ),
    # The close waited for its peer, which had not taken all; the end of the lifetime made that wait
    # end at once, and what the peer said next destroyed the rest of the answer.
    "echo_904208_a_lifetime_that_is_over_cuts_the_wait_of_a_close_short": (
        "echo",
        {
            "seed": 904208,
            "options": {"max_lifetime": 0.545, "rate_limit": 1827.7, "max_bytes": 897},
            "faults": {"small-buffers": {}, "stall": {}},
            "only": {
                "small-buffers": ["client0.2>#0", "client0.2<#0"],
                "stall": ["server#0", "client0#1"],
            },
            "clients": [
                {"number": 0},
                {"number": 1, "turns": False},
                {"number": 2, "messages": [623, 727, 806], "starts": 1.7819, "turns": False},
            ],
        },
    ),
    # The process was stopped, and the drain began as it went on: who had sent meanwhile was taken
    # to be at rest.
    "echo_952262_a_drain_after_a_stop_does_not_hear_what_has_come": (
        "echo",
        {
            "seed": 952262,
            "drain_at": 0.9759,
            "faults": {"emfile": {}, "stall": {}},
            "only": {"stall": ["server#0", "client3#0", "server#1"]},
            "clients": [
                {"number": 0, "host": 1, "turns": False},
                {
                    "number": 1,
                    "messages": [[1, 0.3239]],
                    "starts": 0.4445,
                    "host": 3,
                    "turns": False,
                },
                {"number": 4, "starts": 0.4722, "host": 1, "turns": False},
            ],
        },
    ),
    # The process was stopped, a step was slow as it went on, and the drain looked in the turn in
    # which the system told of what had come, before the handler had its part of that turn.
    "echo_1795812097541_a_drain_looks_before_a_handler_has_heard": (
        "echo",
        {
            "seed": 1795812097541,
            "drain_at": 1.2687,
            "options": {"per_source": 1},
            "faults": {
                "partial": {},
                "short": {},
                "stall": {},
                "slow-step": {},
                "schedule": {"changes": 3},
            },
            "clients": [
                {
                    "number": 1,
                    "starts": 0.3152,
                    "host": 6,
                    "turns": False,
                    "reading": "never",
                    "ends": "reset",
                },
                {
                    "number": 2,
                    "messages": [[28, 0.1402]],
                    "starts": 0.8284,
                    "host": 2,
                    "turns": False,
                    "reading": "slowly",
                },
                {"number": 3, "starts": 0.2549, "host": 10, "turns": False, "reading": "slowly"},
                {"number": 4, "messages": [2, 5, 17], "starts": 0.1575, "host": 2},
                {
                    "number": 5,
                    "messages": [80, 80, 528, 345],
                    "starts": 0.1993,
                    "host": 10,
                    "ends": "stay",
                },
                {
                    "number": 12,
                    "messages": [23, 17, 2],
                    "starts": 0.6303,
                    "host": 2,
                    "turns": False,
                },
                {
                    "number": 13,
                    "messages": [620, 966, 251, 933, 445, 789],
                    "starts": 0.3137,
                    "turns": False,
                },
                {"number": 14, "messages": [915, 79, 868, 83], "starts": 0.95, "host": 5},
                {
                    "number": 18,
                    "messages": [
                        [1930, 0.3609],
                        [23994, 0.1596],
                        [47506, 0.7406],
                        [11943, 0.4875],
                        [27777, 0.2977],
                        [7261, 0.213],
                        [25334, 0.3039],
                        [29464, 0.4107],
                        [13246, 0.1259],
                        [50617, 0.1074],
                    ],
                    "starts": 0.9189,
                    "host": 6,
                    "turns": False,
                    "reading": "never",
                },
            ],
        },
    ),
    # The same, where the system had told of it only some turns later.
    "lines_1795812098611_a_drain_looks_before_a_handler_is_told": (
        "lines",
        {
            "seed": 1795812098611,
            "drain_at": 1.5017,
            "options": {"write_timeout": 0.219},
            "faults": {
                "partial": {},
                "backlog": {},
                "emfile": {},
                "stall": {},
                "slow-step": {},
                "schedule": {"changes": 1},
            },
            "clients": [
                {
                    "number": 0,
                    "messages": [
                        [412, 0.0112],
                        [732, 0.0136],
                        [338, 0.0255],
                        [881, 0.0075],
                        [866, 0.0166],
                        [703, 0.0115],
                        [134, 0.0082],
                    ],
                    "starts": 0.7701,
                    "host": 7,
                    "turns": False,
                },
                {
                    "number": 2,
                    "messages": [[34, 0.0794], [8, 0.0432]],
                    "starts": 0.36,
                    "host": 6,
                    "turns": False,
                    "reading": "slowly",
                    "ends": "close",
                },
                {
                    "number": 3,
                    "messages": [950, 136, 174, 941, 313, 671, 15, 738, 577, 498],
                    "starts": 0.3194,
                    "host": 2,
                },
                {"number": 5, "messages": [818], "starts": 0.5992, "host": 4, "turns": False},
                {
                    "number": 12,
                    "messages": [[968, 0.3746], [320, 0.5224]],
                    "starts": 0.0716,
                    "host": 6,
                    "turns": False,
                    "reading": "slowly",
                },
                {
                    "number": 14,
                    "messages": [[468, 0.5225], [226, 0.3019]],
                    "starts": 0.1106,
                    "host": 6,
                    "turns": False,
                },
                {
                    "number": 15,
                    "messages": [[11, 0.4996], [19, 0.5246], [19, 0.3579], [21, 0.7781]],
                    "starts": 1.07,
                    "host": 2,
                    "turns": False,
                    "ends": "reset",
                },
                {
                    "number": 16,
                    "messages": [38, 16, 24, 33, 11, 25],
                    "starts": 1.1166,
                    "host": 5,
                    "turns": False,
                },
                {
                    "number": 17,
                    "messages": [
                        [28, 0.0492],
                        [36, 0.4056],
                        [24, 0.6153],
                        [38, 0.2705],
                        [9, 0.2042],
                        [38, 0.3957],
                        [18, 0.3316],
                    ],
                    "starts": 0.6946,
                    "host": 1,
                    "turns": False,
                    "reading": "slowly",
                },
                {
                    "number": 18,
                    "messages": [[27, 0.029], [25, 0.7767], [9, 0.1706], [20, 0.1125]],
                    "starts": 0.4808,
                    "host": 6,
                    "ends": "reset",
                },
            ],
        },
    ),
}

# Each was an alarm that the network, or an oracle, was to blame for.
FALSE_ALARMS: dict[str, tuple[str, dict[str, Any]]] = {
    # Who does not receive before all of its message is sent waits for itself, once all buffers on
    # the way are full.
    "echo_11303779_a_client_that_sends_more_than_all_buffers_hold_and_does_not_read": (
        "echo",
        {
            "seed": 11303779,
            "faults": {"small-buffers": {}},
            "clients": [{"number": 1, "messages": [496, 838]}],
        },
    ),
    # A reset that is lost comes again, with whatever the other end sends again. The network had
    # forgotten that.
    "echo_22307204_a_reset_is_lost_and_what_caused_it_is_sent_again": (
        "echo",
        {
            "seed": 22307204,
            "drain_at": 1.9579,
            "faults": {"one-way": {}, "small-buffers": {}, "stall": {}},
            "only": {"small-buffers": ["client0.0<#0"], "stall": ["client0#0"]},
            "clients": [
                {
                    "number": 0,
                    "messages": [[449, 0.6477], [449, 0.5151], [449, 0.188], [449, 0.6876]],
                    "starts": 0.1206,
                    "turns": False,
                }
            ],
        },
    ),
    "echo_20304439_a_reset_is_lost_while_another_is_on_its_way": (
        "echo",
        {
            "seed": 20304439,
            "drain_at": 2.6103,
            "faults": {"partition": {}, "one-way": {}, "small-buffers": {}, "stall": {}},
            "only": {
                "one-way": ["client0|server#0"],
                "small-buffers": ["client0.0<#0"],
                "stall": ["client0#0", "client0#1"],
            },
            "clients": [
                {
                    "number": 0,
                    "messages": [
                        [55, 0.4171],
                        [55, 0.6104],
                        [55, 0.1747],
                        [55, 0.4429],
                        [55, 0.749],
                        [55, 0.6113],
                        [55, 0.6615],
                    ],
                    "turns": False,
                }
            ],
        },
    ),
    "echo_21501792_a_reset_of_one_that_is_refused_is_lost": (
        "echo",
        {
            "seed": 21501792,
            "options": {"per_source": 1, "socket_buffer": 263},
            "faults": {
                "jitter": {},
                "merge": {},
                "partition": {},
                "one-way": {},
                "stall": {},
                "schedule": {},
            },
            "only": {
                "merge": ["client0.0>#0"],
                "partition": ["client0|server#0"],
                "one-way": ["client0|server#0"],
                "schedule": ["server#1"],
            },
            "clients": [
                {"number": 1, "messages": [1, 1, 1, 1], "starts": 0.3984},
                {
                    "number": 2,
                    "messages": [
                        [492, 0.0453],
                        [492, 0.2034],
                        [492, 0.428],
                        [492, 0.3681],
                        [259, 0.2685],
                        [492, 0.3516],
                        [105, 0.4439],
                        [295, 0.3047],
                        [27, 0.363],
                    ],
                    "starts": 1.062,
                    "turns": False,
                },
            ],
        },
    ),
    # A peer that has not taken all within the second that a close waits loses the rest by what it
    # says next.
    "echo_21501200_a_reader_that_is_slower_than_a_close_can_wait": (
        "echo",
        {
            "seed": 21501200,
            "faults": {"small-buffers": {}, "slow-reader": {}},
            "only": {"small-buffers": ["client0.2>#0"], "slow-reader": ["client0.2>#0"]},
            "clients": [
                {"number": 0, "messages": [[1, 0.3905], [1, 0.3391]], "turns": False},
                {
                    "number": 2,
                    "messages": [[527, 0.0892], [271, 0.3487], [27, 0.5861], [367, 0.7259]],
                    "starts": 0.3116,
                    "turns": False,
                    "ends": "stay",
                },
                {"number": 3, "turns": False},
            ],
        },
    ),
    # A client that is held up knows late that it is connected; when its system was, decides whether
    # the backlog was full.
    "echo_22503709_a_backlog_was_full_before_the_client_knew_that_it_was_connected": (
        "echo",
        {
            "seed": 22503709,
            "options": {"backlog": 2},
            "faults": {"stall": {}, "slow-step": {}},
            "only": {"stall": ["client1#0"], "slow-step": ["client1#0"]},
            "clients": [
                {"number": 1, "starts": 0.6031, "host": 1, "turns": False},
                {"number": 2, "messages": [[1, 0.3106]], "starts": 1.1133, "host": 1},
                {"number": 3, "starts": 0.5034, "host": 1},
                {"number": 4, "starts": 0.9369, "host": 1, "turns": False},
            ],
        },
    ),
    # By a rate limit, bytes go into the buffer of a socket for long: so it is not idle.
    "echo_11600307_what_is_sent_bit_by_bit_moves_though_the_peer_takes_nothing": (
        "echo",
        {
            "seed": 11600307,
            "tls": True,
            "options": {"idle_timeout": 1.998, "rate_limit": 1869.8},
            "faults": {"latency": {}, "jitter": {}, "partition": {}, "small-buffers": {}},
            "only": {"partition": ["client0|server#0"], "small-buffers": ["client0.0>#0"]},
            "clients": [
                {"number": 0, "messages": [27081, 27081, 27081], "turns": False, "reading": "never"}
            ],
        },
    ),
    # The end of the stream was sent, and held up on its way; the abort came after it.
    "lines_22800733_a_good_end_was_held_up_until_after_the_abort": (
        "lines",
        {
            "seed": 22800733,
            "tls": True,
            "options": {"idle_timeout": 0.259},
            "faults": {"hold": {}},
            "only": {"hold": ["client0|server#0"]},
            "clients": [{"number": 1, "messages": [[1, 0.2792], [1, 0.4193]], "turns": False}],
        },
    ),
    # What is behind a segment that is lost for good can't be read: the network handed it out.
    "lines_28405539_of_two_segments_the_first_was_lost_and_the_second_read": (
        "lines",
        {
            "seed": 28405539,
            "drain_at": 1.4764,
            "faults": {
                "latency": {},
                "one-way": {},
                "hold": {},
                "small-buffers": {},
                "slow-reader": {},
            },
            "only": {
                "one-way": ["client0|server#0"],
                "hold": ["client0|server#1", "client0|server#2"],
                "small-buffers": ["client0.1>#0"],
                "slow-reader": ["client0.1>#0"],
            },
            "clients": [
                {"number": 0, "starts": 0.4238, "turns": False},
                {
                    "number": 2,
                    "messages": [
                        [947, 0.2711],
                        [784, 0.0478],
                        [282, 0.1296],
                        [589, 0.4401],
                        [611, 0.2063],
                        [860, 0.477],
                        [655, 0.5919],
                    ],
                    "starts": 0.432,
                    "turns": False,
                },
            ],
        },
    ),
    # The end of TLS, too, has its time to be taken, and not more.
    "lines_25800585_no_room_for_the_end_of_tls": (
        "lines",
        {
            "seed": 25800585,
            "drain_at": 0.2271,
            "tls": True,
            "faults": {
                "latency": {},
                "partition": {},
                "small-buffers": {},
                "zero-window": {},
                "stall": {},
            },
            "only": {
                "partition": ["client0|server#0"],
                "small-buffers": ["client0.0<#0"],
                "zero-window": ["client0.0<#0"],
                "stall": ["server#0"],
            },
            "clients": [
                {"number": 0, "starts": 1.0838},
                {
                    "number": 1,
                    "messages": [16, 13, 17, 12, 16, 24, 31, 26],
                    "starts": 0.0916,
                    "turns": False,
                    "ends": "stay",
                },
            ],
        },
    ),
    # What completes a connection was held up by a partition, and found the backlog full that had
    # room when the client was connected.
    "echo_8011485_a_backlog_was_full_when_the_last_segment_of_a_handshake_came": (
        "echo",
        {
            "seed": 8011485,
            "options": {"max_connections": 4, "backlog": 1, "socket_buffer": 657},
            "faults": {
                "latency": {},
                "jitter": {},
                "split": {},
                "partition": {},
                "partial": {},
                "small-buffers": {},
            },
            "clients": [
                {
                    "number": 5,
                    "messages": [[785, 0.3282]],
                    "starts": 1.1617,
                    "host": 7,
                    "turns": False,
                },
                {
                    "number": 6,
                    "messages": [[294, 0.3307], [555, 0.5623]],
                    "starts": 1.2244,
                    "host": 1,
                },
                {
                    "number": 8,
                    "messages": [361, 557, 448, 925, 759, 780, 910],
                    "starts": 1.2099,
                    "host": 3,
                    "turns": False,
                    "reading": "slowly",
                },
                {"number": 9, "starts": 1.6821, "host": 8},
                {
                    "number": 10,
                    "messages": [[20, 0.511], [20, 0.3718], [16, 0.3662], [18, 0.6708]],
                    "starts": 0.3132,
                    "host": 9,
                },
                {"number": 15, "starts": 0.0145, "host": 4, "ends": "stay"},
                {"number": 16, "starts": 0.0159, "host": 5},
                {"number": 17, "starts": 1.5576, "host": 2},
            ],
        },
    ),
    # What came to a client that was still sending waited in small buffers, on both sides, and came
    # at once when it received.
    "echo_1795812160246_what_waited_for_a_client_comes_at_once": (
        "echo",
        {
            "seed": 1795812160246,
            "options": {"rate_limit": 1254.2},
            "faults": {"small-buffers": {}},
            "only": {"small-buffers": ["client3.2>#0", "client3.2<#0"]},
            "clients": [
                {"number": 2, "host": 3},
                {"number": 3, "host": 3},
                {"number": 12, "messages": [855], "host": 3},
            ],
        },
    ),
    # The simulated network lost a wake-up: who looked at what was acknowledged, in the moment in
    # which it was, left nothing to be told to the task that waited for room to send.
    "echo_1795816975921_a_look_at_what_is_acknowledged_wakes_who_waits": (
        "echo",
        {
            "seed": 1795816975921,
            "options": {"max_connections": 2, "idle_timeout": 1.744},
            "faults": {
                "latency": {},
                "jitter": {},
                "merge": {},
                "partial": {},
                "short": {},
                "emfile": {},
                "small-buffers": {},
            },
            "clients": [
                {
                    "number": 5,
                    "messages": [[3, 0.0749], [37, 0.5472], [11, 0.181]],
                    "starts": 0.0054,
                    "host": 7,
                    "turns": False,
                    "ends": "reset",
                },
                {"number": 6, "starts": 0.2252, "host": 4},
                {
                    "number": 7,
                    "messages": [204, 277, 588, 328, 641, 26, 218, 965, 107],
                    "starts": 0.0192,
                    "host": 8,
                },
                {"number": 8, "starts": 0.482, "host": 6, "turns": False},
                {"number": 9, "messages": [7, 10, 26, 19, 35, 37], "starts": 0.4615},
                {
                    "number": 10,
                    "messages": [
                        [8, 0.0466],
                        [9, 0.2729],
                        [14, 0.2365],
                        [4, 0.2938],
                        [12, 0.0629],
                        [4, 0.2879],
                        [27, 0.1741],
                        [40, 0.006],
                    ],
                    "starts": 0.3455,
                    "host": 1,
                    "turns": False,
                    "ends": "close",
                },
                {
                    "number": 11,
                    "messages": [
                        [24, 0.3171],
                        [5, 0.4822],
                        [37, 0.1495],
                        [10, 0.0181],
                        [1, 0.0263],
                        [24, 0.2945],
                        [4, 0.3059],
                        [25, 0.4089],
                    ],
                    "starts": 0.1079,
                    "host": 5,
                },
                {
                    "number": 12,
                    "messages": [206, 227, 414, 544],
                    "starts": 0.8314,
                    "turns": False,
                    "reading": "slowly",
                },
                {
                    "number": 13,
                    "messages": [
                        [35537, 0.0303],
                        [35165, 0.1142],
                        [40186, 0.058],
                        [7626, 0.1184],
                        [17963, 0.1466],
                        [27563, 0.1336],
                        [58571, 0.0532],
                        [14063, 0.1432],
                        [24173, 0.0514],
                        [4695, 0.1051],
                    ],
                    "starts": 0.1388,
                    "turns": False,
                    "reading": "never",
                },
                {
                    "number": 14,
                    "messages": [
                        [15, 0.3422],
                        [39, 0.1463],
                        [13, 0.6232],
                        [11, 0.7375],
                        [11, 0.3782],
                        [14, 0.698],
                        [26, 0.3077],
                        [3, 0.4172],
                        [18, 0.8365],
                    ],
                    "starts": 0.3331,
                    "host": 4,
                },
            ],
        },
    ),
}


def finding_of(handler: str, data: dict[str, Any]) -> Finding | None:
    plan = Plan.from_dict({"format": 1, **data})
    return run_history(case_of(handler, handler, ServeOptions()), plan).finding


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_mended(name: str):
    assert finding_of(*FOUND[name]) is None


@pytest.mark.parametrize("name", FALSE_ALARMS)
def test_nobody_is_blamed_for_what_tcp_and_the_options_allow(name: str):
    assert finding_of(*FALSE_ALARMS[name]) is None
