"""UDP: echo and discard that can't be abused. ``policy.py`` says whom to answer, and why others are
not; ``service.py`` answers."""
