"""The contract of an object store whose role may read and list only below one prefix, as the query function's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from mypy_boto3_s3 import S3Client

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.errors import ConfigurationError, ObjectMissingError, UnreadableObjectError
from chromadb_compaction.local import server
from chromadb_compaction.ports import ObjectStore
from tests.fakes.aws.in_process import InProcessAws
from tests.fakes.objects import InMemoryObjectStore

BUCKET = "limited-role"
CONTENTS = {"open/a": b"a", "open/denied": b"denied", "open/z": b"z", "closed/a": b"closed"}

Read = Callable[[ObjectStore, str, Path], object]
READS: dict[str, Read] = {
    "get": lambda store, key, _: store.get(key),
    "get_if_changed": lambda store, key, _: store.get_if_changed(key, '"other"'),
    "download": lambda store, key, directory: store.download(key, directory / "file"),
}


@pytest.fixture(params=READS)
def read(request: pytest.FixtureRequest) -> Read:
    return READS[request.param]


class LimitedRoleContract:
    """Tests of any object store. A subclass provides `store`: CONTENTS, seen by a role that may not read the denied."""

    def test_a_readable_object_is_read(self, store: ObjectStore, read: Read, tmp_path: Path) -> None:
        read(store, "open/a", tmp_path)

        assert store.head("open/a") is not None

    def test_a_missing_key_below_the_prefix_is_missing(self, store: ObjectStore, read: Read, tmp_path: Path) -> None:
        with pytest.raises(ObjectMissingError, match="open/nothing"):
            read(store, "open/nothing", tmp_path)
        # Another key begins with this one.
        with pytest.raises(ObjectMissingError, match="open/den"):
            read(store, "open/den", tmp_path)
        assert store.head("open/nothing") is None

    @pytest.mark.parametrize("key", ["closed/a", "closed/nothing"])
    def test_a_key_elsewhere_is_a_missing_permission(
        self, store: ObjectStore, read: Read, key: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigurationError, match="denied"):
            read(store, key, tmp_path)

    def test_a_denied_object_among_readable_ones_is_unreadable(
        self, store: ObjectStore, read: Read, tmp_path: Path
    ) -> None:
        with pytest.raises(UnreadableObjectError, match="open/denied"):
            read(store, "open/denied", tmp_path)

    @pytest.mark.parametrize("prefix", ["", "o", "closed/"])
    def test_only_what_is_below_the_prefix_is_listed(self, store: ObjectStore, prefix: str) -> None:
        assert [info.key for info in store.list("open/")] == ["open/a", "open/denied", "open/z"]
        with pytest.raises(ConfigurationError, match="denied"):
            list(store.list(prefix))


class TestInMemory(LimitedRoleContract):
    @pytest.fixture
    def store(self) -> InMemoryObjectStore:
        store = InMemoryObjectStore()
        for key, body in CONTENTS.items():
            store.put(key, body)
        store.readable, store.unreadable = ("open/",), {"open/denied"}
        return store


class TestS3InProcess(LimitedRoleContract):
    @pytest.fixture
    def store(self) -> S3ObjectStore:
        aws = InProcessAws()
        client: S3Client = aws.session().client("s3", config=client_config())
        fill(client)
        aws.s3.readable, aws.s3.denied = ("open/",), {"open/denied"}
        return S3ObjectStore(client, BUCKET)


@pytest.fixture(scope="module")
def limited_on_server(session: boto3.Session, endpoint: str, s3: S3Client) -> S3ObjectStore:
    fill(s3)
    iam = session.client("iam", endpoint_url=endpoint)
    iam.create_user(UserName=BUCKET)
    iam.put_user_policy(UserName=BUCKET, PolicyName="limited", PolicyDocument=json.dumps(policy()))
    given = iam.create_access_key(UserName=BUCKET)["AccessKey"]
    limited = boto3.Session(
        region_name=server.REGION,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
    )
    return S3ObjectStore(limited.client("s3", endpoint_url=endpoint, config=client_config()), BUCKET)


class TestLocalServer(LimitedRoleContract):
    @pytest.fixture
    def store(self, limited_on_server: S3ObjectStore) -> S3ObjectStore:
        return limited_on_server


def fill(client: S3Client) -> None:
    """Create the bucket with its contents."""
    client.create_bucket(Bucket=BUCKET)
    for key, body in CONTENTS.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=body)


def policy() -> dict[str, object]:
    """Return the policy of the limited role."""
    bucket = f"arn:aws:s3:::{BUCKET}"
    listing = {"StringLike": {"s3:prefix": ["open/*"]}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket], "Condition": listing},
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"{bucket}/open/*"]},
            {"Effect": "Deny", "Action": ["s3:GetObject"], "Resource": [f"{bucket}/open/denied"]},
        ],
    }
