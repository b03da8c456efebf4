"""How fast this project trains beside what its users would use instead.

plan.py → texts.py → sides.py → results.py → tables.py, plots.py → page.py; __main__.py runs them.
"""
