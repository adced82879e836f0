"""What the check by the published client finds, so that a test whose requests pass it proves something."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kfp_fake_server import published


@pytest.mark.parametrize(
    ("method", "path", "identifier", "values"),
    [
        ("POST", "/apis/v2beta1/runs", "RunService_CreateRun", {}),
        ("GET", "/apis/v2beta1/runs/a-b", "RunService_GetRun", {"run_id": "a-b"}),
        ("POST", "/apis/v2beta1/runs/a-b:terminate", "RunService_TerminateRun", {"run_id": "a-b"}),
        ("GET", "/apis/v2beta1/healthz", "HealthzService_GetHealthz", {}),
    ],
)
def test_an_operation_is_found_by_its_path(method: str, path: str, identifier: str, values: dict[str, str]) -> None:
    operation = published.find(method, path)

    assert operation is not None
    assert (operation.identifier, operation.path) == (identifier, values)


def test_what_is_no_operation_is_not_found() -> None:
    assert published.find("PUT", "/apis/v2beta1/runs") is None
    assert published.find("GET", "/apis/v1beta1/runs") is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "a"}, "body: field name is not known"),
        ({"display_name": 1}, "body.display_name: 1 is no str"),
        ({"state": "RUNS"}, "body.state: 'RUNS' is none of"),
        ({"created_at": "today"}, "body.created_at: 'today' is no point in time"),
        ({"runtime_config": {"parameter": {}}}, "body.runtime_config: field parameter is not known"),
        ([], "body: [] is no object"),
    ],
)
def test_what_the_client_does_not_know_is_wrong(body: Any, said: str) -> None:
    operation = published.find("POST", "/apis/v2beta1/runs")
    assert operation is not None

    assert any(re.match(re.escape(said), each) for each in operation.wrong_in_request({}, body))
    assert any(said.replace("body", "reply", 1) in each for each in operation.wrong_in_reply(200, body))


def test_a_parameter_that_the_client_does_not_know_is_wrong() -> None:
    operation = published.find("GET", "/apis/v2beta1/runs")
    assert operation is not None

    assert operation.wrong_in_request({"page_size": "3", "filter": "a"}, None) == []
    assert operation.wrong_in_request({"size": "3"}, None) == ["query parameter size is not known"]
    assert operation.wrong_in_request({"page_size": "a"}, None) == ["query parameter page_size is no integer"]


def test_an_error_is_compared_with_the_model_of_errors() -> None:
    operation = published.find("GET", "/apis/v2beta1/runs/a")
    assert operation is not None

    assert operation.wrong_in_reply(404, {"code": 5, "message": "absent", "details": []}) == []
    assert operation.wrong_in_reply(404, {"error": "absent"}) == ["reply: field error is not known"]
