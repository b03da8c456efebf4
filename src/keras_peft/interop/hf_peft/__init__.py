"""Adapters of Hugging Face PEFT, out and in: one file, one method.

A file here has

- `TYPE`: what PEFT calls the method, its `peft_type`;
- `BESIDE`: the types of other methods that it can hold in the same folder;
- `TAKES_FUSED = True`, where it can act on a part of a module there that is several layers here;
- `SETTINGS`: which keys of `adapter_config.json` matter, with their defaults;
- `read(file)`: from PEFT's tensors to pieces, each a method with its options, a site, and the tensors
  that the method holds there;
- `write(adapter)`: the way back. It puts PEFT's tensors into the adapter and returns the settings.

What PEFT computes and how it names and shapes its tensors is written down in
`tests/reference/make_peft.py`. Its matrices are (out, in), as PyTorch's; those here are (in, out).

Files whose names begin with `_` hold what all have in common: `_settings.py` reads the configuration,
`_names.py` the modules' names, `_pieces.py` the tensors, `_fused.py` modules that are several layers here, `_head.py`
the classifier on top, `_base.py` the base and `_folder.py` the files; `_kinds.py` finds the methods; `_read.py` and
`_write.py` are the two ways through them for bundles, and `_model.py` those for models without one.
"""

from __future__ import annotations

from keras_peft.interop.hf_peft._folder import recognises
from keras_peft.interop.hf_peft._kinds import kinds
from keras_peft.interop.hf_peft._model import load_hf_peft, save_hf_peft
from keras_peft.interop.hf_peft._read import import_hf_peft
from keras_peft.interop.hf_peft._write import export_hf_peft

__all__ = ["export_hf_peft", "import_hf_peft", "kinds", "load_hf_peft", "recognises", "save_hf_peft"]

FORMAT = "hf-peft"
LOOKS_LIKE = "a folder with adapter_config.json and adapter_model.safetensors, which PEFT saves"
import_, export = import_hf_peft, export_hf_peft
