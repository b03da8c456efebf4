"""Which process this is, and where the others are: from environment variables that launchers set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from keras_peft.errors import OptionError

HEARTBEAT = 8
"""Seconds without a sign of life after which a process counts as lost."""
ADDRESSES, COUNT, RANK = (
    f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)
"""The variables of `keras.distribution.initialize`."""
# (rank, count) of launchers: Slurm's srun, Open MPI, and MPICH and Intel MPI.
_LAUNCHERS = (
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
# From these, JAX finds the address itself.
_WITH_ADDRESS = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri")


@dataclass(frozen=True)
class Place:
    """The place of this process among all.

    Attributes:
        address: host:port of the first process; None if JAX finds it from the launcher's variables.
        count: Number of processes.
        rank: Number of this process, from 0.
    """

    address: str | None
    count: int
    rank: int


def place(environment: Mapping[str, str] | None = None) -> Place:
    """Reads the place of this process.

    Args:
        environment: The environment variables; those of the process by default.

    Raises:
        OptionError: If variables are missing or invalid.

    Example:
        >>> place({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "node[1-2]"})
        Place(address=None, count=2, rank=1)
    """
    environment = os.environ if environment is None else environment
    pairs = [(RANK, COUNT), *_LAUNCHERS]
    rank, count = next((pair for pair in pairs if all(name in environment for name in pair)), (None, None))
    address = environment.get(ADDRESSES, "").split(",")[0].strip() or None
    if rank is None or count is None or (not address and not any(map(environment.get, _WITH_ADDRESS))):
        raise OptionError(
            "`distributed=True` has to know the other processes. Start them with srun or mpirun, or set "
            f"{ADDRESSES} to host:port of the first process, {COUNT} to their number, and {RANK} to the number of "
            "each, from 0."
        )
    found = Place(address, _number(environment, count), _number(environment, rank))
    if not 0 <= found.rank < found.count:
        raise OptionError(
            f"{rank}={found.rank}: expected from 0 to {found.count - 1}, since {count}={found.count}."
        )
    if address is not None and not _has_port(address):
        raise OptionError(
            f"{ADDRESSES}={address}: expected host:port of the first process, such as 10.0.0.1:9876."
        )
    return found


def _number(environment: Mapping[str, str], name: str) -> int:
    if not environment[name].strip().isdecimal():
        raise OptionError(f"{name}={environment[name]}: expected a whole number.")
    return int(environment[name])


def _has_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16
