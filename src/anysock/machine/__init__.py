"""What the process and its machine give, besides the network: standard descriptors, memory, threads
for what must not hold up a loop. With the engines, the only place with doors to the real machine.

- `process`: what a program does before anything else: descriptors 0 to 2, SIGTERM;
- `memory`: how much there is, and how much of it is used;
- `line_writer`: lines, written on a thread of their own;
- `last_deadline`: the end of a process that does not come to its own.
"""
