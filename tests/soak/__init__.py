"""Programs to be run by hand: what would take a test too long, or needs a machine of its own.

    python -m tests.soak.crowd --count 10000        many connections held, and each echoed
    python -m tests.soak.resets --seconds 10        resets beside a bystander
    python -m tests.soak.drips --count 1000         clients that send a byte now and then
    python -m tests.soak.cancellation --seconds 60  sends and receives given up at random moments
    python -m tests.soak.hostile --kind records    a bystander's latency beside a hostile client
    python -m tests.soak.slow_reader --size 50      one that does not read 50 MiB
    python -m tests.soak.killed_workers             workers killed at random under connections
    python -m tests.soak.reloads                    SIGHUP under load
    python -m tests.soak.tls_fuzz --count 10000     what is no TLS, or not for long
    python -m tests.soak.long --minutes 20          good and bad clients for a long time, drawn

Each starts a server of its own (or two ends), prints what it has found, and exits with 1 when that
is not what it should be.
"""
