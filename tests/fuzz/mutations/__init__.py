"""Mutations of files, one module per format.

A mutation is a function from a random generator and the content of a file to the new content. Each module lists its
mutations as `MUTATIONS`. A mutation of a format also accepts content that another mutation has damaged: it then
changes bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Mutation = Callable[[Random, bytes], bytes]
