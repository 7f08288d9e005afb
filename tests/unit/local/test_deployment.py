"""The local deployment: its configuration, and the changes that it makes to inputs for boto3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pytest

from chromadb_compaction.local.deployment import Deployment, deploy
from chromadb_compaction.local.errors import LocalStackError
from chromadb_compaction.local.resources.clients import AwsClients, aws_shape
from chromadb_compaction.local.resources.policies import for_ministack
from chromadb_compaction.local.resources.storage import refuses_plain_http
from chromadb_compaction.local.stack import proxy_exemption

NOWHERE = AwsClients("http://127.0.0.1:1", "secret")


class Strange(pulumi.CustomResource):
    def __init__(self, name: str, inputs: Mapping[str, Any]) -> None:
        super().__init__("aws:strange/thing:Thing", name, dict(inputs))


def test_the_programs_exports_are_returned_as_text() -> None:
    def program() -> dict[str, Any]:
        return {"A": pulumi.Output.from_input("a").apply(str.upper), "N": 3, "STACK": pulumi.get_stack()}

    assert deploy(program, Deployment("mine"), NOWHERE) == {"A": "A", "N": "3", "STACK": "mine"}


def test_the_programs_configuration_is_the_deployments() -> None:
    def program() -> dict[str, Any]:
        config = pulumi.Config("chromadb")
        return {"passes": config.require("maxPasses"), "image": config.require("imageUri")}

    first = deploy(program, Deployment("one", {"maxPasses": "7"}), NOWHERE)
    second = deploy(program, Deployment("two", {"maxPasses": "8", "imageUri": "other"}), NOWHERE)

    assert first["passes"] == "7"
    assert second == {"passes": "8", "image": "other"}


def test_the_error_for_an_unknown_resource_type_names_the_type() -> None:
    def program() -> dict[str, Any]:
        Strange("thing", {"size": 1})
        return {}

    with pytest.raises(LocalStackError, match="aws:strange/thing:Thing"):
        deploy(program, Deployment(), NOWHERE)


def test_an_error_in_the_program_is_the_deployments_error() -> None:
    def program() -> dict[str, Any]:
        raise pulumi.RunError("chromadb:imageUri is not set")

    with pytest.raises(pulumi.RunError, match="imageUri"):
        deploy(program, Deployment(), NOWHERE)


def test_inputs_are_renamed_as_awss_interfaces_want_them() -> None:
    rule = {"id": "work", "status": "Enabled", "filter": {"prefix": "work/"}, "expiration": {"days": 3}, "tags": None}

    assert aws_shape([rule]) == [
        {"ID": "work", "Status": "Enabled", "Filter": {"Prefix": "work/"}, "Expiration": {"Days": 3}}
    ]


def test_only_the_statement_that_refuses_plain_http_is_left_out() -> None:
    plain = {"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    other = {"Effect": "Deny", "Condition": {"StringNotEquals": {"aws:PrincipalAccount": "1"}}}

    assert refuses_plain_http(plain)
    assert not refuses_plain_http(other)


def test_a_policy_that_allows_a_queues_single_call_allows_its_batch_call() -> None:
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}]}

    [statement] = json.loads(for_ministack(json.dumps(policy)))["Statement"]

    assert statement["Action"] == ["sqs:SendMessage", "sqs:SendMessageBatch"]


def test_calls_to_this_machine_bypass_the_shells_proxy() -> None:
    proxied = {"HTTP_PROXY": "http://proxy:3128", "no_proxy": "intranet"}
    exempt = {"NO_PROXY": "intranet,127.0.0.1", "no_proxy": "intranet,127.0.0.1"}

    assert proxy_exemption({"PATH": "/bin"}) == {}
    assert proxy_exemption(proxied) == exempt
    assert proxy_exemption(proxied | exempt) == exempt
