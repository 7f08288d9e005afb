"""Single components can be deployed by names that are the same in every stack."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from tests.infra.declared import TASKS, Declared, declared


def targeted(pattern: str, stack: Declared | None = None) -> set[str]:
    """Return the types of the resources that `pulumi up --target '**::<pattern>'` matches."""
    found = [r for r in (stack or declared()).resources if fnmatchcase(r.name, pattern)]
    return {r.type.rpartition(":")[2] for r in found if r.type.startswith("aws:")}


def test_the_bucket_alone_and_with_its_parts_can_be_targets() -> None:
    assert targeted("chromadb-vectors-bucket") == {"Bucket"}
    assert targeted("chromadb-vectors-bucket*") == {
        "Bucket",
        "BucketVersioning",
        "BucketServerSideEncryptionConfiguration",
        "BucketPublicAccessBlock",
        "BucketOwnershipControls",
        "BucketPolicy",
        "BucketLifecycleConfiguration",
    }


@pytest.mark.parametrize("task", TASKS)
def test_a_function_alone_and_with_its_role_and_log_can_be_targets(task: str) -> None:
    assert targeted(f"chromadb-{task}-lambda") == {"Function"}
    assert targeted(f"chromadb-{task}-lambda*") == {"Function", "Alias", "Role", "RolePolicy", "LogGroup"}


def test_no_logical_name_contains_the_stack_name() -> None:
    names = {name for stack in ("dev", "elsewhere") for name in (r.name for r in declared(stack).resources)}
    assert names == {r.name for r in declared().resources}


def test_every_logical_name_starts_with_chromadb() -> None:
    assert all(r.name.startswith("chromadb-") for r in declared().resources)
