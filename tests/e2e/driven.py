"""How each command is driven: what is typed, how it ends, and what it must say.

`<first>` and its like stand for what the stage holds (see `Facts`); what is given is done to the stage beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.e2e.rehearsals import (
    Rehearse,
    a_chromadb_directory_and_a_file,
    a_lock_left_behind,
    an_execution_that_hangs,
    one_object_damaged_another_deleted,
)
from tests.e2e.stages import (
    a_local_server,
    ctrl_c_is_pressed,
    nothing_at_all,
    texts_are_published,
    the_lock_is_held,
    the_pointer_is_damaged,
    the_settings_are_gone,
    the_table_is_another,
)

Words = tuple[str, ...]


class Typed(NamedTuple):
    """A command line's arguments, and words that it must print."""

    arguments: str
    says: str
    given: Rehearse | None = None


class Fails(NamedTuple):
    """As Typed, with the code that it exits with; the words are looked for in what it prints to stderr."""

    arguments: str
    code: int
    says: str
    given: Rehearse | None = None


class Driven(NamedTuple):
    """Ways to type a command that succeed, for a person and, each again with --json, for a program; and that fail.

    `answers` is a key that its JSON has, in the object or in the first of a list.
    """

    succeeds: tuple[Typed, ...]
    answers: str
    fails: tuple[Fails, ...]


NO_SETTINGS = Fails("", 2, "CHROMADB_BUCKET is not set", the_settings_are_gone)
HELD = "the-holder"

