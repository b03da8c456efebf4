"""Training on one GPU: this package on the JAX backend, and HF PEFT on PyTorch.

plan.py → sides.py (ours.py in a process of its own, and peers/hf_peft.py) → tables.py; __main__.py runs them.
"""
