"""Import and export of adapters of AdapterHub's `adapters` library, one module per kind of adapter.

A module defines:

- `METHODS`: the methods of this package that it can export;
- `matches(config)`: whether a configuration is of its kind;
- `SETTINGS`: the relevant keys of the configuration, with their defaults;
- `read(file)`: converts AdapterHub's tensors to pieces, each with a method and its options, a site, and the
  method's tensors at the site;
- `write(adapter)`: the reverse. It puts AdapterHub's tensors into the adapter and returns the settings;
- `held_at(module)`: the prefix of the tensor names for a module.

`tests/reference/make_adapter_hub.py` documents what the library computes, and the names and shapes of its
tensors. Its matrices are (out, in), as in PyTorch; those of this package are (in, out).

Modules whose names begin with `_` hold shared code: `_folder.py` reads the files, `_places.py` handles the
tensor names and `_head.py` the prediction heads, `_kinds.py` finds the modules, `_read.py` imports and
`_write.py` exports. Code shared with PEFT's adapters is in `hf_peft`.
"""

from __future__ import annotations

from keras_peft.interop.adapter_hub._folder import recognises
from keras_peft.interop.adapter_hub._kinds import kinds
from keras_peft.interop.adapter_hub._read import import_adapter_hub
from keras_peft.interop.adapter_hub._write import export_adapter_hub

__all__ = ["export_adapter_hub", "import_adapter_hub", "kinds", "recognises"]

FORMAT = "adapter-hub"
LOOKS_LIKE = "a folder with adapter_config.json and adapter.safetensors, saved by AdapterHub's library"
import_, export = import_adapter_hub, export_adapter_hub
