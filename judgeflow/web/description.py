"""The OpenAPI description of what trainers ask for, made from the types that are read and written."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from judgeflow import __version__
from judgeflow.client.wire import (
    ANSWER,
    ATTEMPT,
    LINE,
    LINES,
    PART_ANSWER,
    PART_PATH,
    PART_REQUEST,
    REQUEST,
    REWARD_ANSWER,
    REWARD_PATH,
    REWARD_REQUEST,
    ROUTE_PATH,
    STREAM_PATH,
)

DESCRIPTION_PATH = "/openapi.json"

_ERRORS = {
    "400": "What is wrong with the request, and where.",
    "401": "The token is missing, or another one.",
    "413": "The request is too large.",
    "500": "The step failed.",
    "503": "Too many requests, a database that cannot be used now, or a service that is being closed: ask again after Retry-After seconds.",
}


@cache
def description() -> dict[str, Any]:
    """Return the description, as an OpenAPI 3.1 document."""
    schemas: dict[str, Any] = {"Error": _error_schema()}
    asked, answer = _schema(REQUEST, "validation", schemas), _schema(ANSWER, "serialization", schemas)
    line = _schema(LINE, "serialization", schemas)
    sample, worth = _schema(REWARD_REQUEST, "validation", schemas), _schema(REWARD_ANSWER, "serialization", schemas)
    part, worths = _schema(PART_REQUEST, "validation", schemas), _schema(PART_ANSWER, "serialization", schemas)
    once = {"name": ATTEMPT, "in": "header", "schema": {"type": "string"}, "description": "Requests of one name are answered once."}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "judgeflow",
            "version": __version__,
            "description": "Which response is better: by a preference model where it is certain, by a strong judge where it is not.",
        },
        "paths": {
            ROUTE_PATH: {"post": _operation("Route pairs, or groups, as one step.", "route", asked, answer, parameters=[once])},
            STREAM_PATH: {"post": _operation("The same, outcome by outcome as they become final.", "stream", asked, line, kind=LINES)},
            REWARD_PATH: {"post": _operation("One response; answered when its siblings have come.", "reward", sample, worth)},
            PART_PATH: {"post": _operation("One rank's part of a batch; answered when all ranks have come.", "part", part, worths)},
        },
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _operation(summary: str, name: str, asked: Any, answer: Any, *, kind: str = "application/json", **more: Any) -> dict[str, Any]:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {
            "200": {"description": "The outcomes.", "content": {kind: {"schema": answer}}},
            **{status: {"description": meaning, "content": refusal} for status, meaning in _ERRORS.items()},
        },
        **more,
    }


def _schema(adapter: TypeAdapter[Any], mode: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return a reference to the schema of a type, and put it and those that it refers to among `schemas`."""
    found = adapter.json_schema(mode=mode, ref_template="#/components/schemas/{model}")
    schemas |= found.pop("$defs", {})
    schemas[found["title"]] = found
    return {"$ref": f"#/components/schemas/{found['title']}"}


def _error_schema() -> dict[str, Any]:
    message = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    return {"title": "Error", "type": "object", "properties": {"error": message}, "required": ["error"]}
