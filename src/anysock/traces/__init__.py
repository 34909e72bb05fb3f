"""Traces: what a loop, a server or a simulated history has done, as lines of JSON.

- `format`: the kinds of lines and their fields; `read` checks a file;
- `writer`: writes a file, up to its limit;
- `steps`, `connections`: what our loop, and what a server, tells of itself;
- `tracing`: `anysock.trace`, and what ``anysock serve --trace`` does;
- `convert`: a trace as events for Perfetto and Chrome;
- `page`: a trace in a page that shows it, step by step.
"""
