"""The protocols: one module per protocol, each with a `router`.

tei.py             /predict, /tokenize, /info     Text Embeddings Inference
hugging_face.py    /adapters/{name}, /            huggingface_hub.InferenceClient
openai.py          /v1/classify, /v1/models       OpenAI's conventions, as in vLLM
tensorflow.py      /v1/models/{name}:predict, …   TensorFlow Serving, Vertex AI, MLflow
kserve.py          /v2/…                          the Open Inference Protocol of KServe and Triton
triton.py          /v2/models/{name}/config, …    model configuration and statistics, as in Triton
explanation.py     /v1/explain                    explanations of predictions
repository.py      /v2/repository/…               loading and unloading, as in Triton
vllm.py            /v1/load_lora_adapter          loading and unloading, as in vLLM
adapters.py        /v1/adapters                   status and metadata of the adapters
probes.py          /livez, /readyz                health checks for load balancers
metrics.py         /metrics                       Prometheus metrics
document.py        /openapi.json, /docs           API documentation
page.py            /                              the web page
"""
