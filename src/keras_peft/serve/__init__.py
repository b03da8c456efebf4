"""Multi-adapter serving: many bundles on one frozen base model, batched together.

settings.py        settings of a server
engines/           run rows of any adapters and return head outputs, one runtime per file
loaded_adapter.py  an adapter that is loaded, and its input rows
repository.py      folders of bundles, addressed by name
base_name.py       the base model that all bundles share
loading.py         loads and checks a bundle
adapters.py        lifecycle of the adapters: load, reload, unload
batcher.py         the request queue and its limits
fair_queue.py      order of the rows, and which of them run together
workers.py         threads that run the batches
reading.py         validation and tokenization of request texts
service.py         protocol-independent prediction API
failures.py        errors of a request
events.py          events in the life of a server, as log records
rate_limits.py     requests per minute of each key
keys.py            API keys and their permissions
http/              the HTTP server; the only part that knows about HTTP
replicas.py        the other servers that answer at the same address
on_ray/            replicas of the server on a Ray cluster
"""
