"""The tests of this folder that the engine `sim` can't run, by what they need of a real machine."""

from __future__ import annotations

NOT_SIMULATED = {
    "it is about threads": (
        "test_connect_options.py::test_so_is_a_resolver_that_is_slow",
        "test_library.py::test_a_thread_that_is_given_up_disturbs_nobody",
        "test_library.py::test_to_thread_does_not_block_the_others",
        "test_pause.py::test_to_pause_again_and_again_loses_nobody",
    ),
    "it starts a process": (
        "test_foreign_loops.py::test_a_handler_that_uses_asyncio_is_told_of_in_the_log",
        "test_library.py::test_ctrl_c_lets_everybody_clean_up",
        "test_library.py::test_a_signal_wakes_a_loop_that_is_about_to_sleep",
    ),
    "its other end is a real socket, with Python's own TLS": (
        "test_start_tls.py::test_after_lines_in_plain_text_tls_is_spoken",
        "test_start_tls.py::test_a_certificate_for_another_name_is_refused",
        "test_start_tls.py::test_an_answer_that_came_in_plain_text_is_never_taken_for_one_by_tls",
        "test_start_tls.py::test_what_was_put_back_is_no_part_of_tls_either",
        "test_start_tls.py::test_plain_text_that_comes_later_fails_in_the_handshake",
        "test_start_tls.py::test_a_handshake_that_is_given_up_leaves_nothing_to_receive_or_send",
        "test_start_tls.py::test_what_makes_no_sense_is_refused_and_nothing_has_happened",
        "test_start_tls.py::test_it_is_refused_while_another_task_receives_or_sends",
        "test_tls_stream.py::test_a_client_of_pythons_own",
        "test_tls_stream.py::test_a_client_that_goes_without_a_word",
        "test_tls_stream.py::test_a_client_that_speaks_no_tls",
        "test_tls_stream.py::test_a_client_that_leaves_in_the_handshake",
        "test_tls_stream.py::test_a_handshake_has_a_deadline_if_one_is_set",
        "test_tls_stream.py::test_a_client_that_half_closes_gets_all_that_there_is_to_say",
        "test_tls_stream.py::test_a_change_of_keys_while_another_task_sends",
        "test_tls_stream.py::test_a_new_handshake_in_tls_1_2_is_refused",
    ),
    "it hands real sockets the port that they connect to": (
        "test_connect.py::test_who_meets_itself_is_refused",
    ),
}

REASONS = {name: reason for reason, names in NOT_SIMULATED.items() for name in names}
