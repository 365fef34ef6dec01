# SPDX-License-Identifier: BUSL-1.1
"""OpenAI's routes."""

from __future__ import annotations

from typing import Any, Final

from mlos_core.front.endpoint import Answer, Endpoint
from mlos_core.front.openai import chat, completions, embeddings, models, tokens
from mlos_core.front.openai.chat_answer import ChatCompletion
from mlos_core.front.openai.problems import ProblemBody
from mlos_core.front.openai.text_answer import Completion

_ANSWERS: Final = ("application/json", "text/event-stream")
_STREAM: Final = (
    "With stream: true the answer is text/event-stream: chunks as data lines, then "
    '`data: [DONE]`; an error in between is `data: {"error": ...}`. A field that is not '
    "known, or known and not served, is an error that names it. Leaving the connection "
    "cancels the request."
)
_GENERATION: Final[dict[str, Any]] = {
    "method": "POST",
    "tag": "openai",
    "detail": _STREAM,
    "error": ProblemBody,
    "query": (
        ("timeout", "number", "Seconds until the request is given up."),
        ("X-MLOS-Timeout", "number", "The same as a header."),
        ("X-Request-Id", "string", "The request's name, which the answer repeats."),
    ),
}
_PLAIN: Final[dict[str, Any]] = {"tag": "openai", "error": ProblemBody}

ENDPOINTS: Final = (
    Endpoint(
        path="/v1/chat/completions",
        handler=chat.chat,
        summary="Answer a conversation",
        body=chat.ChatBody,
        answers={200: Answer("The answers", ChatCompletion, _ANSWERS)},
        **_GENERATION,
    ),
    Endpoint(
        path="/v1/completions",
        handler=completions.complete,
        summary="Continue prompts",
        body=completions.CompletionBody,
        answers={200: Answer("The continuations", Completion, _ANSWERS)},
        **_GENERATION,
    ),
    Endpoint(
        path="/v1/embeddings",
        handler=embeddings.embed,
        summary="The vectors of texts",
        body=embeddings.EmbeddingBody,
        answers={200: Answer("The vectors", embeddings.Embeddings)},
        **{**_GENERATION, "detail": ""},
    ),
    Endpoint(
        method="POST",
        path="/tokenize",
        handler=tokens.tokenize,
        summary="Text to token ids, as vLLM has it",
        body=tokens.TokenizeBody,
        answers={200: Answer("The token ids", tokens.Tokens)},
        **_PLAIN,
    ),
    Endpoint(
        method="POST",
        path="/detokenize",
        handler=tokens.detokenize,
        summary="Token ids to text, as vLLM has it",
        body=tokens.DetokenizeBody,
        answers={200: Answer("The text", tokens.Text)},
        **_PLAIN,
    ),
    Endpoint(
        method="GET",
        path="/v1/models",
        handler=models.models,
        summary="The models that serve text",
        answers={200: Answer("All of them", models.ModelList)},
        **_PLAIN,
    ),
    Endpoint(
        method="GET",
        path="/v1/models/{name}",
        handler=models.model,
        summary="One of them",
        answers={200: Answer("The model", models.ModelCard)},
        **_PLAIN,
    ),
)
