"""Requests made up from the OpenAPI document: none of them is answered otherwise than it says."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from keras_peft.serve.app import create
from serve.fake import Service, serving

# One adapter, so that requests without a name reach it.
_SCHEMA = schemathesis.openapi.from_asgi(
    "/openapi.json", create(serving(Service(names=("single",)), host="0.0.0.0", without_keys=True))
)


@_SCHEMA.parametrize()
@settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
def test_what_the_document_says_is_so(case):
    if "name" in case.path_parameters:
        case.path_parameters["name"] = "single"
    if isinstance(case.body, dict):
        for name in ("adapter_id", "model"):
            case.body.pop(name, None)
    case.call_and_validate(
        checks=[
            not_a_server_error,
            response_schema_conformance,
            status_code_conformance,
            content_type_conformance,
        ]
    )
