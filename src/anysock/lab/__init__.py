"""The lab: what is said about I/O models, each claim an experiment with a measured verdict."""
