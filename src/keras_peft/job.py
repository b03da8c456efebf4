"""The whole job in one call: a file of labelled text in, a verified bundle out."""

from __future__ import annotations

import gc
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft import methods, tasks, tracking
from keras_peft.checkpoint import Checkpoint
from keras_peft.core.method import Method
from keras_peft.core.selection import ROLES, Selection
from keras_peft.data import LONG_TEXT, Examples, check_trainable, read_examples, split
from keras_peft.errors import DataError, OptionError, did_you_mean
from keras_peft.memory import peak_rss_mb
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import keras

    from keras_peft.batches import Rows
    from keras_peft.core.adapter import Part
    from keras_peft.tasks import Task

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
        plan = self.report["plan"]
        return {
            "bundle": str(self.bundle),
            "task": self.report["task"],
            **self.report["validation"]["metrics"],
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
    task: str | None = None,
    base: str = "minilm",
    method: Method | Sequence[Method] | None = None,
    layers: str | Iterable[int] | None = None,
    targets: str | Iterable[str] | None = None,
    validation: float | str | Path = DEFAULT_VALIDATION,
    epochs: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    learning_rate: float | None = None,
    label_smoothing: float = DEFAULT_LABEL_SMOOTHING,
    class_weights: bool = False,
    gradient_accumulation: int = 1,
    patience: int | None = None,
    abstain_below: float | None = None,
    max_length: int | None = None,
    long_text: str = "cut",
    seed: int = 0,
    text_column: str | None = None,
    label_column: str | None = None,
    skip_bad_rows: bool = False,
    trunk_cache: bool = True,
    frozen_precision: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: Sequence[str] | None = None,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> Result:
    """Fine-tunes a classifier and writes it as a verified bundle.

    Args:
        data: A file or folder of labelled text, of any format that `read_rows` reads.
        out: Folder of the bundle to write.
        task: `"single-label"`, `"multi-label"`, `"pairs"`, `"regression"` or `"token-labels"`; by
            default it is read from the columns.
        base: `minilm`, a folder, `hf://owner/name` or a KerasHub preset.
        method: The method; `LoRA()` by default. Several make one adapter together.
        layers: The blocks to train in: `"last:2"`, `"all"`, `[-1, -2]`; each method's own
            by default.
        targets: Roles or regular expressions on paths; the method's own by default.
        validation: Share of the rows to validate on, or a file with such rows.
        epochs: Times to see all rows; by default as many as make about 600 steps.
        batch_size: Rows in a batch.
        learning_rate: The highest in the schedule; the method's own by default. The
            head's goes along in proportion.
        label_smoothing: Share of each target that is spread over all labels, so that the
            classifier is not driven to be surer than the data can make it.
        class_weights: Let rows of rare labels count more, so that all labels count the
            same.
        gradient_accumulation: Batches whose gradients make one step together, where a
            larger batch does not fit into memory.
        patience: Epochs without a better score on the validation rows after which to
            stop. The epoch with the best score is kept then; without it, the last.
        abstain_below: Say nothing where the classifier is not sure: the share of its answers
            on the validation rows that shall be right. It sets the least probability.
        max_length: Most tokens of a text; 128 by default, or the base's limit.
        long_text: What to do with longer texts: `"cut"`, or `"window"`, which reads them in
            windows that overlap and takes the mean of what is said of each.
        seed: The same seed on the same machine gives the same result.
        text_column: Name of the column with the texts, or two names with a comma
            between for pairs; see `read_examples`.
        label_column: Name of the column with the labels; see `read_examples`.
        skip_bad_rows: Leave out rows that cannot be used instead of raising.
        trunk_cache: Compute the frozen blocks below the adapter once for each text, keep
            that in half precision, and train above it. Without it they are computed in
            every step, in full precision.
        frozen_precision: What the frozen matrices multiply in while training: `"float32"`,
            `"bfloat16"`, or `"auto"`, which is bfloat16 on processors made for it.
        overwrite: Replace a bundle that lies at `out`.
        resume: Go on with a training that was interrupted, from the end of its last epoch.
            It ends with the same weights as one that was not, bit for bit on one
            machine. Where nothing was begun, begin.
        callbacks: Keras's own or yours, for the training. What they keep themselves is not
            there after an interruption.
        track: Where to write the training down: any of `"tensorboard"`, `"mlflow"` and
            `"wandb"`. Event files for TensorBoard go to the folder `logs` beside `out`; they
            are written by default on the TensorFlow backend.
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
    _check_positive(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        gradient_accumulation=gradient_accumulation,
        patience=patience,
    )
    kind = tasks.find(task) if task else None
    tracking.check(track or ())
    if not 0 <= seed < 2**32:
        raise OptionError(f"--seed {seed}: expected a whole number from 0 to {2**32 - 1}.")
    if not 0 <= label_smoothing < 1:
        raise OptionError(f"--label-smoothing {label_smoothing}: expected a share from 0 to below 1.")
    if abstain_below is not None and not 0 < abstain_below <= 1:
        raise OptionError(f"--abstain-below {abstain_below}: expected a share above 0, up to 1.")
    if long_text not in LONG_TEXT:
        raise OptionError(f"--long-text {long_text}: expected one of {', '.join(LONG_TEXT)}.")
    if frozen_precision not in PRECISIONS:
        raise OptionError(
            f"--frozen-precision {frozen_precision}: expected one of {', '.join(PRECISIONS)}."
            f"{did_you_mean(frozen_precision, PRECISIONS)}"
        )
    Selection.of(targets or ".", layers or "all")  # What is not understood is told at once.
    bundles.refuse_existing(out, overwrite=overwrite)
    progress.stage(f"Reading {data}")
    columns = {"text_column": text_column, "label_column": label_column, "skip_bad_rows": skip_bad_rows}
    training, held_out = _read(Path(data), validation, seed, task=kind, **columns)
    kind = training.task
    if long_text == LONG_TEXT[1] and kind.reads_words:
        raise OptionError(
            f"The task {kind.name} reads no windows; leave --long-text out, or give shorter texts."
        )
    if abstain_below is not None and not kind.abstains:
        raise OptionError(f"The task {kind.name} always answers; leave --abstain-below out.")
    notes = list(dict.fromkeys([*training.notes, *held_out.notes]))

    progress.stage("Importing Keras")
    with stopwatch.measure("import"), progress.importing():
        import keras
        import keras_hub  # noqa: F401  (its import is what is measured)

        from keras_peft import attach, bases, sources
        from keras_peft.core.adapter import choose_parts
        from keras_peft.core.precision import pays as bfloat16_pays
        from keras_peft.core.sites import find_sites
        from keras_peft.evaluate import compute_outputs
        from keras_peft.features import compute_features
        from keras_peft.inference import Inference
        from keras_peft.tokens import Tokenizer
        from keras_peft.train import Recipe, default_epochs, default_rates, train

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
        tokenizer = Tokenizer(loaded.tokenizer, max_length, windows=long_text == LONG_TEXT[1])
        meaning = kind.from_labels(training.labels)
        sites = find_sites(loaded.encoder, bases.roles_of(loaded.encoder))
        attached = [
            part
            for one in chosen
            for part in choose_parts(
                sites, one.reads(tokenizer.ids), layers or kind.default_layers or one.default_layers, targets
            )
        ]
        model = attach.adapt(
            loaded.encoder,
            attached,
            head=meaning.head(loaded.dim),
            first_position_only=meaning.first_position_only,
        )
        tokens, held_out_tokens = (
            tokenizer(one.texts, words=meaning.reads_words) for one in (training, held_out)
        )
    if truncated := tokens.truncated + held_out_tokens.truncated:
        rows = len(training) + len(held_out)
        notes.append(
            f"{truncated} of {rows} texts were cut to {max_length} tokens; --long-text window reads all"
        )
    for note in notes:
        progress.note(note)
    epochs = epochs or default_epochs(len(tokens), batch_size * gradient_accumulation)
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
        "label_smoothing": label_smoothing if meaning.smooths_labels else 0.0,
        "class_weights": class_weights,
        "gradient_accumulation": gradient_accumulation,
        "patience": patience,
        "max_length": max_length,
        "long_text": long_text,
        "frozen_precision": precision,
        "seed": seed,
    }
    described = {"training_rows": len(training), "validation_rows": len(held_out), **settings}
    progress.planned(model.plan, described)

    checkpoint = Checkpoint.beside(
        out,
        {
            "training data": training.sha256,
            "validation data": held_out.sha256,
            "task": meaning.name,
            "method": [part.to_config() for part in adapter.parts],
            "base": loaded.sha256,
            "trunk cache": trunk_cache,
            **settings,
            **bundles.versions(),
        },
    )
    state = checkpoint.read() if resume else None
    if state is not None:
        progress.note(f"Going on after epoch {state.content['epoch']} of {epochs}")
    elif checkpoint.is_there():
        progress.note(
            f"{checkpoint.folder} holds an interrupted training; it is replaced, as --resume is not set"
        )
        checkpoint.remove()
    sets: Sequence[Rows] = (tokens, held_out_tokens)
    cached = None
    if track is None:
        track = [tracking.DEFAULT] if keras.config.backend() == "tensorflow" else []
    run = tracking.Run(
        out.name, out.absolute().parent / "logs" / out.name, settings, resumed=state is not None
    )
    with ExitStack() as stack, _kept(checkpoint):
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
        with tracking.tracked(track, run) as trackers, stopwatch.measure("train"):
            truth = meaning.targets(held_out.labels)
            trained = train(
                model,
                meaning,
                training=(sets[0], meaning.targets(training.labels)),
                validation=(sets[1], truth),
                recipe=Recipe(
                    epochs=epochs,
                    batch_size=batch_size,
                    rates=rates,
                    label_smoothing=settings["label_smoothing"],
                    class_weights=class_weights,
                    gradient_accumulation=gradient_accumulation,
                    patience=patience,
                    seed=seed,
                ),
                progress=progress,
                stopwatch=stopwatch,
                callbacks=[*trackers, *callbacks],
                checkpoint=checkpoint,
                state=state,
            )
    progress.stage("Saving the bundle and verifying it")
    with stopwatch.measure("evaluate"):
        meaning = meaning.calibrated(trained.outputs, truth)
        if abstain_below is not None:
            try:
                meaning = meaning.abstaining(trained.outputs, truth, abstain_below)
            except DataError as error:
                notes.append(f"{error} So the bundle always answers.")
                progress.note(notes[-1])
        scores = meaning.score(trained.outputs, truth)
        texts = held_out.texts[:_VERIFIED_TEXTS]
        to_verify = tokenizer(texts, words=meaning.reads_words)
        outputs = compute_outputs(Inference(model, to_verify.signature), to_verify)
    report: dict[str, Any] = {
        "task": meaning.name,
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
        "history": [record.to_json() for record in trained.history],
        "best_epoch": trained.best,
        "validation": scores.to_json(),
        "worst": meaning.worst(trained.outputs, held_out),
        "doubtful": meaning.doubtful(trained.outputs, held_out),
        "seconds": stopwatch.read(),
        "peak_rss_mb": peak_rss_mb(),
        "versions": bundles.versions(),
    }
    content = bundles.Parts(
        tensors=model.adapter_tensors(),
        attached=adapter.parts,
        base={"name": loaded.name, "architecture": loaded.architecture, "sha256": loaded.sha256},
        tokenizer=loaded.tokenizer,
        task=meaning,
        columns=training.columns,
        max_length=max_length,
        long_text=long_text,
        metrics={"rows": scores.rows, "loss": scores.loss, **scores.metrics},
        data=report["data"],
        report=report,
        texts=texts,
        outputs=outputs,
        flags=_flags(
            adapter.parts,
            data=str(Path(data).absolute()),
            task=meaning.name,
            base=loaded.name,
            validation=validation
            if isinstance(validation, float | int)
            else str(Path(validation).absolute()),
            text_column=",".join(training.columns[:-1]),
            label_column=training.columns[-1],
            skip_bad_rows=skip_bad_rows,
            trunk_cache=trunk_cache,
            abstain_below=abstain_below,
            **settings,
        ),
    )
    # The bundle is verified on a fresh base, and two need not lie in memory at once.
    del model, loaded, adapter, attached, sites, parts, sets
    gc.collect()
    with stopwatch.measure("save"), _kept(checkpoint):
        written = bundles.write(out, content, overwrite=overwrite)
    checkpoint.remove()
    final = {**written.report(), "seconds": stopwatch.read(), "peak_rss_mb": peak_rss_mb()}
    return Result(out, final)


def _flags(parts: Sequence[Part], **flags: Any) -> dict[str, Any] | None:
    """Returns the flags that repeat a run; None where no flags can, as with several methods."""
    if len(parts) != 1:
        return None
    (part,) = parts
    own = {
        field.name: getattr(part.method, field.name)
        for field in fields(part.method)
        if field.metadata["flag"]
    }
    selection = part.selection
    if selection.targets:
        is_roles = all(target in ROLES for target in selection.targets)
        flags["targets"] = (",".join if is_roles else "|".join)(selection.targets)
        layers = selection.layers
        flags["layers"] = layers if isinstance(layers, str) else ",".join(map(str, layers))
    # The head's rate goes along with the method's.
    flags.pop("head_learning_rate")
    return {
        key.replace("_", "-"): value
        for key, value in {**flags, "method": part.method.name, **own}.items()
        if value is not None and not isinstance(value, list | tuple | dict)
    }


@contextmanager
def _kept(checkpoint: Checkpoint) -> Iterator[None]:
    """Says, where work is interrupted, that what was trained is kept."""
    try:
        yield
    except BaseException as error:
        if checkpoint.is_there():
            error.add_note("What was trained until the end of the last epoch is kept: go on with --resume.")
        raise


def _read(
    path: Path, validation: float | str | Path, seed: int, *, task: type[Task] | None, **columns: Any
) -> tuple[Examples, Examples]:
    training = check_trainable(read_examples(path, task=task, **columns))
    if isinstance(validation, float | int):
        return split(training, validation, seed=seed)
    held_out = read_examples(validation, task=training.task, **columns)
    training.task.from_labels(training.labels).check_known(held_out.labels, held_out.source)
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
