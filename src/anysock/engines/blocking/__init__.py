"""The engines `blocking` and `threads`: every operation sleeps in its system call.

- `engine`: the engine `blocking`;
- `streams`: connected sockets, and UDP sockets, of both;
- `threads`: the engine `threads`: the same, with a thread for each task;
- `tasks`: a coroutine that never suspends, as a task;
- `listener`: several listening sockets, waited for at once;
- `signals`: how a signal reaches threads that sleep.
"""
