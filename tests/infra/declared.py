"""Runs the Pulumi program against a recorder, and returns the resources that it declared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks
from pulumi.runtime.mocks import MockMonitor

from chromadb_compaction.local.deployment import run_program
from infra.config_values import Task
from infra.program import declare

ACCOUNT = "123456789012"
REGION = "eu-west-1"
DIGEST = f"sha256:{'1' * 64}"
REPOSITORY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/chromadb-compaction"
IMAGE = f"{REPOSITORY}@{DIGEST}"
BASE_IMAGE = f"public.ecr.aws/lambda/python@sha256:{'2' * 64}"
CHECKOUT = Path(__file__).parents[2]
TASKS: tuple[str, ...] = get_args(Task)
VERSION = "7"
"""The version that each function publishes."""
VPC = "vpc-0123abcd"
SUBNETS = {
    "subnet-0000000a": {"vpcId": VPC, "availabilityZone": "eu-west-1a"},
    "subnet-0000000b": {"vpcId": VPC, "availabilityZone": "eu-west-1b"},
    "subnet-0000000c": {"vpcId": "vpc-44444444", "availabilityZone": "eu-west-1c"},
    "subnet-0000000d": {"vpcId": VPC, "availabilityZone": "eu-west-1a"},
}
# The first subnet has its own route table; the second uses the VPC's main table.
ROUTE_TABLES = {("association.subnet-id", "subnet-0000000a"): ["rtb-a"], ("association.main", "true"): ["rtb-main"]}
EXISTING_TABLE: Mapping[str, Any] = MappingProxyType({"hashKey": "PK", "rangeKey": "SK"})

PARTITIONS = {
    "aws": {"partition": "aws", "dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"},
    "aws-cn": {"partition": "aws-cn", "dnsSuffix": "amazonaws.com.cn", "reverseDnsPrefix": "cn.com.amazonaws"},
    "aws-us-gov": {"partition": "aws-us-gov", "dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"},
}
_ARNS = {
    "aws:s3/bucket:Bucket": "arn:aws:s3:::{bucket}",
    "aws:sqs/queue:Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{name}}",
    "aws:dynamodb/table:Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{name}}",
    "aws:iam/role:Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "aws:iam/policy:Policy": f"arn:aws:iam::{ACCOUNT}:policy/{{name}}",
    "aws:lambda/function:Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{name}}",
    "aws:lambda/alias:Alias": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{functionName}}:{{name}}",
    "aws:sfn/stateMachine:StateMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{{name}}",
    "aws:sns/topic:Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{name}}",
    "aws:cloudwatch/logGroup:LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{name}}",
    "aws:cloudwatch/eventRule:EventRule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{{name}}",
    "aws:cloudwatch/metricAlarm:MetricAlarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{{name}}",
}


class Resource(NamedTuple):
    """One declared resource. Pulumi refuses to delete a `protected` one, and forgets a `retained` one instead."""

    type: str
    name: str
    inputs: dict[str, Any]
    protected: bool = False
    retained: bool = False


class Declared(NamedTuple):
    """All resources that one run of the program declared, and its outputs."""

    resources: list[Resource]
    outputs: dict[str, str]

    def of_type(self, kind: str) -> Iterator[Resource]:
        """Yield the resources of a type. `kind` is the last part of its token, e.g. `Queue`."""
        return (resource for resource in self.resources if resource.type.rpartition(":")[2] == kind)

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """Return the inputs of the only resource of that type (and with that physical name, if given)."""
        found = [r.inputs for r in self.of_type(kind) if name is None or r.inputs.get("name") == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def function(self, task: str, stack: str = "dev") -> dict[str, Any]:
        """Return the inputs of one function."""
        return self.one("Function", f"chromadb-{task}-{stack}")

    def statements(self, role: str) -> list[dict[str, Any]]:
        """Return the policy statements of a role."""
        policies = [p for p in self.of_type("RolePolicy") if p.inputs["role"] == role]
        return [statement for p in policies for statement in json.loads(p.inputs["policy"])["Statement"]]


class Recorder(Mocks):
    """Records every resource, and gives it an ARN as AWS would."""

    def __init__(self, existing_table: Mapping[str, Any], partition: str = "aws") -> None:
        self.resources: list[Resource] = []
        self.options: dict[tuple[str, str], tuple[bool, bool]] = {}
        self._existing_table = existing_table
        self._partition = partition

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Record the resource."""
        inputs = {name: _plain(value) for name, value in args.inputs.items()}
        self.resources.append(Resource(args.typ, args.name, inputs, *self.options[args.typ, args.name]))
        added: dict[str, Any] = {"arn": self._arn(args.typ, inputs)} if args.typ in _ARNS else {}
        if args.typ == "aws:lambda/function:Function":
            added |= {"version": VERSION, "qualifiedArn": f"{added['arn']}:{VERSION}"}
        if args.typ == "aws:ecr/repository:Repository":
            added |= {
                "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{inputs['name']}",
                "registryId": ACCOUNT,
            }
        if args.typ == "docker-build:index:Image":
            added["digest"] = DIGEST
        if args.typ == "aws:sqs/queue:Queue":
            added["url"] = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{inputs['name']}"
        return args.name, {**args.inputs, **added}

    def _arn(self, kind: str, inputs: dict[str, Any]) -> str:
        return _ARNS[kind].format(**inputs).replace("arn:aws:", f"arn:{self._partition}:")

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        """Return the account, the region, and the tables and subnets that exist."""
        results: dict[str, dict[str, Any]] = {
            "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT},
            "aws:index/getRegion:getRegion": {"region": REGION},
            "aws:index/getPartition:getPartition": PARTITIONS[self._partition],
            "aws:dynamodb/getTable:getTable": {
                "arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{args.args.get('name')}",
                **self._existing_table,
            },
            "aws:ecr/getAuthorizationToken:getAuthorizationToken": {"userName": "AWS", "password": "a token"},
            "aws:ec2/getSubnet:getSubnet": SUBNETS.get(args.args.get("id", ""), {}),
            "aws:ec2/getRouteTables:getRouteTables": {"ids": _route_tables(args.args.get("filters", []))},
        }
        return results[args.token], []


