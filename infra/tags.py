"""The tags of every resource, by which AWS can report and limit the stack's cost."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from infra.config import CompactionConfig
from infra.names import StackNames

STACK_TAG = "chromadb-stack"


def tag_resources(names: StackNames, config: CompactionConfig) -> None:
    """Give the stack's name and the configured tags to every resource that is declared from now on and takes tags."""
    tags = {**config.tags, STACK_TAG: names.stack}
    pulumi.runtime.register_stack_transformation(lambda declared: _tagged(declared, tags))


def _tagged(
    declared: pulumi.ResourceTransformationArgs, tags: Mapping[str, str]
) -> pulumi.ResourceTransformationResult | None:
    # The AWS provider's classes have this property if AWS tags such a resource. An image's `tags` are something else.
    takes_tags = isinstance(getattr(type(declared.resource), "tags", None), property)
    if not declared.type_.startswith("aws:") or not takes_tags:
        return None
    return pulumi.ResourceTransformationResult({**declared.props, "tags": tags}, declared.opts)
