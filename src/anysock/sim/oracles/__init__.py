"""Oracles: what must hold of every history, whoever tells it.

A server tells of itself to a `Ledger`, each client writes down what it did and saw in a `Witness`,
and what was done to the network and to hosts is a list of `Disturbance`. Together they are a
`History`, which the oracles judge when it is over. None of them looks into the server.
"""
