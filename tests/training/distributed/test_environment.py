"""Tests of how a process learns its place among the others."""

import pytest

from keras_peft.errors import OptionError
from keras_peft.training.distributed.environment import Place, place

KERAS = {
    "KERAS_DISTRIBUTION_JOB_ADDRESSES": "10.0.0.1:9876,10.0.0.2:9876",
    "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    "KERAS_DISTRIBUTION_PROCESS_ID": "1",
}
ADDRESS = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": "node1:9876"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (KERAS, Place("10.0.0.1:9876", 2, 1)),
        (
            {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[1-4]"},
            Place(None, 4, 3),
        ),
        (
            {
                "OMPI_COMM_WORLD_RANK": "0",
                "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1",
            },
            Place(None, 2, 0),
        ),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", **ADDRESS}, Place("node1:9876", 2, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "9", **KERAS}, Place("10.0.0.1:9876", 2, 1)),
    ],
    ids=["Keras", "Slurm", "Open MPI", "MPICH", "Keras before Slurm"],
)
def test_the_variables_of_launchers_are_read(variables, expected):
    assert place(variables) == expected


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "srun or mpirun"),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, "KERAS_DISTRIBUTION_JOB_ADDRESSES to host:port"),
        ({**KERAS, "KERAS_DISTRIBUTION_PROCESS_ID": "2"}, "PROCESS_ID=2: expected from 0 to 1"),
        ({**KERAS, "KERAS_DISTRIBUTION_NUM_PROCESSES": "two"}, "NUM_PROCESSES=two: expected a whole number"),
        ({**KERAS, "KERAS_DISTRIBUTION_JOB_ADDRESSES": "10.0.0.1"}, "expected host:port"),
        ({**KERAS, "KERAS_DISTRIBUTION_JOB_ADDRESSES": "10.0.0.1:http"}, "expected host:port"),
    ],
)
def test_missing_and_invalid_variables_are_named(variables, words):
    with pytest.raises(OptionError, match=words):
        place(variables)
