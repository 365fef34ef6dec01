# SPDX-License-Identifier: BUSL-1.1
"""Every route of the HTTP front end, in the order in which they are tried."""

from __future__ import annotations

from typing import Any, Final

from mlos_core.front import control, lifecycle, schema
from mlos_core.front.body import ANSWERS, JSON, NPY, NPZ
from mlos_core.front.endpoint import Answer, Endpoint
from mlos_core.front.infer import infer, infer_by_id, infer_named
from mlos_core.front.openai import routes as openai
from mlos_core.front.questions import InferBody, ModelInferBody

_INFER: Final[dict[str, Any]] = {
    "method": "POST",
    "tag": "inference",
    "body_types": (JSON, NPY, NPZ),
    "query": (
        ("timeout", "number", "Seconds until the request is given up; the body's counts more."),
        ("X-MLOS-Timeout", "number", "The same as a header."),
        ("outputs", "string", "Names of the outputs to return, with commas between."),
        ("parameters", "string", "A JSON object, for bodies that hold tensors only."),
        ("input", "string", "Which input a .npy body is for, if the model has several."),
        ("stream", "boolean", "Answer with server-sent events."),
        ("version", "string", "Which version; without it, as the model's route says."),
    ),
    "answers": {
        200: Answer("The outputs, in the form that Accept prefers", schema.Prediction, ANSWERS)
    },
}
_DETAIL: Final = (
    "Inputs are JSON (a value becomes the model's dtype if nothing is lost; NaN and infinities "
    'are the strings "NaN", "Infinity", "-Infinity"; a byte string is a string or '
    '{"b64": "..."}), or a .npy file (one input), or a .npz file (inputs by name). '
    "The answer is JSON, .npy, .npz or, for models that stream, text/event-stream: one data "
    "line per event, then `event: end`, or `event: error` with an ErrorBody. Leaving the "
    "connection cancels the request. A model that is not in memory is loaded first; a deadline "
    "that passes meanwhile does not end that."
)
_OWNERS: Final = "For the daemon's own user only."
_REGISTER: Final[dict[str, Any]] = {
    "method": "POST",
    "body": schema.Register,
    "admin": True,
    "detail": _OWNERS,
}
_CHANGE: Final[dict[str, Any]] = {
    "method": "POST",
    "tag": "models",
    "admin": True,
    "detail": _OWNERS,
    "answers": {200: Answer("The model as it is then", schema.Model)},
}
_MODELS: Final = Answer("Every registered model", dict[str, list[schema.Model]])
_HEALTH: Final = {
    200: Answer("It is", schema.Health),
    503: Answer("Not now; the detail says what is missing", schema.Health),
}

