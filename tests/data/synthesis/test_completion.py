"""Any response of a server is read as an answer or reported as a fault."""

from __future__ import annotations

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_peft.data.synthesis.completion import message_of, read_completion, retry_after

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "refusal", "error"]),
            inner,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(
    JSON.map(lambda value: httpx2.Response(200, json=value))
    | st.binary().map(lambda data: httpx2.Response(200, content=data))
)
def test_any_body_is_an_answer_with_or_without_a_fault(response):
    answer = read_completion(response)
    assert isinstance(answer.content, str)
    assert answer.fault or answer.content.strip()
    assert isinstance(message_of(response), str)


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)) | st.floats().map(str))
def test_any_retry_after_is_seconds_or_none(given_):
    seconds = retry_after(httpx2.Response(429, headers={"Retry-After": given_}))
    assert seconds is None or 0 <= seconds < float("inf")
