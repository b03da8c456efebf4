"""Hugging Face checkpoints in a folder: config.json, safetensors and tokenizer files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from keras_peft.errors import BaseCorrupt, BaseError, BaseNotFound, TokenizerError, listed, reason_of
from keras_peft.files import sha256_of
from keras_peft.json_files import JsonError, read_object

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.sources._base import Base

# The index of the largest checkpoints has some megabytes.
_MOST_BYTES = 64 << 20
T = TypeVar("T")


def load(folder: Path, *, name: str, source: str, sha256: str | None = None) -> Base:
    """Loads a base model from a checkpoint folder.

    Args:
        folder: Folder of the checkpoint.
        name: Name of the base model in bundles.
        source: Human-readable description of its origin.
        sha256: SHA-256 that identifies the weights; computed from the weight files by default.

    Returns:
        The base model with its encoder and tokenizer.

    Raises:
        BaseNotFound: If a file is missing.
        BaseCorrupt: If a file is damaged or inconsistent with the others.
        BaseError: If the architecture is not supported.
    """
    from keras_peft import bases
    from keras_peft.sources._base import Base
    from keras_peft.sources._head import find_head
    from keras_peft.sources._masked_head import find_masked_head
    from keras_peft.sources._pooling import declared_pooling

    config, readable = read_config(folder)
    tensors, identity = (read_tensors(folder), sha256) if sha256 else identified(folder)
    try:
        encoder = readable.from_checkpoint(config, tensors)
        max_length = readable.max_length(config)
    except KeyError as error:
        raise BaseCorrupt(f"{folder / 'config.json'} has no {error}; download the base again.") from None
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise BaseCorrupt(
            f"{folder / 'config.json'} does not describe a model ({reason_of(error)}); download the base again."
        ) from None
    head, _ = find_head(config, tensors, readable.CHECKPOINT, int(encoder.output_shape[-1]))
    return Base(
        name=name,
        architecture=bases.name_of(encoder),
        sha256=identity,
        encoder=encoder,
        tokenizer=_read_tokenizer(folder, config),
        max_length=max_length,
        source=source,
        head=head,
        masked_head=find_masked_head(config, tensors),
        activation=readable.CHECKPOINT.text_head.activation,
        pooling=declared_pooling(folder),
    )


def load_tokenizer(folder: Path) -> tuple[str, int]:
    """Reads the tokenizer of a checkpoint folder.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        The content of a tokenizer.json, and the model's maximum tokens per text.

    Raises:
        BaseNotFound: If a file is missing.
        BaseCorrupt: If a file is damaged.
        BaseError: If the architecture is not supported.
    """
    config, readable = read_config(folder)
    try:
        max_length = readable.max_length(config)
    except (KeyError, TypeError, ValueError):
        raise BaseCorrupt(
            f"{folder / 'config.json'} has no integer max_position_embeddings; download the base again."
        ) from None
    return _read_tokenizer(folder, config), max_length


def read_weights(folder: Path, *, name: str, sha256: str | None = None) -> EncoderWeights:
    """Reads the weights of a checkpoint folder.

    Args:
        folder: Folder of the checkpoint.
        name: Name of the base model in bundles.
        sha256: SHA-256 that identifies the weights; computed from the weight files by default.

    Raises:
        BaseNotFound: If a file is missing.
        BaseCorrupt: If a file is damaged.
        BaseError: If the architecture is not supported.
    """
    from keras_peft.bases import distilbert
    from keras_peft.bases._weights import EncoderWeights

    config, kind = read_config(folder)
    tensors, identity = (read_tensors(folder), sha256) if sha256 else identified(folder)
    try:
        own, converted = kind.to_distilbert(config, tensors)
        distilbert.refuse_unsupported(own)
    except KeyError as error:
        raise BaseCorrupt(f"{folder / 'config.json'} has no {error}; download the base again.") from None
    except (ValueError, TypeError) as error:
        raise BaseCorrupt(
            f"{folder / 'config.json'} does not fit the weights ({reason_of(error)}); download the base again."
        ) from None
    return EncoderWeights(
        name=name,
        architecture=distilbert.__name__.rpartition(".")[2],
        sha256=identity,
        config=own,
        epsilon=float(config.get("layer_norm_eps", distilbert.EPSILON)),
        tensors=converted,
        read_tokenizer=lambda: _read_tokenizer(folder, config),
    )


def read_config(folder: Path) -> tuple[dict[str, Any], ModuleType]:
    """Reads the configuration of a checkpoint folder.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        The content of its config.json, and its architecture module.

    Raises:
        BaseNotFound: If there is no config.json.
        BaseCorrupt: If it is damaged.
        BaseError: If the architecture is not supported.
    """
    from keras_peft import bases
    from keras_peft.schemas import problems_with
    from keras_peft.sources._config_schema import SCHEMAS

    config = _read_json(folder / "config.json")
    kind = config.get("model_type")
    known = {name: one for name, one in bases.checkpoints().items() if hasattr(one, "from_checkpoint")}
    if not isinstance(kind, str) or kind not in known:
        raise BaseError(
            f"{folder} contains a checkpoint of type {kind!r}; the supported types are: {', '.join(known)}."
        )
    if problems := problems_with(config, SCHEMAS[kind], "config.json"):
        raise BaseCorrupt(f"{folder} does not describe a model: {listed(problems)}. Download the base again.")
    return config, known[kind]


class _Tensors(Mapping[str, "np.ndarray"]):
    """The tensors of safetensors files, read on access.

    A base model and its whole checkpoint are thus never in memory together. The file is opened for each
    tensor, because the pages of an open file count towards the memory of the process.

    Args:
        files: The safetensors files.

    Raises:
        BaseCorrupt: If a file is damaged.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        import safetensors

        self._files: dict[str, Path] = {}
        for file in files:
            try:
                with safetensors.safe_open(file, "numpy") as opened:
                    self._files |= dict.fromkeys(opened.keys(), file)
            except safetensors.SafetensorError as error:
                raise BaseCorrupt(f"{file} is damaged ({error}); download it again.") from None

    def __getitem__(self, name: str) -> np.ndarray:
        import safetensors

        try:
            with safetensors.safe_open(self._files[name], "numpy") as opened:
                return opened.get_tensor(name)  # type: ignore[no-any-return]
        except (safetensors.SafetensorError, ValueError) as error:  # NumPy has at most 64 dimensions
            raise BaseCorrupt(
                f"{self._files[name]} has an unreadable tensor {name} ({error}); download it again."
            ) from None

    def __contains__(self, name: object) -> bool:
        # The inherited method would read the tensor.
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def read_tensors(folder: Path) -> Mapping[str, np.ndarray]:
    """Returns the tensors of a checkpoint folder by Hugging Face's names, read on access.

    Args:
        folder: Folder of the checkpoint.

    Raises:
        BaseNotFound: If a file is missing.
        BaseCorrupt: If a file is damaged.
    """
    return _Tensors(folder / file for file in _weight_files(folder))


