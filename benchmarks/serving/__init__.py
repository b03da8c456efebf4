"""Throughput, latency and memory of the server, compared with servers on PyTorch.

plan.py       scenes, and the sides of each
load.py       the load generator, a small separate process
requests.py   makes requests from texts and adapters
bundles.py    the adapters that are served
servers.py    a server process: start, request, memory, stop
scenes.py     runs each measurement
results.py    stores the results after each measurement
tables.py     formats the results as Markdown
soak.py       ten minutes of mixed load
"""
