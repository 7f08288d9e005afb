"""Every call that a role does not allow is denied: tried with each role's credentials on a running stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import pytest

from tests.e2e.attempts import COMPACTED, DELTA, FILE, KEYS, MARKER, POINTER, QUARANTINED, Role, is_denied
from tests.e2e.conftest import StackPool
from tests.stack import Stack

pytestmark = pytest.mark.e2e

ARCHIVING = (
    "get delta/*",
    "get compacted/*",
    "get quarantine/*",
    "get snapshot/*",
    "put delta/*",
    "copy snapshot to delta",
    "put compacted/*",
    f"put {MARKER}",
    "delete delta/*",
)
LISTING = (
    "list everything",
    "list delta/",
    "list compacted/",
    "list quarantine/",
    "list snapshot/",
    "lock update_item",
    "queue receive",
    "dead letter",
)
ALLOWED: Mapping[str, Iterable[str]] = {
    "acquire-lock": ("lock put_item",),
    "release-lock": ("lock delete_item", "lock get_item"),
    "list-deltas": (*ARCHIVING, *LISTING, "put work/*", "put quarantine/*"),
    "merge-batch": (
        "get delta/*",
        "get work/*",
        "put work/*",
        "put quarantine/*",
        "list delta/",
        "list compacted/",
        "list everything",
        "get compacted/*",
        "lock update_item",
    ),
    "compactor": (
        "get delta/*",
        "get compacted/*",
        "list compacted/",
        "get work/*",
        "get snapshot/*",
        "put work/*",
        "put snapshot/*",
        "list delta/",
        "list snapshot/",
        "list everything",
        "lock update_item",
        "start",
    ),
    "clean-up": (*ARCHIVING, *LISTING, "get work/*", "put quarantine/*", f"delete {FILE}", f"delete {MARKER}"),
    "producer": ("put delta/*", "queue send"),
    "query": ("get snapshot/*", "list snapshot/", "get delta/*", "list delta/"),
}
"""The attempts that each function's role allows. Permission to list everything also shows that a key is missing."""

Denials = Mapping[str, Mapping[str, bool]]
"""True for each function and attempt that IAM denied."""


def role_of(stack: Stack, function: str) -> Role:
    found = stack.functions.get_function(FunctionName=stack.function_name(function))
    return Role(stack, found["Configuration"]["Role"])


@pytest.fixture(scope="module")
def denials(stack_pool: StackPool) -> Denials:
    """Make every attempt as every function, in a bucket that has all the objects."""
    stack = stack_pool.take({}, {})
    found = {}
    for function in ALLOWED:
        stack.put_objects(dict.fromkeys(KEYS, b"content"))
        attempts = role_of(stack, function).attempts()
        found[function] = {name: is_denied(attempt) for name, attempt in attempts.items()}
    stack_pool.put_back(stack)
    return found


def functions_allowed(denials: Denials, attempt: str) -> list[str]:
    """Return the functions whose attempt IAM allowed."""
    return [function for function, attempts in denials.items() if not attempts[attempt]]


@pytest.mark.parametrize("function", ALLOWED)
def test_a_function_may_do_only_what_it_needs(denials: Denials, function: str) -> None:
    assert denials[function] == {
        attempt: not any(fnmatchcase(attempt, pattern) for pattern in ALLOWED[function])
        for attempt in denials[function]
    }


def test_the_query_function_cannot_list_the_bucket_by_leaving_out_the_prefix(denials: Denials) -> None:
    assert denials["query"]["list everything"]


@pytest.mark.parametrize("key", KEYS)
def test_the_query_function_cannot_write_or_delete_anything(denials: Denials, key: str) -> None:
    assert denials["query"][f"put {key}"]
    assert denials["query"][f"delete {key}"]


@pytest.mark.parametrize("attempt", [f"get {POINTER}", f"get {FILE}", "list snapshot/", "copy snapshot to delta"])
def test_a_producer_cannot_read_or_copy_snapshots(denials: Denials, attempt: str) -> None:
    assert denials["producer"][attempt]


@pytest.mark.parametrize("verb", ["get_item", "put_item", "update_item", "delete_item", "scan"])
@pytest.mark.parametrize("function", ["producer", "query"])
def test_producers_and_queries_cannot_access_the_lock(denials: Denials, function: str, verb: str) -> None:
    assert denials[function][f"lock {verb}"]


@pytest.mark.parametrize("key", [POINTER, FILE])
def test_only_the_compactor_can_write_snapshots(denials: Denials, key: str) -> None:
    assert functions_allowed(denials, f"put {key}") == ["compactor"]


def test_only_producers_and_functions_that_restore_deltas_can_write_deltas(denials: Denials) -> None:
    assert functions_allowed(denials, f"put {DELTA}") == ["list-deltas", "clean-up", "producer"]


@pytest.mark.parametrize(
    "attempt",
    [
        f"delete {POINTER}",
        f"delete {QUARANTINED}",
        f"delete {COMPACTED}",
        "delete a version",
        "change the bucket's rules",
        "queue purge",
        "read dead letters",
        "lock scan",
    ],
)
def test_no_function_can_remove_what_an_operator_may_need(denials: Denials, attempt: str) -> None:
    assert functions_allowed(denials, attempt) == []
