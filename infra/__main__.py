"""The program that `pulumi up` runs."""

from __future__ import annotations

import pulumi

from infra.program import declare

for name, value in declare().items():
    pulumi.export(name, value)
