"""Predictions of large inputs: one part for each shard, which survives whatever is killed.

addresses.py   files and folders here and elsewhere, such as on s3://
inputs.py      the files of an input, and their rows
plan.py        how the input is cut into shards, and what its parts are called
parts.py       one part: predict the rows of a shard, and write them
workers.py     other processes that write parts; worker.py is what they run
on_ray.py      the same on Ray
run.py         all of it
result.py      the result
"""
