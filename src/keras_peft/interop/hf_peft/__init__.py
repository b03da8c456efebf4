"""Import and export of Hugging Face PEFT adapters, one module per method.

A module defines:

- `TYPE`: PEFT's name of the method, its `peft_type`;
- `BESIDE`: types of other methods that can be in the same folder;
- `TAKES_FUSED = True`, if the method can act on a part of a PEFT module that corresponds to several layers;
- `SETTINGS`: the relevant keys of `adapter_config.json`, with their defaults;
- `read(file)`: converts PEFT's tensors to pieces, each with a method and its options, a site, and the
  method's tensors at the site;
- `write(adapter)`: the reverse. It puts PEFT's tensors into the adapter and returns the settings.

`tests/reference/make_peft.py` documents what PEFT computes, and the names and shapes of its tensors. PEFT's
matrices are (out, in), as in PyTorch; those of this package are (in, out).

Modules whose names begin with `_` hold shared code: `_settings.py` reads the configuration, `_names.py`
handles module names, `_pieces.py` tensors, `_fused.py` modules that correspond to several layers, `_head.py`
the classification head, `_base.py` the base model and `_folder.py` the files. `_kinds.py` finds the modules,
`_read.py` and `_write.py` import and export bundles, and `_model.py` loads and saves adapters without one.
"""

from __future__ import annotations

from keras_peft.interop.hf_peft._folder import recognises
from keras_peft.interop.hf_peft._kinds import kinds
from keras_peft.interop.hf_peft._model import load_hf_peft, save_hf_peft
from keras_peft.interop.hf_peft._read import import_hf_peft
from keras_peft.interop.hf_peft._write import export_hf_peft

__all__ = ["export_hf_peft", "import_hf_peft", "kinds", "load_hf_peft", "recognises", "save_hf_peft"]

FORMAT = "hf-peft"
LOOKS_LIKE = "a folder with adapter_config.json and adapter_model.safetensors, saved by PEFT"
import_, export = import_hf_peft, export_hf_peft
