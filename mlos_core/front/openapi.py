# SPDX-License-Identifier: BUSL-1.1
"""The OpenAPI document, made of the same table as the routes, and the page that shows it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import msgspec

from mlos_core import __version__
from mlos_core.front.endpoint import Answer, Endpoint

_PATH_PARAMETERS = {
    "name": "A model's name. It may contain slashes, as / or as %2F.",
    "plugin": "A plugin's name.",
    "version": "One of the model's versions.",
}
_REFERENCE = "#/components/schemas/{name}"


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `endpoints`."""
    kinds = _kinds(endpoints)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schema_of = {str(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint, schema_of
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MLOS Core",
            "version": __version__,
            "description": "Models in other processes. Every error has the form of ErrorBody, "
            "or of OpenAI's on the routes that are OpenAI's.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _kinds(endpoints: Iterable[Endpoint]) -> list[Any]:
    kinds: dict[str, Any] = {}
    for endpoint in endpoints:
        answers = (answer.kind for answer in endpoint.answers.values())
        for kind in (endpoint.error, endpoint.body, *answers):
            if kind is not None:
                kinds[str(kind)] = kind
    return list(kinds.values())


def _operation(endpoint: Endpoint, schema_of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _identifier(endpoint),
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.detail,
        "parameters": _parameters(endpoint),
        "responses": {
            str(status): _response(answer, schema_of)
            for status, answer in sorted(endpoint.answers.items())
        },
    }
    error = {"application/json": {"schema": schema_of[str(endpoint.error)]}}
    operation["responses"]["default"] = {"description": "An error", "content": error}
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": _content(endpoint.body_types, schema_of[str(endpoint.body)]),
        }
    return operation


def _identifier(endpoint: Endpoint) -> str:
    words = re.findall(r"[A-Za-z0-9]+", endpoint.path.replace("{name}", "name"))
    return "_".join((endpoint.method.lower(), *words))


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name, text in _PATH_PARAMETERS.items():
        if f"{{{name}}}" in endpoint.path:
            parameters.append(
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "description": text,
                    "schema": {"type": "string"},
                }
            )
    for name, kind, text in endpoint.query:
        place = "header" if name.startswith("X-") else "query"
        schema = {"type": kind}
        parameters.append({"name": name, "in": place, "description": text, "schema": schema})
    return parameters


def _response(answer: Answer, schema_of: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": answer.text}
    schema = schema_of[str(answer.kind)] if answer.kind is not None else {}
    response["content"] = _content(answer.types, schema)
    return response


def _content(types: Sequence[str], schema: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": schema} if kind == "application/json" else {} for kind in types}


def page() -> tuple[str, str]:
    """The page that shows the document, and the content security policy it goes with.

    It needs nothing but this server: no script or style from anywhere else.
    """
    html = resources.files(__package__).joinpath("docs.html").read_text("utf-8")
    script = html.split("<script>", 1)[1].split("</script>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy
