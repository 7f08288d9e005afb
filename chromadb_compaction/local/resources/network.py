"""Security groups and endpoints. The server stores and returns them, but routes nothing by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chromadb_compaction.local.resources.clients import Created, Creator, Inputs, Target


def security_group(target: Target, inputs: Inputs) -> Created:
    """aws.ec2.SecurityGroup. A group with the same name and VPC is used again."""
    ec2, name = target.client("ec2"), inputs["name"]
    named = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [inputs["vpcId"]]}]
    existing = ec2.describe_security_groups(Filters=named)["SecurityGroups"]
    if existing:
        identity = existing[0]["GroupId"]
    else:
        made = ec2.create_security_group(GroupName=name, Description=inputs["description"], VpcId=inputs["vpcId"])
        identity = made["GroupId"]
        if inputs.get("ingress"):
            permissions = [_permission(rule) for rule in inputs["ingress"]]
            ec2.authorize_security_group_ingress(GroupId=identity, IpPermissions=permissions)
    return Created(identity, {**inputs, "arn": target.arn("ec2", f"security-group/{identity}")})


def _permission(rule: dict[str, Any]) -> dict[str, Any]:
    groups = [{"GroupId": group} for group in rule.get("securityGroups") or []]
    ranges = [{"CidrIp": cidr} for cidr in rule.get("cidrBlocks") or []]
    return {
        "IpProtocol": rule["protocol"],
        "FromPort": rule["fromPort"],
        "ToPort": rule["toPort"],
        "UserIdGroupPairs": groups,
        "IpRanges": ranges,
    }


def vpc_endpoint(target: Target, inputs: Inputs) -> Created:
    """aws.ec2.VpcEndpoint. An endpoint with the same VPC and service is used again."""
    ec2, service = target.client("ec2"), inputs["serviceName"]
    existing = [
        endpoint["VpcEndpointId"]
        for endpoint in ec2.describe_vpc_endpoints()["VpcEndpoints"]
        if (endpoint["VpcId"], endpoint["ServiceName"]) == (inputs["vpcId"], service)
    ]
    if existing:
        return Created(existing[0], inputs)
    optional = {
        "RouteTableIds": inputs.get("routeTableIds"),
        "SubnetIds": inputs.get("subnetIds"),
        "SecurityGroupIds": inputs.get("securityGroupIds"),
        "PrivateDnsEnabled": inputs.get("privateDnsEnabled"),
        "PolicyDocument": inputs.get("policy"),
    }
    answer = ec2.create_vpc_endpoint(
        VpcId=inputs["vpcId"],
        ServiceName=service,
        VpcEndpointType=inputs["vpcEndpointType"],
        **{name: value for name, value in optional.items() if value},
    )
    return Created(answer["VpcEndpoint"]["VpcEndpointId"], inputs)


def subnet(target: Target, arguments: Inputs) -> Inputs:
    """aws.ec2.get_subnet, by its id."""
    (found,) = target.client("ec2").describe_subnets(SubnetIds=[arguments["id"]])["Subnets"]
    return {"id": found["SubnetId"], "vpcId": found["VpcId"], "availabilityZone": found["AvailabilityZone"]}


def route_tables(target: Target, arguments: Inputs) -> Inputs:
    """aws.ec2.get_route_tables of a VPC. The server ignores filters on associations, so they are applied here."""
    (chosen,) = arguments["filters"]
    of_vpc = [{"Name": "vpc-id", "Values": [arguments["vpcId"]]}]
    tables = target.client("ec2").describe_route_tables(Filters=of_vpc)["RouteTables"]
    found = [
        table["RouteTableId"]
        for table in tables
        if any(_matches(association, chosen) for association in table["Associations"])
    ]
    return {"id": target.aws.region, "ids": found}


def _matches(association: dict[str, Any], chosen: dict[str, Any]) -> bool:
    if chosen["name"] == "association.main":
        return bool(association.get("Main"))
    return association.get("SubnetId") in chosen["values"]


CREATORS: dict[str, Creator] = {
    "aws:ec2/securityGroup:SecurityGroup": security_group,
    "aws:ec2/vpcEndpoint:VpcEndpoint": vpc_endpoint,
}
LOOKUPS: dict[str, Callable[[Target, Inputs], Inputs]] = {
    "aws:ec2/getSubnet:getSubnet": subnet,
    "aws:ec2/getRouteTables:getRouteTables": route_tables,
}
