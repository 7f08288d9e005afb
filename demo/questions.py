"""Questions in plain English, and the module whose documentation answers each question."""

from __future__ import annotations

from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from chromadb_compaction.aws.functions import invoke
from chromadb_compaction.cli.common.formatting import one_line
from chromadb_compaction.cli.views.answers import INCLUDE, QueryResult
from demo.producers import COLLECTION

SHOWN = 3
ASKED = 5


class Question(NamedTuple):
    """A question, and the module that must be among the first answers."""

    text: str
    module: str


QUESTIONS = (
    Question("run a shell command and capture its output", "subprocess"),
    Question("connect to an SQLite database", "sqlite3"),
    Question("send an e-mail message over SMTP", "smtplib"),
    Question("pick a random element from a list", "random"),
    Question("compress a file with gzip", "gzip"),
    Question("the median of a list of numbers", "statistics"),
)


class Asked(NamedTuple):
    """A question and its answer."""

    question: Question
    answer: QueryResult

    @property
    def is_right(self) -> bool:
        """Return whether the expected module is among the answers."""
        return any(id_.split(".")[0] == self.question.module for id_ in self.answer.ids[0])


def ask(function: str, question: Question) -> Asked:
    """Ask the query function for public names only, with a filter on metadata."""
    request = {
        "collection": COLLECTION,
        "query_texts": [question.text],
        "n_results": ASKED,
        "where": {"public": True},
        "include": INCLUDE,
    }
    return Asked(question, QueryResult.model_validate(invoke(function, request)))


def show(asked: Asked, console: Console) -> None:
    """Print a question and its first answers."""
    console.print(Text.assemble(("  ? ", "bold cyan"), (asked.question.text, "bold")))
    answer = asked.answer
    documents = answer.documents[0] if answer.documents else []
    shown = list(zip(answer.ids[0], documents, strict=True))[:SHOWN]
    width = max(len(id_) for id_, _ in shown)
    for id_, document in shown:
        is_expected = id_.split(".")[0] == asked.question.module
        line = Text.assemble("    ", (id_.ljust(width), "green" if is_expected else ""), "  ", (_body(document), "dim"))
        console.print(line, no_wrap=True, overflow="ellipsis")


def _body(document: str | None) -> str:
    """Return the docstring on one line, without the signature above it."""
    return one_line((document or "").partition("\n")[2], 200)
