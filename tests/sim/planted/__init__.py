"""Faults that are planted in the product, to prove that the explorer finds them.

- `planting`: a fault is a few texts of the source and what stands there instead, put in while the
  modules are imported;
- `handlers`: faults that are handlers of their own;
- `catalogue`: all of them, by name;
- `search`, `power`: how many histories the explorer needs to find each.
"""
