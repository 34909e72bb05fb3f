"""What a handler calls besides its connection: tasks, deadlines, events, queues, connections out.

- `runtime`: `run`, `spawn`, `sleep`, `timeout`, `to_thread`, under every engine;
- `connecting`: `connect`;
- `groups`: task groups;
- `queues`: `Event` and `Queue`;
- `outbox`, `broadcast`: one message to many clients;
- `relay`: two connections joined into one;
- `locks`: `Lock`, `Semaphore` and `Condition`;
- `happy_eyeballs`: which of the addresses of a name to connect to (RFC 8305);
- `arguments`: checks of what callers give.
"""
