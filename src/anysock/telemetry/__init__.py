"""What happens in a server, and how it is reported.

- `events`: the events, and counters of them;
- `logs`: a log line for each;
- `metrics`: the figures that a monitoring system asks for.
"""
