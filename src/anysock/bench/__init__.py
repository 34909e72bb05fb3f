"""Measuring: the load generator, its histograms, the comparison of servers, the reports."""