def identified(folder: Path) -> tuple[Mapping[str, np.ndarray], str]:
    """Returns the tensors of a checkpoint folder as `read_tensors` does, and a SHA-256 that identifies them.

    It is the SHA-256 of model.safetensors or, for a sharded checkpoint, of its shards' concatenated SHA-256s.
    """
    files = _weight_files(folder)
    sums = [sha256_of(folder / file) for file in files]
    identity = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    return _Tensors(folder / file for file in files), identity


def _weight_files(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.is_file():
        files = sorted(set(_read_json(index).get("weight_map", {}).values()))
        if outside := [file for file in files if Path(file).name != file]:
            raise BaseCorrupt(
                f"{index} lists {listed(outside)}, which are not in its folder; download the base again."
            )
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        hint = "download it again"
        if list(folder.glob("*.bin")) or list(folder.glob("*.h5")):
            hint = "its other weight files are not read, because a pickle can run code; convert it to safetensors"
        raise BaseNotFound(f"The folder {folder} has no {listed(missing)}; {hint}.")
    return files


def _read_tokenizer(folder: Path, config: Mapping[str, Any]) -> str:
    """Returns the content of a tokenizer.json, which may be used with the base.

    Raises:
        BaseNotFound: If the folder has no tokenizer files.
        BaseCorrupt: If they have content that is not allowed, or more tokens than the base.
    """
    from keras_peft.inputs.tokenizer import make

    content = _tokenizer_content(folder)
    vocabulary = config.get("vocab_size")
    try:
        make(content)[1].refuse_foreign_ids(vocabulary if isinstance(vocabulary, int) else None)
    except TokenizerError as error:
        raise BaseCorrupt(f"The tokenizer of {folder} cannot be used. {error}") from None
    return content


def _tokenizer_content(folder: Path) -> str:
    from tokenizers import BertWordPieceTokenizer

    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BaseCorrupt(f"{path} is not UTF-8 ({error.reason}); download the base again.") from None
    settings = folder / "tokenizer_config.json"
    said = _read_json(settings) if settings.is_file() else {}
    pieces, pairs, merges = (folder / name for name in ("vocab.txt", "vocab.json", "merges.txt"))
    if pieces.is_file():
        lowercase = bool(said.get("do_lower_case", True))
        made = _converted(lambda: BertWordPieceTokenizer(str(pieces), lowercase=lowercase), pieces)
        return str(made.to_str())
    if pairs.is_file() and merges.is_file():
        return _byte_pairs(pairs, merges, add_prefix_space=bool(said.get("add_prefix_space", False)))
    raise BaseNotFound(
        f"The folder {folder} has no tokenizer.json, no vocab.txt and no vocab.json with merges.txt; add the "
        "tokenizer files of this base."
    )


def _byte_pairs(vocabulary: Path, merges: Path, *, add_prefix_space: bool) -> str:
    """Builds a RoBERTa tokenizer from vocab.json and merges.txt."""
    from tokenizers import AddedToken, ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    made = _converted(
        lambda: ByteLevelBPETokenizer(str(vocabulary), str(merges), add_prefix_space=add_prefix_space),
        vocabulary,
        merges,
    )
    first, last = (made.token_to_id(token) for token in ("<s>", "</s>"))
    if first is None or last is None:
        raise BaseCorrupt(f"{vocabulary} has no <s> and </s>, which RoBERTa needs; add a tokenizer.json.")
    # The mask token also covers the space before the word.
    made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    made._tokenizer.post_processor = RobertaProcessing(
        ("</s>", last), ("<s>", first), add_prefix_space=add_prefix_space
    )
    return str(made.to_str())


def _converted(convert: Callable[[], T], *files: Path) -> T:
    """Makes a tokenizer from old tokenizer files.

    Raises:
        BaseCorrupt: If they are not those of a tokenizer.
    """
    from keras_peft.inputs.tokenizer import guarded

    try:
        return guarded(convert)
    except TokenizerError:
        raise BaseCorrupt(
            f"{' and '.join(map(str, files))} are not a tokenizer; download the base again."
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BaseNotFound(f"The folder {path.parent} has no {path.name}.")
    try:
        return read_object(path, most_bytes=_MOST_BYTES)
    except JsonError as error:
        raise BaseCorrupt(f"{path} is damaged: it {error}; download the base again.") from None
