"""Serving: many bundles on one frozen base, their rows in one batch.

    settings.py     what a server can be told
    engines/        the base: rows of any adapters to what their heads give, by one runtime in each file
    batcher.py      one queue: which rows run together, and when
    loading.py      a bundle that is made ready to answer
    repository.py   the folder with the bundles: names, never paths
    adapters.py     which of them are loaded: load, reload, unload
    service.py      texts to predictions, for whatever protocol
    failures.py     what can go wrong with a request, and how it is told
    app.py          the HTTP application; routes/ has a protocol in each file
    process.py      all of these as one process, from its start to its end

Only here is HTTP known.
"""
