"""Names of the poolings: how an encoder's vectors become one vector per row."""

FIRST_TOKEN, MEAN, MAX = "first-token", "mean", "max"
POOLINGS = (FIRST_TOKEN, MEAN, MAX)
AUTO = "auto"
"""Value of a setting that leaves the choice to the training."""
