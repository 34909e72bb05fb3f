"""What a handler calls besides its connection: tasks, deadlines, events, queues, connections out.

- `runtime`: `run`, `spawn`, `sleep`, `timeout`, `connect`, `to_thread`, under every engine;
- `groups`: task groups;
- `queues`: `Event` and `Queue`;
- `happy_eyeballs`: which of the addresses of a name to connect to (RFC 8305);
- `arguments`: checks of what callers give.
"""
