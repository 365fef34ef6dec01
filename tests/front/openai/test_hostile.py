# SPDX-License-Identifier: BUSL-1.1
"""Bodies of any content are answered, or refused with a reason; never with a bug."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlos_core.front.openai.chat import ChatBody
from mlos_core.front.openai.completions import CompletionBody
from mlos_core.front.openai.embeddings import EmbeddingBody
from mlos_core.front.openai.tokens import DetokenizeBody, TokenizeBody

TEXTS = st.sampled_from(["", "a", "type", "text", "json_schema", "function", "team/tiny", "1", "-"])
LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PLAUSIBLE = {
    "messages": [{"role": "user", "content": "hi"}],
    "prompt": "hi",
    "input": "hi",
    "tokens": [1, 2],
    "model": "team/tiny",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "response_format": {"type": "json_schema", "json_schema": {"schema": {}}},
    "stream": True,
}


def bodies(kind):
    """Some fields with any values over some that make sense."""
    names = kind.__struct_fields__
    sensible = {name: value for name, value in PLAUSIBLE.items() if name in names}
    wild = st.dictionaries(st.sampled_from(names), VALUES, max_size=3)
    return wild.map(lambda fields: {**sensible, **fields})


PATHS = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/embeddings": EmbeddingBody,
    "/tokenize": TokenizeBody,
    "/detokenize": DetokenizeBody,
}
CASES = st.one_of(*(st.tuples(st.just(path), bodies(kind)) for path, kind in PATHS.items()))
JSON = {"content-type": "application/json"}


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CASES)
def test_no_body_is_a_bug(client, service, case):
    path, body = case
    service.reset()
    answer = client.post(path, content=json.dumps(body), headers=JSON)
    assert answer.status_code in (200, 400, 404), answer.text
    assert "internal error" not in answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]
