"""Test cases for every command: its arguments, its exit code, and the words that it must print.

`<first>` and the other names in angle brackets stand for values of the sandbox (see `Baseline.facts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.e2e.command_setups import (
    a_local_server,
    a_whole_replica,
    an_empty_replica,
    an_empty_stack,
    ctrl_c_is_pressed,
    texts_are_published,
    the_lock_is_held,
    the_pointer_is_damaged,
    the_settings_are_gone,
    the_table_is_another,
    the_web_server_stops_at_once,
)
from tests.e2e.setups import (
    Setup,
    a_chromadb_directory_and_a_file,
    a_lock_left_behind,
    an_execution_that_hangs,
    one_object_damaged_another_deleted,
)

Words = tuple[str, ...]


class Succeeds(NamedTuple):
    """The arguments of a command that succeeds, the words that it must print, and a setup to run before it."""

    arguments: str
    prints: str
    setup: Setup | None = None


class Fails(NamedTuple):
    """The same for a command that fails: it must print the words to stderr, and exit with `code`."""

    arguments: str
    code: int
    prints: str
    setup: Setup | None = None


class CommandCases(NamedTuple):
    """The cases of one command. Each runs without and with --json.

    `json_key` is a key of the printed JSON object, or of the first object of a list.
    """

    succeeds: tuple[Succeeds, ...]
    json_key: str
    fails: tuple[Fails, ...]


NO_SETTINGS = Fails("", 2, "CHROMADB_BUCKET is not set", the_settings_are_gone)
HELD = "the-holder"

CASES: Mapping[Words, CommandCases] = {
    ("put",): CommandCases(
        (
            Succeeds(
                "<files>/texts.jsonl -c texts --embedding-function wordllama", "Wrote 2 records as 1 delta to texts"
            ),
            Succeeds("<files>/vectors.jsonl --collection new --space cosine", "Wrote 1 record as 1 delta to new"),
            Succeeds("<files>/my-chroma -c wiki --as team", "3 records", a_chromadb_directory_and_a_file),
            Succeeds("<files>/vectors.jsonl -c new --restart --dry-run", "1 record"),
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
    ("compact",): CommandCases(
        (Succeeds("--wait --all", "Merged 1 delta"), Succeeds("", "Started ")),
        "execution",
        (
            Fails("--wait", 1, "SnapshotCorruptError", the_pointer_is_damaged),
            Fails("--wait", 3, HELD, the_lock_is_held),
            NO_SETTINGS,
        ),
    ),
    ("status",): CommandCases(
        (Succeeds("", "4 records in 1 collection"), Succeeds("--watch --every 1", "Quarantine", ctrl_c_is_pressed)),
        "snapshot",
        (Fails("", 5, "", the_pointer_is_damaged), NO_SETTINGS),
    ),
    ("serve",): CommandCases(
        (
            Succeeds("--port 0", "chromadb.HttpClient(", the_web_server_stops_at_once),
            Succeeds(
                "--host 127.0.0.1 --port 0 --token secret --read-level snapshot --allow-reset",
                "127.0.0.1",
                the_web_server_stops_at_once,
            ),
        ),
        "url",
        (
            Fails("--host 0.0.0.0", 2, "without a token, every machine"),
            Fails("--token ' '", 2, "the token is empty"),
            Fails("--port <port>", 2, "cannot serve on 127.0.0.1 port <port>"),
            Fails("--read-level stale", 2, "Invalid value"),
            NO_SETTINGS,
        ),
    ),
    ("history",): CommandCases(
        (
            Succeeds("", "started"),
            Succeeds("<execution>", "<execution>"),
            Succeeds("latest --follow", "started"),
            Succeeds("--html <files>/page.html", "page.html"),
        ),
        "states",
        (
            Fails("no-such-execution", 4, "there is no execution"),
            Fails("--html <files>/no/page.html", 2, "choose another FILE"),
            NO_SETTINGS,
        ),
    ),
    ("query",): CommandCases(
        (
            Succeeds("animals -c texts -n 1", "The whale is an animal.", texts_are_published),
            Succeeds("animals -c texts --embedding-function wordllama", "whale", texts_are_published),
            Succeeds("-c notes --id oncall --results 2", "The engineer on call"),
            Succeeds("--collection notes --embedding-file <files>/vector.json", "backups"),
            Succeeds("""-c notes --where-document '{"$contains": "Tuesdays"}'""", "deploy"),
            Succeeds("""-c notes --where '{"kind": {"$ne": "x"}}'""", "oncall"),
            Succeeds("-c notes --read-level snapshot", "from snapshot"),
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
    ("why",): CommandCases(
        (Succeeds("backups --collection notes", "first in <second>"), Succeeds("deploy -c notes", "first in <first>")),
        "delta",
        (
            Fails("nobody -c notes", 4, "deltas list -c notes"),
            Fails("backups -c nowhere", 4, "nowhere"),
            Fails("backups -c notes", 5, "snapshot/CURRENT", the_pointer_is_damaged),
            NO_SETTINGS._replace(arguments="backups -c notes"),
        ),
    ),
    ("doctor",): CommandCases(
        (Succeeds("", "ok  snapshot"),),
        "verdict",
        (Fails("", 1, "", the_table_is_another), Fails("", 1, "", the_settings_are_gone)),
    ),
    ("collections", "list"): CommandCases(
        (Succeeds("", "notes"),),
        "records",
        (Fails("", 4, "", an_empty_stack), Fails("", 5, "snapshot/CURRENT", the_pointer_is_damaged), NO_SETTINGS),
    ),
    ("collections", "show"): CommandCases(
        (Succeeds("notes", '"ef_search": 100'),),
        "configuration",
        (Fails("nowhere", 4, "nowhere"), NO_SETTINGS._replace(arguments="notes")),
    ),
    ("collections", "delete"): CommandCases(
        (
            Succeeds("notes --yes", "It is gone after the next compaction"),
            Succeeds("notes --dry-run", "Would delete collection notes"),
        ),
        "delta",
        (
            Fails("nowhere", 4, "collections list"),
            Fails("notes", 5, "snapshot/CURRENT", the_pointer_is_damaged),
            NO_SETTINGS._replace(arguments="notes"),
        ),
    ),
    ("snapshots", "list"): CommandCases(
        (Succeeds("", "<second>"),),
        "current",
        (Fails("", 4, "", an_empty_stack), Fails("", 5, "snapshot/CURRENT", the_pointer_is_damaged), NO_SETTINGS),
    ),
    ("snapshots", "show"): CommandCases(
        (Succeeds("latest", "<second>"), Succeeds("1", "<first>")),
        "published",
        (Fails("0000000099-00000000", 4, "snapshots list"), Fails("", 4, "", an_empty_stack), NO_SETTINGS),
    ),
    ("snapshots", "pull"): CommandCases(
        (
            Succeeds("<files>/copy --snapshot <first> -c notes", "3 records"),
            Succeeds("<files>/copy --collection notes --dry-run", "Would copy snapshot <second>"),
            Succeeds("<files>/merged --merge --force --every 5", "Copied snapshot <second>"),
        ),
        "collections",
        (
            Fails("<files>", 2, "not empty"),
            Fails("<files>/followed --follow", 130, "Stopped", ctrl_c_is_pressed),
            Fails("<files>/copy --snapshot <first> --follow", 2, "--follow copies the published"),
            Fails("<files>/copy -c nowhere", 4, "nowhere"),
            Fails("<files>/copy --snapshot 0000000099-00000000", 4, "snapshots list"),
            Fails("<files>/copy", 5, "snapshot/CURRENT", the_pointer_is_damaged),
            NO_SETTINGS._replace(arguments="<files>/copy"),
        ),
    ),
    ("snapshots", "verify"): CommandCases(
        (Succeeds("", "is whole"), Succeeds("<first> --full", "3 records read back")),
        "problems",
        (
            Fails("", 5, "snapshot/CURRENT", the_pointer_is_damaged),
            Fails("<second>", 5, "<second> is corrupt", one_object_damaged_another_deleted),
            Fails("0000000099-00000000", 4, "snapshots list"),
            NO_SETTINGS,
        ),
    ),
    ("snapshots", "rollback"): CommandCases(
        (
            Succeeds("<first> --replay --without <newer>", "1 went to quarantine"),
            Succeeds("<first> --replay --dry-run", "Would publish snapshot <first> in place of <second>"),
            Succeeds("<first> --replay", "Published snapshot <first>", the_pointer_is_damaged),
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
    ("deltas", "list"): CommandCases(
        (Succeeds("", "<pending>"), Succeeds("--collection notes --limit 1", "<pending>")), "key", (NO_SETTINGS,)
    ),
    ("deltas", "quarantined"): CommandCases(
        (Succeeds("", "<quarantined>"), Succeeds("-c notes -n 1", "NaN")), "reason", (NO_SETTINGS,)
    ),
    ("deltas", "requeue"): CommandCases(
        (
            Succeeds("<quarantined>", "1 delta is pending again"),
            Succeeds("--all --collection notes --dry-run", "1 delta would be pending again"),
        ),
        "moved",
        (
            Fails("no-such-delta", 4, "deltas quarantined"),
            Fails("", 2, "--all"),
            Fails("<quarantined>", 3, HELD, the_lock_is_held),
            NO_SETTINGS._replace(arguments="--all"),
        ),
    ),
    ("deltas", "quarantine"): CommandCases(
        (
            Succeeds("<pending> --reason 'a bad import'", "1 delta is in quarantine"),
            Succeeds("--all -c notes --reason no --dry-run", "1 delta would be in quarantine"),
        ),
        "moved",
        (
            Fails("no-such-delta --reason no", 4, "deltas list"),
            Fails("<pending>", 2, "--reason"),
            Fails("<pending> --reason no", 3, HELD, the_lock_is_held),
            NO_SETTINGS._replace(arguments="--all --reason no"),
        ),
    ),
    ("deltas", "discard"): CommandCases(
        (
            Succeeds("<quarantined> --yes", "Discarded 1 object"),
            Succeeds("<quarantined> --dry-run", "Would discard 1 object"),
        ),
        "discarded",
        (
            Fails("no-such-delta --yes", 4, "deltas quarantined"),
            Fails("<pending> -y", 2, "is pending"),
            Fails("<quarantined>", 2, "--yes"),
            Fails("<quarantined> --yes", 3, HELD, the_lock_is_held),
            NO_SETTINGS._replace(arguments="<quarantined> --yes"),
        ),
    ),
    ("replica", "status"): CommandCases(
        (Succeeds("<replica> --region us-east-1", "has every object of snapshot <second>", a_whole_replica),),
        "missing",
        (Fails("no-such-bucket", 2, "no-such-bucket"), NO_SETTINGS._replace(arguments="a-replica")),
    ),
    ("replica", "copy"): CommandCases(
        (
            Succeeds("<replica> --region us-east-1", "names snapshot <second> now", an_empty_replica),
            Succeeds("<replica>", "names this snapshot or a later one already", a_whole_replica),
        ),
        "files",
        (Fails("no-such-bucket", 2, "no-such-bucket"), NO_SETTINGS._replace(arguments="a-replica")),
    ),
    ("lock", "show"): CommandCases(
        (Succeeds("", "is free"), Succeeds("", "(RUNNING)", an_execution_that_hangs)),
        "held",
        (NO_SETTINGS, Fails("", 2, "no-such-table", the_table_is_another)),
    ),
    ("lock", "release"): CommandCases(
        (
            Succeeds("", "Released lock", a_lock_left_behind),
            Succeeds("--dry-run", "Would release", a_lock_left_behind),
            Succeeds("--force", "Released lock", an_execution_that_hangs),
            Succeeds("", "nothing to release"),
        ),
        "released",
        (Fails("", 3, "--force", an_execution_that_hangs), NO_SETTINGS),
    ),
    ("local", "up"): CommandCases(
        (Succeeds("--dir <server> --stack extra --detach", "stack extra is up"),),
        "endpoint",
        (
            Fails("--dir <server> --port 1", 1, "already runs on port"),
            Fails("--dir <server> --state-machine-endpoint http://127.0.0.1:9", 1, "docker compose up"),
            Fails(
                "--dir <server> --state-machine-endpoint http://127.0.0.1:<port> --lambda-port 1",
                1,
                "no engine can call its functions at port 1",
            ),
            Fails("--dir <files>/own --port <port>", 1, "is taken by another program"),
        ),
    ),
    ("local", "env"): CommandCases(
        (Succeeds("--dir <server> --stack <stack>", "export CHROMADB_BUCKET="),),
        "CHROMADB_BUCKET",
        (Fails("--dir <server> --stack nobody", 1, "nobody"), Fails("--dir <files>/own", 1, "local up")),
    ),
    ("local", "down"): CommandCases(
        (
            Succeeds("--dir <files>/own", "no local stack runs"),
            Succeeds("--dir <files>/own", "stopped", a_local_server),
            Succeeds("--dir <files>/own --delete --yes", "stopped", a_local_server),
        ),
        "stopped",
        (Fails("--stack extra", 2, "--stack"),),
    ),
}
"""Every command of the program."""
