"""The load generator: what runs in its worker processes.

- `plan`: what a load is;
- `worker`: a worker process: when it starts and ends, its schedule, what it reports;
- `models/`: what the connections of a load do: one file for each kind of load;
- `connector`: opens connections;
- `conversation`, `stream_conversation`, `datagram_conversation`: one connection: sends, receives,
  and checks what comes back;
- `tally`, `latencies`, `faults`: what was measured, and what went wrong;
- `engine`: the loop that all of this runs on.

`anysock.bench.load` starts the workers, and puts together what they report.
"""
