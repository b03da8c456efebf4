"""Labelled text from a language model: a topic and labels in, a checked and balanced file of rows out.

job.py             what is wanted, and from there to the plan or the file
checks.py          what cannot be wanted, told before anything is sent
prompt.py          one request's text, from a template
endpoint.py        the server: retries, and the format in which answers are asked for
completion.py      what it sends back
generated_rows.py  from an answer to rows, or a reason for each that cannot be used
row_collector.py   how many rows of each label are there, and which to ask for next
partial_output.py  the side file from which an interrupted run goes on
run.py             asks for what is missing, several requests at once, until there are enough rows
report.py          what a run would do, and what it made
"""

from __future__ import annotations

from keras_peft.data.synthesis.job import DataGeneration
from keras_peft.data.synthesis.report import Generated, GenerationPlan

__all__ = ["DataGeneration", "Generated", "GenerationPlan"]