ENDPOINTS: Final = (
    # --- inference
    Endpoint(
        path="/api/v1/models/{name}/versions/{version}/infer",
        handler=infer,
        summary="Ask one version of a model",
        detail=_DETAIL,
        body=InferBody,
        **_INFER,
    ),
    Endpoint(
        path="/api/v1/models/{name}/infer",
        handler=infer,
        summary="Ask a model",
        detail=_DETAIL,
        body=InferBody,
        **_INFER,
    ),
    Endpoint(
        path="/api/v1/inference",
        handler=infer_by_id,
        summary="Ask the model that the body names",
        detail=_DETAIL + " Without JSON the model is named by the query parameter model_id.",
        body=ModelInferBody,
        **_INFER,
    ),
    # --- models
    Endpoint(
        path="/api/v1/models/register",
        handler=control.register,
        tag="models",
        summary="Load a model and give it a name",
        answers={201: Answer("The model", schema.Model)},
        **_REGISTER,
    ),
    Endpoint(
        path="/api/v1/models/{name}/swap",
        handler=lifecycle.swap,
        summary="Replace a version while it is asked",
        body=schema.Swap,
        **{
            **_CHANGE,
            "detail": "The new one is loaded and warmed beside the old one and takes over once it "
            "has proven itself; if it fails, the old one goes on untouched. " + _OWNERS,
        },
    ),
    Endpoint(
        path="/api/v1/models/{name}/rollback",
        handler=lifecycle.rollback,
        summary="Serve again what was served before the last swap",
        body=schema.Rollback,
        **_CHANGE,
    ),
    Endpoint(
        path="/api/v1/models/{name}/route",
        handler=lifecycle.route,
        summary="Say which version a request gets that names none",
        body=schema.RouteChange,
        **_CHANGE,
    ),
    Endpoint(
        path="/api/v1/models/{name}/load",
        handler=lifecycle.load,
        summary="Load a model now",
        body=schema.Load,
        **_CHANGE,
    ),
    Endpoint(
        path="/api/v1/models/{name}/unload",
        handler=lifecycle.unload,
        summary="Give a model's memory back; the next request loads it again",
        body=schema.Unload,
        **_CHANGE,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/models/{name}/versions/{version}",
        handler=lifecycle.version,
        tag="models",
        summary="One version of a model",
        answers={200: Answer("The version", schema.Version)},
    ),
    Endpoint(
        method="DELETE",
        path="/api/v1/models/{name}/versions/{version}",
        handler=lifecycle.unregister_version,
        tag="models",
        summary="Let a version finish what it holds, and forget it",
        detail=_OWNERS,
        admin=True,
        answers={200: Answer("The model as it was", schema.Model)},
    ),
    Endpoint(
        method="GET",
        path="/api/v1/models",
        handler=control.models,
        tag="models",
        summary="All models",
        answers={200: _MODELS},
    ),
    Endpoint(
        method="GET",
        path="/api/v1/models/{name}",
        handler=control.model,
        tag="models",
        summary="One model",
        answers={200: Answer("The model", schema.Model)},
    ),
    Endpoint(
        method="DELETE",
        path="/api/v1/models/{name}",
        handler=lifecycle.unregister,
        tag="models",
        summary="Let a model finish what it holds, and forget it",
        detail=_OWNERS,
        admin=True,
        answers={200: Answer("The model as it was", schema.Model)},
    ),
    # --- as the original Core had them
    Endpoint(
        path="/models/register",
        handler=control.register_original,
        tag="original",
        summary="Load a model, as the original Core's clients ask for it",
        answers={201: Answer("Its name and the model", schema.Registered)},
        **_REGISTER,
    ),
    Endpoint(
        method="GET",
        path="/models",
        handler=control.models,
        tag="original",
        summary="All models",
        answers={200: _MODELS},
    ),
    Endpoint(
        path="/models/{name}/inference",
        handler=infer_named,
        summary="Ask a model, as the original Core's clients do",
        detail=_DETAIL + ' The names of the inputs may be the keys of the body; {"input": "...", '
        '"input_format": "text"} goes to the one input that takes text.',
        body=InferBody,
        **{**_INFER, "tag": "original"},
    ),
    Endpoint(
        method="GET",
        path="/models/{name}/status",
        handler=control.model_status,
        tag="original",
        summary="State and counters of one model",
        answers={200: Answer("Both", schema.ModelStatus)},
    ),
    # --- as OpenAI and vLLM have them
    *openai.ENDPOINTS,
    # --- plugins
    Endpoint(
        method="GET",
        path="/plugins",
        handler=control.plugins,
        tag="plugins",
        summary="All plugins, the broken ones with the reason",
        answers={200: Answer("Every plugin found", dict[str, list[schema.Plugin]])},
    ),
    Endpoint(
        method="POST",
        path="/plugins/register",
        handler=control.register_plugin,
        tag="plugins",
        summary="Not supported: plugins are installed with pip",
        answers={501: Answer("How a plugin comes to the server", schema.ErrorBody)},
    ),
    Endpoint(
        method="POST",
        path="/api/v1/plugins/{plugin}/swap",
        handler=lifecycle.swap_plugin,
        tag="plugins",
        summary="Serve its models on the plugin that is installed now, while they are asked",
        detail=_OWNERS,
        body=schema.PluginSwap,
        admin=True,
        answers={200: Answer("What became of it", schema.PluginSwapped)},
    ),
    # --- the server
    Endpoint(
        method="GET",
        path="/health",
        handler=control.health,
        tag="server",
        summary="Whether models can be asked, and the version",
        answers=_HEALTH,
    ),
    Endpoint(
        method="GET",
        path="/health/live",
        handler=control.live,
        tag="server",
        summary="Whether the server runs",
        answers={200: Answer("It does", schema.Health)},
    ),
    Endpoint(
        method="GET",
        path="/health/ready",
        handler=control.ready,
        tag="server",
        summary="Whether the data plane answers",
        answers=_HEALTH,
    ),
    Endpoint(
        method="GET",
        path="/stats",
        handler=control.statistics,
        tag="server",
        summary="The daemon's state and every model's counters",
        answers={200: Answer("Both", schema.Statistics)},
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=control.scrape,
        tag="server",
        summary="Prometheus metrics",
        answers={
            200: Answer("Text or OpenMetrics", types=("text/plain", "application/openmetrics-text"))
        },
    ),
    Endpoint(
        method="GET",
        path="/openapi.json",
        handler=control.document,
        tag="server",
        summary="This document",
        answers={200: Answer("OpenAPI 3.1")},
    ),
    Endpoint(
        method="GET",
        path="/docs",
        handler=control.page,
        tag="server",
        summary="A page that shows this document and sends requests",
        answers={200: Answer("HTML", types=("text/html",))},
    ),
)
