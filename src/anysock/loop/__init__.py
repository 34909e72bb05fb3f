"""Anysock's own event loop, behind the `selector` and the `polling` engine.

Read in this order: `kernel.Kernel.iterate` (the loop), `tasks` (what it runs), `waits` (what a
task pauses on), `timers`, `scopes`, `pollers`; then `observers` and `watchdog`, which look on.
The loop knows descriptors, not sockets: those are the engines' business.
"""
