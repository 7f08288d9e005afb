"""A request to AWS, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import IO, NamedTuple
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

READS = frozenset(
    {
        "DescribeExecution",
        "GetItem",
        "GetObject",
        "HeadObject",
        "ListObjectsV2",
        "Scan",
    }
)
"""The operations that change nothing. ReceiveMessage is not one: it hides the messages that it returns."""


class Call(NamedTuple):
    """One HTTP request; every retry by botocore is another. `target` is its key, table, queue or execution."""

    service: str
    operation: str
    target: str
    request: AWSPreparedRequest
    body: bytes

    @property
    def writes(self) -> bool:
        """Return whether the call may change anything."""
        return self.operation not in READS

    def __str__(self) -> str:
        return f"{self.service}.{self.operation} {self.target}"


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Refusal(Exception):  # noqa: N818 - an answer that an operation raises
    """An error answer of a service. `extra` is added to the body of a JSON answer."""

    def __init__(self, status: int, code: str, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.extra = dict(extra or {})


def refused(call: Call, refusal: Refusal) -> Answer:
    """Return the refusal in the format of the call's service."""
    if call.service == "s3":
        if call.request.method == "HEAD":
            return Answer(refusal.status, {}, b"")
        body = f"<Error><Code>{escape(refusal.code)}</Code><Message>simulated</Message></Error>"
        return Answer(refusal.status, {"content-type": "application/xml"}, body.encode())
    return answer_json({"__type": refusal.code, "message": "simulated", **refusal.extra}, status=refusal.status)


def answer_json(body: Mapping[str, object], *, status: int = 200) -> Answer:
    """Return `body` as DynamoDB, SQS and Step Functions send it."""
    return Answer(status, {"content-type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


def answer_xml(body: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return `body` as S3 sends it."""
    return Answer(200, {"content-type": "application/xml", **(headers or {})}, body.encode())


def sent_body(request: AWSPreparedRequest) -> bytes:
    """Return the body of a request, which may be bytes or a file, plain or in AWS's chunks."""
    body: str | bytes | bytearray | IO[bytes] | IO[str] | None = request.body
    if body is None:
        content = b""
    elif isinstance(body, str):
        content = body.encode()
    elif isinstance(body, bytes | bytearray):
        content = bytes(body)
    else:
        # botocore rewinds the file before a retry.
        read = body.read()
        content = read.encode() if isinstance(read, str) else read
    return _unchunked(content) if "aws-chunked" in text_header(request, "content-encoding") else content


def text_header(request: AWSPreparedRequest, name: str) -> str:
    """Return the text of a header, or "" if it was not sent."""
    value: str | bytes = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else value


def http_response(url: str, answer: Answer) -> AWSResponse:
    """Return the answer as botocore reads it from a connection."""
    headers = {"content-length": str(len(answer.body)), **answer.headers}
    return AWSResponse(url, answer.status, headers, _Wire(answer.body))  # type: ignore[arg-type, no-untyped-call, unused-ignore] # botocore reads only this much of it


class _Wire(BytesIO):
    """A response body as urllib3 returns it: a file that can also be streamed."""

    def stream(self, amount: int = 65536, **_: object) -> Iterator[bytes]:
        while chunk := self.read(amount):
            yield chunk


def _unchunked(content: bytes) -> bytes:
    parts: list[bytes] = []
    while content:
        head, _, rest = content.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if not size:
            break
        parts.append(rest[:size])
        content = rest[size + 2 :]
    return b"".join(parts)
