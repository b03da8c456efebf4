"""The cache of recent texts."""

import numpy as np

from keras_peft.runtime.recent import RecentFeatures


def test_the_cache_holds_no_more_than_it_may():
    cache = RecentFeatures(100)
    for number in range(5):
        cache.put(number, (np.full(10, number, np.float32),))
    assert cache.nbytes == 80
    assert [found is not None for found in cache.get(range(5))] == [False, False, False, True, True]
    cache.get([3])
    cache.put(9, (np.zeros(10, np.float32),))
    assert [found is not None for found in cache.get([3, 4, 9])] == [True, False, True]
    cache.put("large", (np.zeros(100, np.float32),))
    assert cache.get(["large"]) == [None]
