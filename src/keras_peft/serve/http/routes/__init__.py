"""The protocols: one file, one protocol, each with a `router`.

tei.py             /predict, /tokenize, /info     Text Embeddings Inference
hugging_face.py    /adapters/{name}, /            huggingface_hub.InferenceClient
openai.py          /v1/classify, /v1/models       OpenAI's grammar, as vLLM uses it
tensorflow.py      /v1/models/{name}:predict      TensorFlow Serving, Vertex AI, MLflow
kserve.py          /v2/…                          the Open Inference Protocol of KServe and Triton
repository.py      /v2/repository/…               what is loaded, and how that changes
vllm.py            /v1/load_lora_adapter          the same, for vLLM's tools
adapters.py        /v1/adapters                   all that is known of each adapter
probes.py          /livez, /readyz                for balancers
metrics.py         /metrics                       for Prometheus
document.py        /openapi.json, /docs           all of these, described
"""
