"""The OpenAPI document of the HTTP API."""

from __future__ import annotations

from typing import Any

import rqd
from rqd.model.records import JobStatus

_DURATION = {
    "type": ["number", "string"],
    "description": 'Seconds, or a text such as "30s", "10m", "1h"; -1 for no limit.',
}
_SIZE = {"type": ["integer", "string"], "description": 'Bytes, or a text such as "512M".'}
_INSTANT = {"type": ["string", "null"], "format": "date-time"}
_STATUS = {"type": "string", "enum": [str(one) for one in JobStatus]}

_CALL = {
    "type": "object",
    "required": ["function", "queue"],
    "additionalProperties": False,
    "properties": {
        "function": {
            "type": "string",
            "description": "Dotted name of a Python function: shop.tasks.send.",
        },
        "queue": {"type": "string"},
        "args": {"type": "array", "description": "Arguments by position."},
        "kwargs": {"type": "object", "description": "Arguments by name."},
        "at": {
            "type": "string",
            "format": "date-time",
            "description": "When it may start, with a zone; not together with delay.",
        },
        "delay": _DURATION | {"description": "How long from now it waits before it may start."},
        "retry": {
            "description": "How often it runs again after a failure, or more than that.",
            "oneOf": [
                {"type": "integer", "minimum": 1},
                {
                    "type": "object",
                    "required": ["max"],
                    "additionalProperties": False,
                    "properties": {
                        "max": {"type": "integer", "minimum": 1},
                        "interval": {
                            "type": ["number", "array"],
                            "items": {"type": "number"},
                            "description": "Seconds before each retry, or a list of them.",
                        },
                        "backoff": {"type": "number", "minimum": 1},
                        "longest": {"type": "number"},
                        "jitter": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                },
            ],
        },
        "job_timeout": _DURATION,
        "ttl": _DURATION,
        "result_ttl": _DURATION,
        "failure_ttl": _DURATION,
        "description": {"type": "string"},
        "meta": {"type": "object"},
        "priority": {"type": "integer", "minimum": -4095, "maximum": 4095},
        "at_front": {"type": "boolean"},
        "max_memory": _SIZE,
        "max_cpu": _DURATION,
    },
}
_JOB = {
    "type": "object",
    "required": ["id", "status", "queue", "function"],
    "properties": {
        "id": {"type": "string"},
        "status": _STATUS,
        "queue": {"type": "string"},
        "function": {"type": "string"},
        **dict.fromkeys(("created", "due", "enqueued", "started", "ended"), _INSTANT),
        "attempt": {"type": "integer"},
        "retries_left": {"type": "integer"},
        "progress": {
            "type": ["object", "null"],
            "properties": {
                "fraction": {"type": ["number", "null"]},
                "message": {"type": ["string", "null"]},
            },
        },
        "cause": {"type": ["string", "null"], "description": "Why the latest attempt failed."},
    },
}
_RESULT = {
    "type": "object",
    "required": ["id", "status", "result"],
    "properties": {
        "id": {"type": "string"},
        "status": _STATUS,
        "result": {"description": "The value that the function returned; null unless finished."},
        "cause": {"type": ["string", "null"]},
    },
}
_PROBLEM = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One line that says what to do."},
    },
}
_PROBLEMS = {
    "400": "The request can't be read.",
    "401": "No token, or an unknown one.",
    "403": "The token may not do this, or the API is off.",
    "404": "There is no such job in the token's scope.",
    "409": "The job's state does not allow it.",
    "410": "What was asked for is gone by now.",
    "413": "The body is too large.",
    "415": "The body is not JSON by its Content-Type.",
    "422": "A value can't be used, or the Idempotency-Key came with another body before.",
    "503": "Redis does not answer, or too many requests wait: try again.",
}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "Seconds to wait for the job's end.",
    "schema": {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Sent again within a day, it returns the same job.",
    "schema": {"type": "string", "maxLength": 255},
}


def document() -> dict[str, Any]:
    """Returns the document, as OpenAPI 3.1."""
    job = "#/components/schemas/Job"
    return {
        "openapi": "3.1.0",
        "info": {"title": "rqd", "version": rqd.__version__},
        "servers": [{"url": "."}],
        "security": [{"token": []}],
        "paths": {
            "/jobs": {
                "post": {
                    "operationId": "enqueue",
                    "summary": "Enqueue a job.",
                    "parameters": [_KEY],
                    "requestBody": _content("#/components/schemas/Call") | {"required": True},
                    "responses": {
                        "201": _answer("The job is enqueued.", job),
                        "200": _answer("An earlier request with this key enqueued it.", job),
                    }
                    | _problems("400", "401", "403", "409", "410", "413", "415", "422", "503"),
                }
            },
            "/jobs/{id}": {
                "parameters": [_ID],
                "get": {
                    "operationId": "show",
                    "summary": "Show a job.",
                    "responses": {"200": _answer("The job.", job)}
                    | _problems("401", "403", "404", "503"),
                },
            },
            "/jobs/{id}/result": {
                "parameters": [_ID],
                "get": {
                    "operationId": "result",
                    "summary": "Return a job's result, and wait for it.",
                    "parameters": [_WAIT],
                    "responses": {
                        "200": _answer("The job has ended.", "#/components/schemas/Result"),
                        "202": _answer("It has not ended yet.", "#/components/schemas/Pending"),
                    }
                    | _problems("401", "403", "404", "409", "410", "422", "503"),
                },
            },
            "/jobs/{id}/cancel": {
                "parameters": [_ID],
                "post": {
                    "operationId": "cancel",
                    "summary": "Cancel a waiting job, or stop a running one.",
                    "requestBody": _content("#/components/schemas/Cancel"),
                    "responses": {"200": _answer("The job.", job)}
                    | _problems("401", "403", "404", "409", "413", "415", "422", "503"),
                },
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Call": _CALL,
                "Job": _JOB,
                "Result": _RESULT,
                "Pending": {
                    "type": "object",
                    "required": ["id", "status"],
                    "properties": {"id": {"type": "string"}, "status": _STATUS},
                },
                "Cancel": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"stop": {"type": "boolean", "default": False}},
                },
                "Problem": _PROBLEM,
            },
        },
    }


def _content(schema: str, kind: str = "application/json") -> dict[str, Any]:
    return {"content": {kind: {"schema": {"$ref": schema}}}}


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description} | _content(schema)


def _problems(*codes: str) -> dict[str, Any]:
    content = _content("#/components/schemas/Problem", "application/problem+json")
    return {code: {"description": _PROBLEMS[code]} | content for code in codes}
