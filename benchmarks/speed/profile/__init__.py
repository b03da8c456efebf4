"""Where every second and every megabyte of the main job goes.

In the process of the job: recorder.py → patches.py → operations.py → job.py. Beside it: floors.py, table.py, and
__main__.py, which runs them.
"""
