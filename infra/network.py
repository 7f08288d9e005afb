"""The functions inside the operator's VPC, and the endpoints that they then need."""

from __future__ import annotations

import json
from typing import Any

import pulumi
from pulumi_aws import ec2, lambda_

from infra.config import NAMESPACE, CompactionConfig, ConfigurationRefused
from infra.iam_policies import Document, document
from infra.iam_service_policies import reach, refuse_other_accounts
from infra.names import AWS, StackNames

HTTPS = 443
GATEWAYS = ("s3", "dynamodb")
# The functions also call the queue, and the compactor starts executions. Lambda itself sends logs (metrics are lines
# of the log) and traces, and S3 calls KMS.
INTERFACES = ("sqs", "states")


class FunctionNetwork(pulumi.ComponentResource):
    """A security group that allows only HTTPS out, and endpoints unless the VPC has them."""

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        route_tables: list[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:network:FunctionNetwork", "chromadb-network", opts=opts)
        self._names, self._config = names, config
        group = self._group("chromadb-functions-security-group", f"{names.state_machine}-functions", egress=True)
        if config.vpc_endpoints:
            self._gateways(route_tables)
            self._interfaces(group)
        self.vpc_config = lambda_.FunctionVpcConfigArgs(
            subnet_ids=list(config.subnet_ids), security_group_ids=[group.id]
        )
        self.register_outputs({"security_group": group.id})

    def _group(
        self, logical: str, name: str, *, egress: bool = False, source: ec2.SecurityGroup | None = None
    ) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            logical,
            name=name,
            description="Made by Pulumi for the ChromaDB compaction stack",
            vpc_id=self._config.vpc_id,
            egress=[_HTTPS_OUT] if egress else [],
            ingress=[_https_from(source)] if source else [],
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _gateways(self, route_tables: list[str]) -> None:
        for service in GATEWAYS:
            policy = document(refuse_other_accounts(self._names.account))
            self._endpoint(service, "Gateway", policy, route_table_ids=route_tables)

    def _interfaces(self, functions: ec2.SecurityGroup) -> None:
        group = self._group(
            "chromadb-endpoints-security-group", f"{self._names.state_machine}-endpoints", source=functions
        )
        for service in INTERFACES:
            self._endpoint(
                service,
                "Interface",
                document(reach(service, self._names)),
                subnet_ids=list(self._config.subnet_ids),
                security_group_ids=[group.id],
                private_dns_enabled=True,
            )

    def _endpoint(self, service: str, kind: str, policy: Document, **options: Any) -> None:  # noqa: ANN401 - depends on the kind
        # In China only interface endpoints have another prefix.
        # https://docs.amazonaws.cn/en_us/vpc/latest/privatelink/aws-services-privatelink-support.html
        prefix = self._names.partition.endpoint_prefix if kind == "Interface" else AWS.endpoint_prefix
        ec2.VpcEndpoint(
            f"chromadb-{service}-endpoint",
            vpc_id=self._config.vpc_id or "",
            service_name=f"{prefix}.{self._names.region}.{service}",
            vpc_endpoint_type=kind,
            policy=json.dumps(policy),
            opts=pulumi.ResourceOptions(parent=self),
            **options,
        )


_HTTPS_OUT = ec2.SecurityGroupEgressArgs(protocol="tcp", from_port=HTTPS, to_port=HTTPS, cidr_blocks=["0.0.0.0/0"])


def _https_from(group: ec2.SecurityGroup) -> ec2.SecurityGroupIngressArgs:
    return ec2.SecurityGroupIngressArgs(protocol="tcp", from_port=HTTPS, to_port=HTTPS, security_groups=[group.id])


def read_route_tables(config: CompactionConfig) -> list[str]:
    """Return the subnets' route tables.

    Raises ConfigurationRefused for a subnet of another VPC, and for a second one in a zone: an interface endpoint has
    one subnet of each zone (https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html).
    """
    tables: set[str] = set()
    zones: dict[str, str] = {}
    for subnet in config.subnet_ids:
        found = ec2.get_subnet(id=subnet)
        if found.vpc_id != config.vpc_id:
            raise ConfigurationRefused(
                f"{NAMESPACE}:subnetIds = {subnet!r}: Should be a subnet of {config.vpc_id}, not of {found.vpc_id}"
            )
        other = zones.setdefault(found.availability_zone, subnet)
        if other != subnet:
            raise ConfigurationRefused(
                f"{NAMESPACE}:subnetIds = {subnet!r}: Should be in another zone than {other}, which is in"
                f" {found.availability_zone} too; name one subnet of each zone"
            )
        # A subnet without a table of its own uses the VPC's main table.
        tables.update(_tables(config, "association.subnet-id", subnet) or _tables(config, "association.main", "true"))
    return sorted(tables)


def _tables(config: CompactionConfig, name: str, value: str) -> list[str]:
    route_filter = ec2.GetRouteTablesFilterArgs(name=name, values=[value])
    return list(ec2.get_route_tables(vpc_id=config.vpc_id, filters=[route_filter]).ids)
