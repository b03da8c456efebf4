"""Sweeps: a search for better settings, in processes that may be killed at any moment.

space.py       what is varied
space_file.py  its file, which is checked before anything is trained
spaces/        the spaces that ship with the package, one file per method
plan.py        what is varied and what is given
study.py       the trials, in a journal that survives a killed process
trial.py       one trial: a training that reports its scores, and can be stopped or resumed
workers.py     other processes that run trials; worker.py is what they run
on_ray.py      the same on Ray
driver.py      hands out trials until there are enough
finishing.py   what follows: the bundle, run.toml, the test rows
page.py        the page; axes.py and charts.py draw it
"""
