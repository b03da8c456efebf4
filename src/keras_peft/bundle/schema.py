"""The fields of bundle.json and of the JSON files of an exported folder.

Import this module where a file is read, since it imports msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from keras_peft.schemas import Count, Name, Names, Parts, problems_with

Columns = Annotated[list[Name], msgspec.Meta(min_length=2, max_length=100)]
"""The text columns, then the label column."""
Sums = dict[str, str]
"""The SHA-256 of each file by its name."""
Shape = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]], msgspec.Meta(max_length=8)]


class Base(msgspec.Struct):
    """The base model of a bundle."""

    name: Name
    architecture: Name
    sha256: Name


class NamedBase(msgspec.Struct):
    """The base model of an exported folder, which contains its weights."""

    name: Name


class Data(msgspec.Struct):
    """Where the training rows came from; an imported bundle has none."""

    source: str = ""
    training_rows: int | None = None


class Difference(msgspec.Struct):
    """How the outputs of what was written compare with those before."""

    max_abs_logit_difference: float = 0.0
    runtime: str = ""
    texts: int = 0
    reloaded: Difference | None = None


class Classifier(msgspec.Struct, kw_only=True):
    """The task, the labels and the input of a classifier."""

    task: Name
    task_options: dict[str, Any]
    labels: Names
    columns: Columns
    max_length: Count
    long_text: Name
    marks_case: bool = False
    verification: Difference


class BundleFile(Classifier, kw_only=True):
    """The bundle.json of a bundle."""

    base: Base
    parts: Parts
    metrics: dict[str, Any]
    data: Data
    versions: dict[str, Any]
    files: Sums


class ExportFile(Classifier, kw_only=True):
    """The keras_peft.json of an exported folder."""

    kind: Name
    precision: Name
    model: Name
    base: NamedBase
    files: Sums


class SharedExportFile(msgspec.Struct):
    """The keras_peft.json of an exported folder with many adapters."""

    precision: Name
    model: Name
    base: NamedBase
    union: dict[str, Any]
    shapes: dict[str, Shape]
    dim: Count
    poolings: list[Name]
    has_words: bool
    adapters: Names
    files: Sums


class Plan(msgspec.Struct):
    """The numbers of parameters of an adapter."""

    trainable_parameters: int
    total_parameters: int


class LabelScores(msgspec.Struct):
    """The scores of one label."""

    precision: float
    recall: float
    f1: float
    support: int


class Validation(msgspec.Struct):
    """The scores on the validation rows."""

    rows: int
    metrics: dict[Name, float]
    labels: dict[str, LabelScores]
    interval: Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)] | None = None


class ReportFile(msgspec.Struct):
    """The part of report.json that is read again; a bundle that was imported has none of it."""

    plan: Plan | None = None
    validation: Validation | None = None


def problems_of(content: Mapping[str, Any], schema: type[msgspec.Struct], file: str) -> list[str]:
    """Checks the fields of a file; see `schemas.problems_with`.

    Args:
        content: Its content.
        schema: One of the classes above.
        file: Name of the file.
    """
    found = problems_with(content, schema, file)
    columns = content.get("columns")
    if not found and isinstance(columns, list) and len(set(map(str, columns))) < len(columns):
        found.append(f"{file}: columns is {columns}, expected different columns")
    return found
