"""The `trio` engine: trio's loop, through ``trio.lowlevel.wait_readable``.

An operation is tried; when it would block, the task waits until trio says that it is worth
another try. Trio's rules are kept inside: every task lives in one nursery, and what it raises
stays its own. Only one of them is bent: a cancelled trio scope cancels every further await
within it, while a task of ours gets its cancellation once, and may then clean up with awaits.

- `engine`: the engine;
- `streams`: connected sockets, and UDP sockets, under it;
- `tasks`: trio's tasks, scopes and events, in the words of the contract.
"""
