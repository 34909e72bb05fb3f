"""Several processes that serve from one listening socket, and a supervisor that looks after them.

The supervisor opens the sockets, and serves nobody. Each worker is an interpreter of its own,
started anew and not forked (so that SIGHUP brings in new code), with an engine of its own. They
inherit the one listening socket: a client in its backlog is served by whichever worker is free, and
loses nothing when a worker is replaced. (With SO_REUSEPORT each would have a backlog
of its own, and take it along when it goes: granian 567.)

    supervisor.py   starts, replaces, ends the workers; answers signals
    staffing.py     how many workers there should be, and what is to be done about it
    reload.py       which workers a reload replaces, and whether it has failed
    restart_policy.py   when a worker is started again, and when to give up
    channels.py     the sockets that the supervisor waits for
    hiring.py       starting one: its options
    process.py      a worker, as the supervisor sees it
    waking.py       signals, and calls from other threads
    ending.py       by when all must be over
    sockets.py      what the supervisor opens, and the workers inherit
    figures.py      the figures of all together, for the admin endpoint
    worker.py       what runs in a worker
    control.py      the messages between the two
    slots.py        one exact number of connections for all
"""
