"""The class variables and options of a method, and the errors for invalid ones."""

from __future__ import annotations

import dataclasses
import json

import pytest

import keras_peft
from contract.laws import adapt, each_method, head, make
from core import models
from keras_peft import methods
from keras_peft.errors import OptionError, SelectionError

pytestmark = pytest.mark.one_backend


@each_method
def test_config_round_trips_through_json(method):
    one = make(method)
    again = methods.from_config(json.loads(json.dumps(one.to_config())))
    assert again == one
    assert type(again) is method
    assert hash(again) == hash(one)


@each_method
def test_bad_values_are_refused(method):
    for field in dataclasses.fields(method):
        with pytest.raises(OptionError, match=field.name):
            method(**{field.name: object()})
        limits = [field.metadata[limit] for limit in ("above", "minimum", "below", "maximum")]
        if field.type in ("int", "float") and any(limit is not None for limit in limits):
            with pytest.raises(OptionError, match=field.name):
                method(**{field.name: type(field.default)(-1)})
    with pytest.raises(OptionError, match="no option 'colour'"):
        method.from_options({"colour": 1})


@each_method
def test_no_matching_site_lists_what_there_is(method):
    base = models.small_distilbert()
    before = models.values(base)
    with pytest.raises(SelectionError) as raised:
        keras_peft.adapt(base, method(), targets="attention.qeury", head=head())
    if method.default_targets:
        assert "This base model has: attention, attention.query" in str(raised.value)
        assert "Did you mean 'attention.query'?" in str(raised.value)
    adapt(base, make(method)).detach()  # The refused attempt does not change the base.
    assert models.same(models.values(base), before)


@each_method
def test_class_says_what_the_docs_need(method):
    assert methods.find(method.name) is method
    assert "http" in method.paper
    assert method.learning_rate > 0
    assert method.head_learning_rate > 0
    assert method.title
    assert all(field.metadata["help"] for field in dataclasses.fields(method))
    for part in ("Parameters:", "Example:"):
        assert part in (method.__doc__ or "")
