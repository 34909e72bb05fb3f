"""UDP: echo and discard that can't be abused. ``policy.py`` decides which datagrams are answered;
``service.py`` answers them."""
