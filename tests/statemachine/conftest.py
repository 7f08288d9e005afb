"""The engines that run the state machine, and the fake functions that they call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import boto3
import pytest

from tests.statemachine import definition as asl
from tests.statemachine.engines import REGION, Engine, Finished
from tests.statemachine.fake_functions import FakeFunctions
from tests.statemachine.lambda_endpoint import lambda_endpoint
from tests.statemachine.ministack_engine import ministack_engine
from tests.statemachine.moto_engine import moto_engine

OTHER_ENGINE = "AWS_ENDPOINT_URL_SFN"
OTHER_ENGINES_LAMBDA_PORT = "STATE_MACHINE_TESTS_LAMBDA_PORT"
"""The port at which Step Functions Local looks for functions (--lambda-endpoint). 0: any free port."""

ENGINES = ["moto", "ministack", *(["other"] if os.environ.get(OTHER_ENGINE) else [])]

RunMachine = Callable[..., Finished]


@pytest.fixture(scope="session")
def all_functions() -> FakeFunctions:
    """The functions of all tests, because deployed functions call them during the whole session."""
    return FakeFunctions()


@pytest.fixture(scope="session")
def lambda_port(all_functions: FakeFunctions) -> Iterator[int]:
    with lambda_endpoint(all_functions.invoke, int(os.environ.get(OTHER_ENGINES_LAMBDA_PORT, "0"))) as port:
        yield port


@pytest.fixture(scope="session", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, lambda_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Each available engine in turn."""
    engines = {
        "moto": lambda: moto_engine(lambda_port),
        "ministack": lambda: ministack_engine(tmp_path_factory.mktemp("ministack"), lambda_port),
        "other": other_engine,
    }
    with engines[request.param]() as engine:
        yield engine


def other_engine() -> AbstractContextManager[Engine]:
    """Return the engine in the environment, e.g. Step Functions Local."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    client = session.client("stepfunctions", endpoint_url=os.environ[OTHER_ENGINE])
    return nullcontext(Engine("other", client, shortest_retry=1))


@pytest.fixture
def functions(all_functions: FakeFunctions) -> FakeFunctions:
    """The functions of one test, without behaviours or calls."""
    all_functions.reset()
    return all_functions


@pytest.fixture
def run(engine: Engine, functions: FakeFunctions) -> RunMachine:
    """Run a copy of the committed definition that has short retries. `change` can alter the copy."""
    assert functions.called() == []

    def run_machine(payload: Any = None, change: Callable[[asl.Json], object] | None = None) -> Finished:
        definition = asl.with_quick_retries(asl.filled(engine.function_arn), engine.shortest_retry)
        if change:
            change(definition)
        return engine.run(definition, payload)

    return run_machine
