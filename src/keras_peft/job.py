"""The whole job in one call: a file of labelled text in, a verified bundle out."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft import methods
from keras_peft.core.method import Method
from keras_peft.core.selection import Selection
from keras_peft.data import (
    Examples,
    check_known_labels,
    check_trainable,
    read_examples,
    split,
)
from keras_peft.errors import OptionError, did_you_mean
from keras_peft.memory import peak_rss_mb
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keras_peft.batches import Rows

DEFAULT_METHOD = "lora"
DEFAULT_VALIDATION = 0.1
DEFAULT_BATCH_SIZE = 16
DEFAULT_LABEL_SMOOTHING = 0.1
DEFAULT_MAX_LENGTH = 128
PRECISIONS = ("auto", "float32", "bfloat16")
# How many validation texts a written bundle is verified with.
_VERIFIED_TEXTS = 64


@dataclass(frozen=True)
class Result:
    """What `fine_tune` made.

    Attributes:
        bundle: The folder of the bundle.
        report: The content of its report.json, with the final times.
    """

    bundle: Path
    report: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns the report with the main figures on top."""
        validation, plan = self.report["validation"], self.report["plan"]
        return {
            "bundle": str(self.bundle),
            "accuracy": validation["accuracy"],
            "macro_f1": validation["macro_f1"],
            "trainable_parameters": plan["trainable_parameters"],
            "total_parameters": plan["total_parameters"],
            "trunk_blocks": plan["trunk_blocks"],
            "epochs": self.report["settings"]["epochs"],
            "seconds": self.report["seconds"],
            "peak_rss_mb": self.report["peak_rss_mb"],
            **{key: value for key, value in self.report.items() if key not in ("seconds", "peak_rss_mb")},
        }


