"""Training speed of this package, compared with the alternatives.

plan.py → texts.py → sides.py → results.py → tables.py, plots.py → page.py; __main__.py runs them.
"""
