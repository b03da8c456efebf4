"""Generates labelled text with a language model: from a topic and labels to a checked, balanced file.

job.py             the options of a generation, its plan and its run
checks.py          validation of the options before any request
prompt.py          the text of a request, from a template
endpoint.py        the client of the server: retries and response formats
completion.py      parsing of the server's responses
generated_rows.py  from a response to rows, or to the reason why a row is rejected
row_collector.py   the rows accepted so far and the rows to request next
partial_output.py  the file from which an interrupted run resumes
run.py             sends concurrent requests until there are enough rows
report.py          the plan and the result of a run
"""

from __future__ import annotations

from keras_peft.data.synthesis.job import DataGeneration
from keras_peft.data.synthesis.report import Generated, GenerationPlan

__all__ = ["DataGeneration", "Generated", "GenerationPlan"]
