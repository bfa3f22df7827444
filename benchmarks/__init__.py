"""Measures Aldis beside mosquitto and a cluster of aedes: `python -m benchmarks`.

Nothing here imports the project. Servers are started as processes and spoken to over sockets, so that the numbers
are those of what is shipped. `docs/benchmarks.md` says what each scenario measures and what it does not.
"""
