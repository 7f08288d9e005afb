"""The engines that run the state machine, and the script that its functions follow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import boto3
import pytest

from tests.statemachine import definition as asl
from tests.statemachine.engines import REGION, Engine, Finished
from tests.statemachine.lambda_endpoint import Answer, lambda_endpoint
from tests.statemachine.ministack_engine import ministack_engine
from tests.statemachine.moto_engine import moto_engine
from tests.statemachine.script import Script

OTHER_ENGINE = "AWS_ENDPOINT_URL_SFN"
OTHER_ENGINES_LAMBDA_PORT = "STATE_MACHINE_TESTS_LAMBDA_PORT"
"""Where Step Functions Local was told (--lambda-endpoint) to find functions; 0: any port, for our own engines."""

ENGINES = ["moto", "ministack", *(["other"] if OTHER_ENGINE in os.environ else [])]

RunMachine = Callable[..., Finished]


class Stage:
    """Where the script of the test now running stands; functions outlive tests, so they ask here each time."""

    script = Script()

    def invoke(self, function: str, event: Any) -> Answer:
        """Answer by the present script."""
        return self.script.invoke(function, event)


@pytest.fixture(scope="session")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="session")
def lambda_port(stage: Stage) -> Iterator[int]:
    with lambda_endpoint(stage.invoke, int(os.environ.get(OTHER_ENGINES_LAMBDA_PORT, "0"))) as port:
        yield port


@pytest.fixture(scope="session", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, lambda_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Every interpreter at hand, one after the other."""
    engines = {
        "moto": lambda: moto_engine(lambda_port),
        "ministack": lambda: ministack_engine(tmp_path_factory.mktemp("ministack"), lambda_port),
        "other": other_engine,
    }
    with engines[request.param]() as engine:
        yield engine


def other_engine() -> AbstractContextManager[Engine]:
    """Give the engine that the environment names, say Step Functions Local."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    client = session.client("stepfunctions", endpoint_url=os.environ[OTHER_ENGINE])
    return nullcontext(Engine("other", client, shortest_retry=1))


@pytest.fixture
def script(stage: Stage) -> Script:
    stage.script = Script()
    return stage.script


@pytest.fixture
def run(engine: Engine, script: Script) -> RunMachine:
    """Run the committed definition, its retries quickened, after `changed` has altered the copy."""
    assert script.called() == []

    def run_machine(payload: Any = None, changed: Callable[[asl.Json], object] | None = None) -> Finished:
        definition = asl.with_quick_retries(asl.filled(engine.function_arn), engine.shortest_retry)
        if changed:
            changed(definition)
        return engine.run(definition, payload)

    return run_machine
