"""The options of resources that hold data: Pulumi refuses to delete or replace them. See decision 15."""

from __future__ import annotations

from typing import Any

import pulumi

from infra.config import CompactionConfig


def keep_data(config: CompactionConfig, parent: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:  # noqa: ANN401 - Pulumi's options
    """Return the options of a resource that holds data, or without which data is less safe.

    `protect` refuses to delete or replace it. `retain_on_delete` keeps it in AWS even if it is unprotected by hand.
    """
    kept = config.protect_data
    return pulumi.ResourceOptions(parent=parent, protect=kept, retain_on_delete=kept, **options)
