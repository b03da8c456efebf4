"""The twenty acceptance tests of serving; each has its number in its name.

     1-4, 19     test_acceptance_answers.py      predictions, protocols, several adapters
     5-8, 15     test_acceptance_life.py         loading, reloading, evicting and unloading adapters
     9, 10, 16, 17   test_acceptance_guards.py   names, sizes, keys, and the contents of errors
    11-14, 18    test_acceptance_load.py         overload, timeouts, disconnects, hangs, shutdown

They test real servers, each in its own process. Test 20 compares training on several processes with
training on one; it does not involve serving.
"""
