"""The demo: a small fleet of real processes, a bad minute of network, and an honest account of it.

`python -m sim.demo` starts a gateway with its broker and three agents, streams labelled inputs
through the device SDK, cuts the network, ships an update, tampers with another, and then lets
people who had no part in it count: the callers' own clocks, the proxy's meters, both databases.
"""
