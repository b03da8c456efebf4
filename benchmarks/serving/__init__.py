"""Throughput, latency and memory of the server, beside what users of PyTorch would serve with.

plan.py       what is measured, and against what
load.py       the load generator, a lean process of its own
requests.py   texts and adapters to requests
bundles.py    the adapters that are served
servers.py    a server as a process: started, asked, weighed, stopped
scenes.py     each measurement
results.py    what was measured, kept after each
tables.py     the same as Markdown
soak.py       ten minutes of mixed load
"""
