"""Whatever its own OpenAPI allows, and much that it does not, the service answers as it says."""

import os
import shutil
import socket
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from uvicorn import Config, Server

from twinrank.service.app import create_app
from twinrank.service.routes import api, probes
from twinrank.service.settings import Settings
from twinrank.service.text_routes import texts

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TWINRANK_FUZZ", "20"))  # of each route
ROUTES = [
    (route.path_format, method)
    for route in (*api.routes, *texts.routes, *probes.routes)
    if route.include_in_schema
    for method in sorted(route.methods)
]
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.fixture(scope="module")
def schema(trained, tmp_path_factory):
    """Of a service whose ranker the fuzzer may change."""
    home = tmp_path_factory.mktemp("fuzzed")
    folder = shutil.copytree(trained, home / "ranker")
    app = create_app(Settings(ranker=folder, feedback=str(home / "feedback.db")))
    server = Server(Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield schemathesis.openapi.from_url(
            f"http://127.0.0.1:{listening.getsockname()[1]}/openapi.json"
        )
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_answer_is_one_that_openapi_tells_of(schema, path, method, mode):
    operation = schema[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def fuzz(case):
        response = case.call()
        case.validate_response(response, checks=CHECKS)

    try:
        fuzz()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing can be wrong with it