def fine_tune(
    data: str | Path,
    *,
    out: str | Path,
    base: str = "minilm",
    method: Method | Sequence[Method] | None = None,
    layers: str | Iterable[int] | None = None,
    targets: str | Iterable[str] | None = None,
    validation: float | str | Path = DEFAULT_VALIDATION,
    epochs: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    learning_rate: float | None = None,
    label_smoothing: float = DEFAULT_LABEL_SMOOTHING,
    max_length: int | None = None,
    seed: int = 0,
    text_column: str = "text",
    label_column: str = "label",
    skip_bad_rows: bool = False,
    trunk_cache: bool = True,
    frozen_precision: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> Result:
    """Fine-tunes a classifier and writes it as a verified bundle.

    Args:
        data: A file or folder of labelled text, of any format that `read_rows` reads.
        out: Folder of the bundle to write.
        base: `minilm`, a folder, `hf://owner/name` or a KerasHub preset.
        method: The method; `LoRA()` by default. Several make one adapter together.
        layers: The blocks to train in: `"last:2"`, `"all"`, `[-1, -2]`; each method's own
            by default.
        targets: Roles or regular expressions on paths; the method's own by default.
        validation: Share of the rows to validate on, or a file with such rows.
        epochs: Times to see all rows; by default as many as make about 600 steps.
        batch_size: Rows in a step.
        learning_rate: The highest in the schedule; the method's own by default. The
            head's goes along in proportion.
        label_smoothing: Share of each target that is spread over all labels, so that the
            classifier is not driven to be surer than the data can make it.
        max_length: Most tokens of a text; 128 by default, or the base's limit.
        seed: The same seed on the same machine gives the same result.
        text_column: Name of the column with the texts.
        label_column: Name of the column with the labels.
        skip_bad_rows: Leave out rows that cannot be used instead of raising.
        trunk_cache: Compute the frozen blocks below the adapter once for each text, keep
            that in half precision, and train above it. Without it they are computed in
            every step, in full precision.
        frozen_precision: What the frozen matrices multiply in while training: `"float32"`,
            `"bfloat16"`, or `"auto"`, which is bfloat16 on processors made for it.
        overwrite: Replace a bundle that lies at `out`.
        progress: Told of what happens.
        stopwatch: Measures the stages; one begins here by default.

    Returns:
        Where the bundle lies, and the report.

    Raises:
        KerasPeftError: If anything that was given cannot be used. Nothing is
            written then, and a bundle that lay at `out` is as it was.

    Example:
        >>> result = keras_peft.fine_tune("conversations.jsonl", out="my-bundle")
        >>> result.report["validation"]["accuracy"]
    """
    progress = progress or Progress()
    stopwatch = stopwatch or Stopwatch()
    out = Path(out)
    method = method or methods.find(DEFAULT_METHOD)()
    chosen = [method] if isinstance(method, Method) else list(method)
    _check_positive(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, max_length=max_length)
    if not 0 <= seed < 2**32:
        raise OptionError(f"--seed {seed}: expected a whole number from 0 to {2**32 - 1}.")
    if not 0 <= label_smoothing < 1:
        raise OptionError(f"--label-smoothing {label_smoothing}: expected a share from 0 to below 1.")
    if frozen_precision not in PRECISIONS:
        raise OptionError(
            f"--frozen-precision {frozen_precision}: expected one of {', '.join(PRECISIONS)}."
            f"{did_you_mean(frozen_precision, PRECISIONS)}"
        )
    Selection.of(targets or ".", layers or "all")  # What is not understood is told at once.
    bundles.refuse_existing(out, overwrite=overwrite)
    progress.stage(f"Reading {data}")
    columns = {"text_column": text_column, "label_column": label_column, "skip_bad_rows": skip_bad_rows}
    training, held_out = _read(Path(data), validation, seed, **columns)
    notes = list(dict.fromkeys([*training.notes, *held_out.notes]))

    progress.stage("Importing Keras")
    with stopwatch.measure("import"), progress.importing():
        import keras
        import keras_hub  # noqa: F401  (its import is what is measured)

        from keras_peft import attach, bases, sources, tasks
        from keras_peft.core.adapter import choose_parts
        from keras_peft.core.precision import pays as bfloat16_pays
        from keras_peft.core.sites import find_sites
        from keras_peft.evaluate import compute_logits
        from keras_peft.features import compute_features
        from keras_peft.inference import Inference
        from keras_peft.tokens import Tokenizer
        from keras_peft.train import default_epochs, default_rates, train

    progress.stage(f"Loading the base {base}")
    with stopwatch.measure("load"):
        keras.utils.set_random_seed(seed)
        loaded = sources.load(base)
        if max_length is not None and max_length > loaded.max_length:
            raise OptionError(
                f"--max-length {max_length} is more than the {loaded.max_length} tokens that {base} reads."
            )
        extra = sum(one.extra_positions for one in chosen)
        if (max_length or 0) + extra > loaded.max_length:
            raise OptionError(
                f"--max-length {max_length} and {extra} positions of the method are more than the {loaded.max_length} "
                f"tokens that {base} reads; lower one of them."
            )
        max_length = max_length or min(DEFAULT_MAX_LENGTH, loaded.max_length - extra)
        if max_length < 1:
            raise OptionError(
                f"The method takes all {loaded.max_length} positions that {base} has; use fewer."
            )
        tokenizer = Tokenizer(loaded.tokenizer, max_length)
        task = tasks.find("single-label").from_labels(training.labels)
        sites = find_sites(loaded.encoder, bases.roles_of(loaded.encoder))
        attached = [
            part
            for one in chosen
            for part in choose_parts(sites, one.reads(tokenizer.ids), layers or one.default_layers, targets)
        ]
        model = attach.adapt(
            loaded.encoder,
            attached,
            head=task.head(loaded.dim),
            first_position_only=task.first_position_only,
        )
        tokens, held_out_tokens = tokenizer(training.texts), tokenizer(held_out.texts)
    if truncated := tokens.truncated + held_out_tokens.truncated:
        rows = len(tokens) + len(held_out_tokens)
        notes.append(f"{truncated} of {rows} texts were cut to {max_length} tokens")
    for note in notes:
        progress.note(note)
    epochs = epochs or default_epochs(type(chosen[0]), len(training), batch_size)
    rates = default_rates(model, learning_rate)
    (adapter,) = model.adapters.values()
    precision = frozen_precision
    if precision == "auto":
        precision = "bfloat16" if bfloat16_pays() else "float32"
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate or chosen[0].learning_rate,
        "head_learning_rate": rates["head/"],
        "label_smoothing": label_smoothing,
        "max_length": max_length,
        "frozen_precision": precision,
        "seed": seed,
    }
    described = {"training_rows": len(training), "validation_rows": len(held_out), **settings}
    progress.planned(model.plan, described)

    sets: Sequence[Rows] = (tokens, held_out_tokens)
    cached = None
    with ExitStack() as stack:
        if precision == "bfloat16":
            stack.enter_context(model.lowered())
        # Embeddings alone are read as fast as what would be kept of them.
        parts = model.split() if trunk_cache and model.plan.trunk_blocks else None
        if parts is not None:
            weights = (
                loaded.architecture,
                loaded.sha256,
                precision,
                keras.__version__,
                keras.config.backend(),
            )
            with stopwatch.measure("trunk"):
                sets, cached = compute_features(
                    loaded.encoder,
                    parts,
                    [tokens, held_out_tokens],
                    fingerprint=weights,
                    progress=progress,
                    stopwatch=stopwatch,
                )
            stack.enter_context(model.above(parts))
        with stopwatch.measure("train"):
            history, scores = train(
                model,
                task,
                training=(sets[0], task.targets(training.labels)),
                validation=(sets[1], task.targets(held_out.labels)),
                epochs=epochs,
                batch_size=batch_size,
                rates=rates,
                label_smoothing=label_smoothing,
                seed=seed,
                progress=progress,
                stopwatch=stopwatch,
            )
    progress.stage("Saving the bundle and verifying it")
    with stopwatch.measure("evaluate"):
        texts = held_out.texts[:_VERIFIED_TEXTS]
        to_verify = tokenizer(texts)
        logits = compute_logits(Inference(model, to_verify.signature), to_verify)
    report: dict[str, Any] = {
        "data": {
            "source": Path(data).name.encode(errors="replace").decode(),
            "training_rows": len(training),
            "validation_rows": len(held_out),
            "sha256": training.sha256,
        },
        "settings": settings,
        "notes": notes,
        "plan": {**asdict(model.plan), "trainable_parameters": model.plan.trainable_parameters},
        "cache": None if cached is None else asdict(cached),
        "history": [record.to_json() for record in history],
        "validation": scores.to_json(),
        "seconds": stopwatch.read(),
        "peak_rss_mb": peak_rss_mb(),
        "versions": bundles.versions(),
    }
    content = bundles.Parts(
        tensors=model.adapter_tensors(),
        attached=adapter.parts,
        base={"name": loaded.name, "architecture": loaded.architecture, "sha256": loaded.sha256},
        tokenizer=loaded.tokenizer,
        task=task,
        max_length=max_length,
        metrics={key: getattr(scores, key) for key in ("rows", "accuracy", "macro_f1", "loss")},
        data=report["data"],
        report=report,
        texts=texts,
        logits=logits,
    )
    # The bundle is verified on a fresh base, and two need not lie in memory at once.
    del model, loaded, adapter, attached, sites, parts, sets
    gc.collect()
    with stopwatch.measure("save"):
        written = bundles.write(out, content, overwrite=overwrite)
    final = {**written.report(), "seconds": stopwatch.read(), "peak_rss_mb": peak_rss_mb()}
    return Result(out, final)


def _read(path: Path, validation: float | str | Path, seed: int, **columns: Any) -> tuple[Examples, Examples]:
    training = check_trainable(read_examples(path, **columns))
    if isinstance(validation, float | int):
        return split(training, validation, seed=seed)
    held_out = read_examples(validation, **columns)
    check_known_labels(held_out, sorted(set(training.labels)))
    if shared := set(held_out.texts) & set(training.texts):
        note = f"{len(shared)} validation texts are also in the training file, which flatters the scores"
        held_out = replace(held_out, notes=(*held_out.notes, note))
    return training, held_out


def _check_positive(**values: float | None) -> None:
    wrong = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in values.items()
        if value is not None and not value > 0
    ]
    if wrong:
        raise OptionError(f"{', '.join(wrong)}: expected a number above 0.")