class OptionsMonitor(MockMonitor):
    """Passes a recorder the options of each resource, which mocks do not get."""

    mocks: Recorder

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        """Register one resource."""
        self.mocks.options[request.type, request.name] = (request.protect, request.retainOnDelete)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


def _route_tables(filters: list[dict[str, Any]]) -> list[str]:
    return [table for each in filters for table in ROUTE_TABLES.get((each["name"], each["values"][0]), [])]


def declared(stack: str = "dev", existing_table: Mapping[str, Any] = EXISTING_TABLE, /, **config: str) -> Declared:
    """Return the resources of `stack` under `config`, whose names are those of the namespace `chromadb:`."""
    return _declared(stack, tuple(sorted(existing_table.items())), tuple(sorted(config.items())))


@cache
def declared_in(partition: str, /, **config: str) -> Declared:
    """Return the resources of the stack `dev` in another partition: aws-cn or aws-us-gov."""
    recorder = Recorder(EXISTING_TABLE, partition)
    return Declared(recorder.resources, run_with(recorder, declare, **config))


@cache
def _declared(stack: str, existing_table: tuple[tuple[str, Any], ...], config: tuple[tuple[str, str], ...]) -> Declared:
    recorder = Recorder(dict(existing_table))
    outputs = run_with(recorder, declare, stack, **dict(config))
    return Declared(recorder.resources, outputs)


def run_with(
    recorder: Recorder, program: Callable[[], Mapping[str, Any]], stack: str = "dev", /, **config: str
) -> dict[str, str]:
    """Run `program` as Pulumi would, with `recorder` in place of AWS, and return its exports."""
    image = {} if "baseImage" in config else {"imageUri": IMAGE}
    settings = {**image, "packageDir": str(CHECKOUT), **config}
    return run_program(program, recorder, stack, settings, monitor=OptionsMonitor)


def _plain(value: Any) -> Any:
    # Protobuf passes every number as a float.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
