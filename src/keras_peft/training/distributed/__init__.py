"""One training by several processes, on one machine or many: `keras.distribution` on the JAX backend.

Every process reads the same rows and runs the same training. They divide the work: of each batch, each process
computes its part of the rows; frozen blocks and scores are computed for a part of the batches. The first process
writes the bundle. See docs/internals/decisions/0022-several-processes.md.
"""