DRIVEN: Mapping[Words, Driven] = {
    ("put",): Driven(
        (
            Typed("<files>/texts.jsonl -c texts --embedding-function wordllama", "Wrote 2 records as 1 delta to texts"),
            Typed("<files>/vectors.jsonl --collection new --space cosine", "Wrote 1 record as 1 delta to new"),
            Typed("<files>/my-chroma -c wiki --as team", "3 records", a_chromadb_directory_and_a_file),
            Typed("<files>/vectors.jsonl -c new --restart --dry-run", "1 record"),
        ),
        "deltas",
        (
            Fails("<files>/texts.jsonl -c texts", 2, "--embedding-function wordllama"),
            Fails("<files>/nothing.jsonl -c texts", 2, "nothing.jsonl"),
            Fails("<files>/texts.jsonl", 2, "--collection"),
            Fails(
                "http://127.0.0.1:9 --database other --header 'Authorization: none'", 2, "no ChromaDB server answers"
            ),
            NO_SETTINGS._replace(arguments="<files>/texts.jsonl -c texts"),
        ),
    ),
    ("compact",): Driven(
        (Typed("--wait", "Merged 1 delta"), Typed("", "Started ")),
        "execution",
        (
            Fails("--wait", 1, "SnapshotCorruptError", the_pointer_is_damaged),
            Fails("--wait", 3, HELD, the_lock_is_held),
            NO_SETTINGS,
        ),
    ),
    ("status",): Driven(
        (Typed("", "4 records in 1 collection"), Typed("--watch --every 1", "Quarantine", ctrl_c_is_pressed)),
        "snapshot",
        (Fails("", 5, "", the_pointer_is_damaged), NO_SETTINGS),
    ),
    ("history",): Driven(
        (Typed("", "started"), Typed("<execution>", "<execution>"), Typed("--html <files>/page.html", "page.html")),
        "states",
        (
            Fails("no-such-execution", 4, "there is no execution"),
            Fails("--html <files>/no/page.html", 2, "choose another FILE"),
            NO_SETTINGS,
        ),
    ),
    ("query",): Driven(
        (
            Typed("animals -c texts -n 1", "The whale is an animal.", texts_are_published),
            Typed("-c notes --id oncall --results 2", "Whoever is on call"),
            Typed("--collection notes --embedding-file <files>/vector.json", "backups"),
            Typed("""-c notes --where-document '{"$contains": "Tuesdays"}'""", "deploy"),
            Typed("""-c notes --where '{"kind": {"$ne": "x"}}'""", "oncall"),
        ),
        "snapshot_id",
        (
            Fails("lunch -c nowhere", 4, "nowhere"),
            Fails("-c notes --id nobody", 4, "no record that passes"),
            Fails("-c notes --where '{'", 2, "--where is not JSON"),
            Fails("lunch", 2, "--collection"),
            NO_SETTINGS._replace(arguments="lunch -c notes"),
        ),
    ),
    ("why",): Driven(
        (Typed("backups --collection notes", "first in <second>"), Typed("deploy -c notes", "first in <first>")),
        "delta",
        (
            Fails("nobody -c notes", 4, "deltas list -c notes"),
            Fails("backups -c nowhere", 4, "nowhere"),
            Fails("backups -c notes", 5, "snapshot/CURRENT", the_pointer_is_damaged),
            NO_SETTINGS._replace(arguments="backups -c notes"),
        ),
    ),
    ("doctor",): Driven(
        (Typed("", "ok  snapshot"),),
        "verdict",
        (Fails("", 1, "", the_table_is_another), Fails("", 1, "", the_settings_are_gone)),
    ),
    ("snapshots", "list"): Driven(
        (Typed("", "<second>"),),
        "current",
        (Fails("", 4, "", nothing_at_all), Fails("", 5, "snapshot/CURRENT", the_pointer_is_damaged), NO_SETTINGS),
    ),
    ("snapshots", "show"): Driven(
        (Typed("", "<second>"), Typed("<first>", "<first>")),
        "published",
        (Fails("0000000099-00000000", 4, "snapshots list"), Fails("", 4, "", nothing_at_all), NO_SETTINGS),
    ),
    ("snapshots", "pull"): Driven(
        (
            Typed("<files>/copy --snapshot <first> -c notes", "3 records"),
            Typed("<files>/copy --collection notes --dry-run", "Would copy snapshot <second>"),
        ),
        "collections",
        (
            Fails("<files>", 2, "not empty"),
            Fails("<files>/copy -c nowhere", 4, "nowhere"),
            Fails("<files>/copy --snapshot 0000000099-00000000", 4, "snapshots list"),
            Fails("<files>/copy", 5, "snapshot/CURRENT", the_pointer_is_damaged),
            NO_SETTINGS._replace(arguments="<files>/copy"),
        ),
    ),
    ("snapshots", "verify"): Driven(
        (Typed("", "is whole"), Typed("<first> --full", "3 records read back")),
        "problems",
        (
            Fails("", 5, "snapshot/CURRENT", the_pointer_is_damaged),
            Fails("<second>", 5, "<second> is corrupt", one_object_damaged_another_deleted),
            Fails("0000000099-00000000", 4, "snapshots list"),
            NO_SETTINGS,
        ),
    ),
    ("snapshots", "rollback"): Driven(
        (
            Typed("<first> --replay --without <newer>", "1 went to quarantine"),
            Typed("<first> --replay --dry-run", "Would publish snapshot <first> in place of <second>"),
            Typed("<first> --replay", "Published snapshot <first>", the_pointer_is_damaged),
        ),
        "replayed",
        (
            Fails("0000000099-00000000", 4, "snapshots list"),
            Fails("<first> --without <newer>", 2, "give --replay too"),
            Fails("<first> --replay --without nothing", 2, "--without nothing"),
            Fails("<first>", 3, HELD, the_lock_is_held),
            NO_SETTINGS._replace(arguments="<first>"),
        ),
    ),
    ("deltas", "list"): Driven(
        (Typed("", "<pending>"), Typed("--collection notes --limit 1", "<pending>")), "key", (NO_SETTINGS,)
    ),
    ("deltas", "quarantined"): Driven(
        (Typed("", "<refused>"), Typed("-c notes -n 1", "NaN")), "reason", (NO_SETTINGS,)
    ),
    ("deltas", "requeue"): Driven(
        (
            Typed("<refused>", "1 delta is pending again"),
            Typed("--all --collection notes --dry-run", "1 delta would be pending again"),
        ),
        "moved",
        (
            Fails("no-such-delta", 4, "deltas quarantined"),
            Fails("", 2, "--all"),
            Fails("<refused>", 3, HELD, the_lock_is_held),
            NO_SETTINGS._replace(arguments="--all"),
        ),
    ),
    ("deltas", "quarantine"): Driven(
        (
            Typed("<pending> --reason 'a bad import'", "1 delta is in quarantine"),
            Typed("--all -c notes --reason no --dry-run", "1 delta would be in quarantine"),
        ),
        "moved",
        (
            Fails("no-such-delta --reason no", 4, "deltas list"),
            Fails("<pending>", 2, "--reason"),
            Fails("<pending> --reason no", 3, HELD, the_lock_is_held),
            NO_SETTINGS._replace(arguments="--all --reason no"),
        ),
    ),
    ("lock", "show"): Driven(
        (Typed("", "is free"), Typed("", "(RUNNING)", an_execution_that_hangs)),
        "held",
        (NO_SETTINGS, Fails("", 2, "no-such-table", the_table_is_another)),
    ),
    ("lock", "release"): Driven(
        (
            Typed("", "Released lock", a_lock_left_behind),
            Typed("--dry-run", "Would release", a_lock_left_behind),
            Typed("--force", "Released lock", an_execution_that_hangs),
            Typed("", "nothing to release"),
        ),
        "released",
        (Fails("", 3, "--force", an_execution_that_hangs), NO_SETTINGS),
    ),
    ("local", "up"): Driven(
        (Typed("--dir <server> --stack driven --detach", "stack driven is up"),),
        "endpoint",
        (
            Fails("--dir <server> --port 1", 1, "already runs on port"),
            Fails("--dir <files>/own --port <port>", 1, "is taken by another program"),
        ),
    ),
    ("local", "env"): Driven(
        (Typed("--dir <server> --stack <stack>", "export CHROMADB_BUCKET="),),
        "CHROMADB_BUCKET",
        (Fails("--dir <server> --stack nobody", 1, "nobody"), Fails("--dir <files>/own", 1, "local up")),
    ),
    ("local", "down"): Driven(
        (Typed("--dir <files>/own", "no local stack runs"), Typed("--dir <files>/own", "stopped", a_local_server)),
        "stopped",
        (Fails("--stack driven", 2, "--stack"),),
    ),
}
"""Every command of the program."""
