"""Serving: many bundles on one frozen base, their rows in one batch.

settings.py        what a server can be told
engines/           what rows run on: rows of any adapters to what their heads give, one runtime in each file
loaded_adapter.py  an adapter that is ready to answer, and a row for it to read
repository.py      the folder with the bundles: names, never paths
loading.py         a bundle that is made ready to answer
adapters.py        which of them are loaded: load, reload, unload
batcher.py         one queue: what waits, and for whom
fair_queue.py      which rows run together, and in what order
workers.py         the threads that run them
reading.py         what a request sends, as texts and tokens
service.py         texts to predictions, for whatever protocol
failures.py        what can go wrong with a request
keys.py            who may ask for what
http/              all of it over HTTP, as one process; only there is HTTP known
"""
