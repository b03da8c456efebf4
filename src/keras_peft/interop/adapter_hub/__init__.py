"""Adapters of AdapterHub's library `adapters`, out and in: one file, one way to adapt.

A file here has

- `METHODS`: the methods here that it is written from;
- `matches(config)`: whether a configuration is of its kind;
- `SETTINGS`: which keys of the configuration matter, with their defaults;
- `read(file)`: from AdapterHub's tensors to pieces, each a method with its options, a site, and the tensors
  that the method holds there;
- `write(adapter)`: the way back. It puts AdapterHub's tensors into the adapter and returns the settings.

What the library computes and how it names and shapes its tensors is written down in
`tests/reference/make_adapter_hub.py`. Its matrices are (out, in), as PyTorch's; those here are (in, out).

Files whose names begin with `_` hold what all have in common: `_folder.py` reads and names the files, `_places.py`
the places of the tensors, `_head.py` the prediction heads; `_kinds.py` finds the ways to adapt; `_read.py` and
`_write.py` are the two ways through them. What is alike for PEFT's adapters is taken from there.
"""

from __future__ import annotations

from keras_peft.interop.adapter_hub._folder import recognises
from keras_peft.interop.adapter_hub._kinds import kinds
from keras_peft.interop.adapter_hub._read import import_adapter_hub
from keras_peft.interop.adapter_hub._write import export_adapter_hub

__all__ = ["export_adapter_hub", "import_adapter_hub", "kinds", "recognises"]

FORMAT = "adapter-hub"
LOOKS_LIKE = "a folder with adapter_config.json and adapter.safetensors, which AdapterHub's library saves"
import_, export = import_adapter_hub, export_adapter_hub
