from __future__ import annotations

import gc
import weakref

import pytest

from keras_peft.serve.failures import Overloaded
from keras_peft.serve.result import RequestResult
from keras_peft.serve.statistics import Statistics, Total
from serve.engine import loaded

RESULT = RequestResult({}, tokens=5, cut=0, tokenizing=0.25, queued=0.5, computed=1.0)


def test_requests_are_counted_for_each_adapter_that_they_name():
    statistics, news, mood = Statistics(), loaded("news"), loaded("mood")
    for adapters in ([news, mood], [news]):
        with statistics.counting(adapters, 3) as answered:
            assert answered(RESULT) is RESULT
    with pytest.raises(Overloaded), statistics.counting([news], 7):
        raise Overloaded("It is full.")
    found = statistics.of(news)
    assert (found.texts, found.answered.count, found.failed.count) == (6, 2, 1)
    assert (found.tokenized, found.queued, found.computed) == (Total(2, 0.5), Total(2, 1.0), Total(2, 2.0))
    assert found.answered.seconds > 0
    assert found.last_answer > 0
    assert (statistics.of(mood).texts, statistics.of(mood).failed) == (3, Total())


def test_the_statistics_of_a_generation_end_with_it():
    statistics, news = Statistics(), loaded("news")
    with statistics.counting([news], 1) as answered:
        answered(RESULT)
    assert statistics.of(loaded("news")).texts == 0
    kept = weakref.ref(news)
    del news, answered
    gc.collect()
    assert kept() is None
