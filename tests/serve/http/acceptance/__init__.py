"""The twenty acceptance tests of serving; each has its number in its name.

     1-4, 19     test_acceptance_answers.py      what is answered, in which grammar, by how many adapters
     5-8, 15     test_acceptance_life.py         adapters are loaded, reloaded, evicted and unloaded
     9, 10, 16, 17   test_acceptance_guards.py   names, sizes, keys, and what an error tells
    11-14, 18    test_acceptance_load.py         too much, too slow, gone, hanging, ending

They ask real servers, each a process of its own. 20, the same training on several processes as on one, is no
matter of serving.
"""
