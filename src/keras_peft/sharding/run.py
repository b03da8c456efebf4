"""Predicts files of any size into a folder of parts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras_peft import bundle as bundles
from keras_peft.bundle.description import Description
from keras_peft.data import names
from keras_peft.data.predicted import ENDINGS, label_column
from keras_peft.data.readers import ending_of
from keras_peft.engines import AUTO, check_engine
from keras_peft.errors import DataError, OptionError, did_you_mean, listed
from keras_peft.extras import need
from keras_peft.files import is_inside
from keras_peft.places import MACHINE, RAY, check_place
from keras_peft.progress import Progress
from keras_peft.sharding.addresses import Folder, is_remote, local_path
from keras_peft.sharding.inputs import Reading, Source, sha256_of_source, sources_of
from keras_peft.sharding.parts import Job, PartWriter, Writer, checksum_of, read_part
from keras_peft.sharding.plan import (
    MANIFEST,
    MOST_ROWS,
    PART,
    PartSettings,
    Plan,
    Shard,
    differences,
    make_plan,
    read_manifest,
    write_manifest,
)
from keras_peft.sharding.result import PredictedFiles
from keras_peft.sharding.workers import WorkerProcesses
from keras_peft.training.showing import shown

ROWS_PER_SHARD = 4096
_MOST_WORKERS = 10_000


def predict_files(
    bundle: str | Path,
    input: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    base: str | None = None,
    engine: str = AUTO,
    adapter: str | None = None,
    text_column: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    format: str | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    on: str = MACHINE,
    workers: int | None = None,
    overwrite: bool = False,
    escape_formulas: bool = True,
    progress: Progress | None = None,
) -> PredictedFiles:
    """Predicts the rows of files of any size, and writes them with their predictions to a folder of parts.

    The rows are cut into shards, and each shard becomes a part: a file that is complete or not there. If the
    process or a worker is killed, the same call goes on with the shards that have no part.

    Args:
        bundle: The folder of a bundle or of an export to ONNX, or `hf://owner/name`.
        input: A file, a folder, a pattern such as `"rows/*.parquet"`, the address of one that fsspec reads, such as
            `"s3://bucket/rows/*.parquet"`, or a list of them.
        output: The folder of the parts, or its address.
        base: Current location of the base, if it has moved since training.
        engine: What computes the predictions, as in `load_bundle`.
        adapter: Name of the adapter, for an export with many adapters.
        text_column: Column with the texts; the column of the training by default.
        separator: Separator of the values in CSV and TSV files; detected by default.
        skip_bad_rows: Whether rows without text are left out.
        format: Format of the parts: `"csv"`, `"tsv"`, `"jsonl"` or `"parquet"`. By default that of the first input
            file if it is one of them, else `"jsonl"`.
        rows_per_shard: Number of rows in a shard. The last shard of a file may have fewer.
        on: Where the workers run: `"machine"`, or `"ray"` for a Ray cluster, which is started on this machine if
            there is none.
        workers: Number of workers, processes that share the cores. By default this process alone, and on Ray one
            for each core of the cluster.
        overwrite: Whether predictions of another bundle or input in `output` are replaced.
        escape_formulas: Whether cells that a spreadsheet would run as formulas get an apostrophe.
        progress: Receives progress events. By default, bars are shown on a terminal and in a notebook.

    Returns:
        What was written.

    Raises:
        DataError: If the input cannot be read, or a row has no text.
        OptionError: If an argument cannot be used, or `output` has predictions of another bundle or input.
        BundleError: If the bundle cannot be loaded.

    Example:
        >>> found = keras_peft.predict_files("my-bundle", "rows/*.parquet", "predicted/")
        >>> found.rows, found.labels
        (120000, {'news': 70112, 'question': 49888})
    """
    began = time.perf_counter()
    progress = shown(progress)
    _check(engine, rows_per_shard, on, workers)
    if find_spec("onnxruntime") is None:
        need("Predicting files", "keras_hub", "scipy", "sklearn", "tokenizers")
    described = bundles.describe(bundle, adapter)
    columns = text_columns(described, text_column, bundle)
    sources = sources_of(input)
    folder = _folder_of(output, sources)
    settings = PartSettings(
        bundle=checksum_of(described),
        adapter=adapter,
        text_columns=columns,
        separator=separator,
        skip_bad_rows=skip_bad_rows,
        rows_per_shard=rows_per_shard,
        format=_ending(format, sources),
        escape_formulas=escape_formulas,
    )
    reading = Reading(columns, described.input, skip_bad_rows, separator)
    plan = _planned(folder, sources, reading, settings, overwrite, progress)
    job = Job(_absolute(bundle), base, engine, folder, plan)
    folder.make()
    with folder.locked(), _resumable(folder):
        _begin(job, overwrite)
        counts, missing = _found(job, described, progress)
        if missing:
            shards = plan.shards(sources, reading, frozenset(missing))
            counts += _write(job, shards, missing, on, workers, progress)
        _end(job)
    sizes = plan.sizes()
    return PredictedFiles(
        folder=str(output),
        parts=tuple(plan.parts()),
        rows=plan.rows,
        labels=dict(counts.most_common()),
        found_rows=plan.rows - sum(sizes[number] for number in missing),
        seconds=time.perf_counter() - began,
    )


def text_columns(described: Description, given: str | None, bundle: str | Path) -> tuple[str, ...]:
    """Returns the columns with the texts that a bundle reads.

    Args:
        described: The bundle.
        given: The columns that the user named, joined by commas; None for those of the training.
        bundle: Its name, for the message.

    Raises:
        OptionError: If their number is wrong.
    """
    columns = names.split(given, described.columns) if given else described.columns[:-1]
    if len(columns) != described.texts_per_row:
        raise OptionError(
            f"`text_column={given}`: {bundle} reads {described.texts_per_row} texts per row; pass one column name per "
            "text, separated by commas."
        )
    return tuple(columns)


def _check(engine: str, rows_per_shard: Any, on: str, workers: Any) -> None:
    check_engine(engine)
    check_place(on)
    limits = {"rows_per_shard": (rows_per_shard, MOST_ROWS), "workers": (workers, _MOST_WORKERS)}
    for name, (value, most) in limits.items():
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (name == "workers" and value is None) and not (is_whole and 1 <= value <= most):
            raise OptionError(f"`{name}={value!r}`: expected a whole number from 1 to {most:,}.")


def _folder_of(output: str | Path, sources: Sequence[Source]) -> Folder:
    """Returns the output folder, which must not contain the input."""
    address = str(output)
    if is_remote(address):
        return Folder(address.rstrip("/"))
    path = local_path(address)
    if path.exists() and not path.is_dir():
        raise OptionError(f"{path} exists and is not a folder; choose another `output`.")
    inside = [
        one.address
        for one in sources
        if not is_remote(one.address) and is_inside(local_path(one.address), path)
    ]
    if inside:
        raise OptionError(
            f"{path} contains the input {listed(inside, most=3)}, so parts would be read as input; choose another "
            "`output`."
        )
    return Folder(str(path.absolute()), str(path))


def _ending(given: str | None, sources: Sequence[Source]) -> str:
    """Returns the format of the parts as a file extension."""
    if given is None:
        ending = ending_of(Path(sources[0].name)).removesuffix(".gz")
        return ending if ending in ENDINGS else ".jsonl"
    known = [one.removeprefix(".") for one in ENDINGS]
    if given.removeprefix(".") not in known:
        raise OptionError(f"`format={given!r}`: expected one of {listed(known)}.{did_you_mean(given, known)}")
    return f".{given.removeprefix('.')}"


def _absolute(bundle: str | Path) -> str:
    """Returns the name of a bundle for processes that run in another folder."""
    return str(bundle) if is_remote(str(bundle)) else str(Path(bundle).absolute())


def _name(bundle: str) -> str:
    """Returns the name of a bundle without the folders of this machine."""
    return bundle if is_remote(bundle) else Path(bundle).name


def _planned(
    folder: Folder,
    sources: Sequence[Source],
    reading: Reading,
    settings: PartSettings,
    overwrite: bool,
    progress: Progress,
) -> Plan:
    """Returns the plan of an earlier run if it is the same, else a new one."""
    found = _manifest(folder, overwrite)
    if found is not None:
        progress.stage(f"Comparing the input with that of the predictions in {folder}")
        sha256s = []
        for source in sources:
            with source.opened() as path:
                sha256s.append(sha256_of_source(path))
        changed = differences(found, settings, sha256s)
        if not changed:
            return found
        if not overwrite:
            raise _other(folder, changed)
    progress.stage(f"Reading the input, {len(sources):,} file{'s' if len(sources) > 1 else ''}")
    return make_plan(sources, reading, settings, progress)


def _manifest(folder: Folder, overwrite: bool) -> Plan | None:
    """Returns the plan of an earlier run, None if there is none.

    Raises:
        OptionError: If the folder contains something else.
    """
    inside = {name for name in folder.names() if not name.startswith(".")}
    if inside and MANIFEST not in inside:
        raise OptionError(
            f"{folder} contains {listed(sorted(inside), most=3)} and no predictions; choose another `output`."
        )
    try:
        return read_manifest(folder)
    except OptionError:
        if overwrite:
            return None
        raise


def _other(folder: Folder, changed: str) -> OptionError:
    return OptionError(
        f"{folder} has predictions of {changed}; choose another `output`, or replace them with `overwrite=True`."
    )


def _begin(job: Job, overwrite: bool) -> None:
    """Writes the manifest, unless it is there."""
    found = _manifest(job.folder, overwrite)
    if found is not None and found.fingerprint == job.plan.fingerprint:
        return
    if found is not None and not overwrite:  # Another process was faster.
        raise _other(job.folder, "another run")
    write_manifest(job.folder, job.plan, _name(job.bundle), complete=False)
    _remove_others(job)


def _remove_others(job: Job) -> None:
    """Removes parts of other predictions, and what killed processes left."""
    for name in sorted(job.folder.names() - set(job.plan.parts())):
        if PART.fullmatch(name):
            job.folder.remove(name)


def _found(job: Job, described: Description, progress: Progress) -> tuple[Counter[str], list[int]]:
    """Returns how often labels were predicted in the parts that are there, and the shards that have none."""
    there = job.folder.names()
    counts, missing = Counter[str](), []
    parts = job.plan.parts()
    if found := len(there & set(parts)):
        progress.stage(f"Reading {found:,} part{'s' if found > 1 else ''} of an earlier run")
    column = label_column(described.task())
    for number, (part, rows) in enumerate(zip(parts, job.plan.sizes(), strict=True)):
        labels = read_part(job, part, rows, column) if part in there else None
        if labels is None:
            missing.append(number)
        else:
            counts.update(labels)
        if labels is None and part in there:
            progress.note(f"{part} is damaged, and is written again.")
    return counts, missing


def _write(
    job: Job,
    shards: Iterator[Shard],
    missing: Sequence[int],
    on: str,
    workers: int | None,
    progress: Progress,
) -> Counter[str]:
    """Writes the parts of shards, and returns how often each label was predicted."""
    counts, sizes = Counter[str](), job.plan.sizes()
    left = sum(sizes[number] for number in missing)
    writer = _writer(job, on, workers, len(missing), progress)
    try:
        progress.predicting(rows=job.plan.rows, done=job.plan.rows - left)
        for done in writer.write(shards, lambda rows: progress.predicted(rows=rows)):
            counts.update(done.labels)
    finally:
        progress.finished()
        writer.close()
    return counts


def _writer(job: Job, on: str, workers: int | None, parts: int, progress: Progress) -> Writer:
    """Returns what writes the parts: this process, several, or workers on Ray."""
    if on == RAY:
        from keras_peft.sharding.on_ray import RayWriters

        return RayWriters(job, workers, parts, progress)
    count = min(workers or 1, parts)
    if count > 1:
        progress.stage(f"Starting {count} workers")
        return WorkerProcesses(job, count)
    progress.stage(f"Loading {_name(job.bundle)}")
    writer = PartWriter(job, progress.importing)
    writer.load()
    return writer


def _end(job: Job) -> None:
    """Checks that all parts are there, and says so in the manifest."""
    lost = sorted(set(job.plan.parts()) - job.folder.names())
    if lost:
        raise DataError(
            f"{listed(lost, most=3)} were written but are not in {job.folder}; expected a folder that all workers "
            "share, such as one on s3://."
        )
    _remove_others(job)
    write_manifest(job.folder, job.plan, _name(job.bundle), complete=True)


@contextmanager
def _resumable(folder: Folder) -> Iterator[None]:
    """Adds a note to what interrupts a prediction."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"The finished parts are kept in {folder}; the same command goes on with the others.")
        raise
