"""Labelled text from a language model: a topic and labels in, a checked and balanced file of rows out.

job.py         what is wanted, the plan, and the run from the first request to the file
prompt.py      one request's text, from a template
endpoint.py    the server: retries, and the format in which answers are asked for
answers.py     from an answer to rows, or a reason for each that cannot be used
duplicates.py  texts that are there already, word for word or nearly so
rows.py        how many rows of each label are there, and which to ask for next
partial.py     the side file from which an interrupted run goes on
"""

from __future__ import annotations

from keras_peft.data.synthesis.job import DataGeneration, Generated, GenerationPlan

__all__ = ["DataGeneration", "Generated", "GenerationPlan"]
