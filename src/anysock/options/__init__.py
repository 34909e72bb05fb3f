"""The options of a server: declared once, for the command line, the environment and the library.

- `serve`: `ServeOptions`, the declarations;
- `values`: how each kind of value is read; `units`: how durations, sizes and rates are;
- `checks`: which options contradict each other;
- `keywords`: the same as keywords of `anysock.serve`;
- `texts`: flags, environment variables and the reference, made from the declarations.
"""
