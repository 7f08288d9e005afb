"""The contract of every object store, and the errors of S3."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from mypy_boto3_s3 import S3Client

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.aws.ranged_download import PART_BYTES, PARTS_AT_ONCE
from chromadb_compaction.errors import (
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    TransientStorageError,
    UnreadableObjectError,
)
from chromadb_compaction.ports import ObjectStore
from tests.contracts.conftest import client_to_stub
from tests.fakes.aws.in_process import InProcessAws
from tests.fakes.objects import InMemoryObjectStore

A_DAY = 86_400
WRONG_ETAG = '"00000000000000000000000000000000"'


class ObjectStoreContract:
    """Tests of any object store.

    A subclass provides the fixture `store`, an empty one, and `put_unreadable`, which writes an unreadable object.
    """

    def test_get_returns_the_body_and_the_etag_of_the_last_put(self, store: ObjectStore) -> None:
        etag = store.put("a/b.json", b"{}")

        found = store.get("a/b.json")

        assert (found.body, found.etag) == (b"{}", etag)

    def test_the_difference_of_the_clocks_is_known_after_a_put(self, store: ObjectStore) -> None:
        store.put("a", b"one")

        ahead = store.seconds_ahead()
        assert ahead is not None
        assert abs(ahead) < 30

    def test_a_second_put_replaces_the_body_and_the_etag(self, store: ObjectStore) -> None:
        first = store.put("a", b"one")
        second = store.put("a", b"two")

        assert first != second
        assert store.get("a").body == b"two"

    def test_the_error_for_a_missing_object_names_its_key(self, store: ObjectStore) -> None:
        with pytest.raises(ObjectMissingError, match="a/nothing"):
            store.get("a/nothing")

    def test_get_if_changed_returns_none_for_an_unchanged_object(self, store: ObjectStore) -> None:
        etag = store.put("a", b"one")

        assert store.get_if_changed("a", etag) is None

    def test_get_if_changed_returns_a_changed_object_with_its_new_etag(self, store: ObjectStore) -> None:
        old = store.put("a", b"one")
        new = store.put("a", b"two")

        found = store.get_if_changed("a", old)

        assert found is not None
        assert (found.body, found.etag) == (b"two", new)

    def test_get_range_returns_the_part_and_nothing_after_it(self, store: ObjectStore) -> None:
        etag = store.put("a", b"0123456789")

        assert store.get_range("a", 3, 7, etag=etag) == b"3456"
        assert store.get_range("a", 8, 10, etag=etag) == b"89"
        assert store.get_range("a", 0, 1) == b"0"

    def test_get_range_leaves_out_what_lies_past_the_end(self, store: ObjectStore) -> None:
        store.put("a", b"0123456789")
        store.put("empty", b"")

        assert [store.get_range("a", start, 12) for start in (9, 10, 11)] == [b"9", b"", b""]
        assert store.get_range("empty", 0, 1) == b""

    def test_get_range_raises_for_a_missing_object_and_for_one_that_was_written_again(self, store: ObjectStore) -> None:
        etag = store.put("a", b"one")
        store.put("a", b"two")

        with pytest.raises(PreconditionFailedError):
            store.get_range("a", 0, 1, etag=etag)
        with pytest.raises(ObjectMissingError):
            store.get_range("nothing", 0, 1, etag=WRONG_ETAG)
        with pytest.raises(ObjectMissingError):
            store.get_range("nothing", 0, 1)

    def test_get_if_changed_raises_for_a_missing_object(self, store: ObjectStore) -> None:
        with pytest.raises(ObjectMissingError):
            store.get_if_changed("nothing", WRONG_ETAG)

    def test_head_and_list_describe_an_object_alike(self, store: ObjectStore) -> None:
        etag = store.put("a", b"one")

        described = store.head("a")

        (listed,) = store.list("")
        assert described is not None
        assert (described.key, described.bytes, described.etag) == ("a", 3, etag)
        # A header has whole seconds; a listing may have fractions.
        assert described == listed.model_copy(update={"modified": described.modified})

    def test_head_of_a_missing_object_is_none(self, store: ObjectStore) -> None:
        assert store.head("nothing") is None

    def test_modification_times_are_unix_seconds(self, store: ObjectStore) -> None:
        store.put("a", b"one")
        described = store.head("a")

        assert described is not None
        assert abs(store.get("a").modified - described.modified) < 1
        assert described.modified > 365 * A_DAY

    def test_a_listing_holds_only_its_prefix_in_byte_order(self, store: ObjectStore) -> None:
        for key in ("delta/b/2", "delta/b/1", "delta/é/1", "delta/B/1", "delta/b-c/1", "delta", "other/1"):
            store.put(key, b"")

        assert [info.key for info in store.list("delta/")] == [
            "delta/B/1",
            "delta/b-c/1",
            "delta/b/1",
            "delta/b/2",
            "delta/é/1",
        ]

    def test_a_listing_has_more_than_a_thousand_keys(self, store: ObjectStore) -> None:
        keys = [f"many/{number:04d}" for number in range(1001)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, b""), keys))

        assert [info.key for info in store.list("many/")] == keys

    def test_a_listing_can_start_after_a_key_that_need_not_exist(self, store: ObjectStore) -> None:
        for key in ("delta/a/1", "delta/a/2", "delta/a/3", "delta/b/1", "other"):
            store.put(key, b"")

        assert [info.key for info in store.list("delta/a/", start_after="delta/a/1")] == ["delta/a/2", "delta/a/3"]
        assert [info.key for info in store.list("delta/a/", start_after="delta/a/2x")] == ["delta/a/3"]

    def test_a_write_on_condition_of_absence_succeeds_once(self, store: ObjectStore) -> None:
        etag = store.put_if("CURRENT", b"one", etag=None)

        with pytest.raises(PreconditionFailedError, match="CURRENT"):
            store.put_if("CURRENT", b"two", etag=None)
        assert store.get("CURRENT")[:2] == (b"one", etag)

    def test_a_conditional_write_succeeds_with_the_current_etag(self, store: ObjectStore) -> None:
        old = store.put_if("CURRENT", b"one", etag=None)

        new = store.put_if("CURRENT", b"two", etag=old)

        assert store.get("CURRENT")[:2] == (b"two", new)

    def test_a_conditional_write_fails_with_an_old_etag(self, store: ObjectStore) -> None:
        old = store.put("CURRENT", b"one")
        store.put("CURRENT", b"two")

        with pytest.raises(PreconditionFailedError):
            store.put_if("CURRENT", b"three", etag=old)
        assert store.get("CURRENT").body == b"two"

    def test_a_conditional_write_fails_for_a_missing_object(self, store: ObjectStore) -> None:
        with pytest.raises(PreconditionFailedError):
            store.put_if("CURRENT", b"two", etag=WRONG_ETAG)
        assert store.head("CURRENT") is None

    def test_exactly_one_of_many_concurrent_conditional_writes_succeeds(self, store: ObjectStore) -> None:
        start = store.put("CURRENT", b"start")
        ready = threading.Barrier(6)

        def write(number: int) -> str | None:
            ready.wait()
            try:
                return store.put_if("CURRENT", b"%d" % number, etag=start)
            except (PreconditionFailedError, TransientStorageError):
                return None

        with ThreadPoolExecutor(6) as pool:
            won = [etag for etag in pool.map(write, range(6)) if etag]

        assert won == [store.get("CURRENT").etag]

    def test_a_copy_has_the_same_bytes_and_keeps_the_source(self, store: ObjectStore) -> None:
        etag = store.put("delta/a é.parquet", b"rows")

        store.copy("delta/a é.parquet", "compacted/a é.parquet", etag=etag)

        assert store.get("compacted/a é.parquet").body == store.get("delta/a é.parquet").body == b"rows"

    def test_a_rewritten_source_is_not_copied(self, store: ObjectStore) -> None:
        old = store.put("delta/a", b"rows")
        store.put("delta/a", b"other rows")

        with pytest.raises(PreconditionFailedError, match="delta/a"):
            store.copy("delta/a", "compacted/a", etag=old)
        assert store.head("compacted/a") is None

    def test_copying_a_missing_source_is_an_error(self, store: ObjectStore) -> None:
        with pytest.raises(ObjectMissingError, match="delta/a"):
            store.copy("delta/a", "compacted/a", etag=WRONG_ETAG)

    def test_deleting_a_missing_key_is_not_an_error(self, store: ObjectStore) -> None:
        store.put("a", b"")
        store.put("b", b"")

        store.delete(["a", "nothing"])
        store.delete([])

        assert [info.key for info in store.list("")] == ["b"]

    def test_more_keys_than_fit_one_request_are_deleted(self, store: ObjectStore) -> None:
        store.put("many/0000", b"")
        store.put("many/1000", b"")

        store.delete(f"many/{number:04d}" for number in range(1001))

        assert list(store.list("many/")) == []

    @pytest.mark.parametrize("key", ["a/\x01.parquet", "a/\ufffe", "a/\x0b<&>'\"", "a/new\nline", "a/return\r\ttab"])
    def test_a_key_that_xml_cannot_hold_is_deleted_like_any_other(self, store: ObjectStore, key: str) -> None:
        read = {name: store.put(name, b"read") for name in (key, "a/other")}
        store.put(key, b"written again")

        assert store.delete_if(read) == {key}
        assert [info.key for info in store.list("")] == [key]
        assert store.delete_if({key: store.get(key).etag, "a/\x02gone": WRONG_ETAG}) == frozenset()
        assert list(store.list("")) == []
        store.put(key, b"")
        store.delete([key, "a/\x02gone", "a/gone"])
        assert list(store.list("")) == []

    def test_an_unreadable_object_is_named_and_can_be_described_and_deleted(
        self, store: ObjectStore, put_unreadable: Callable[[str], None], tmp_path: Path
    ) -> None:
        put_unreadable("a/archived")

        (listed,) = store.list("")
        reads: list[Callable[[], object]] = [
            lambda: store.get("a/archived"),
            lambda: store.get_if_changed("a/archived", WRONG_ETAG),
            lambda: store.get_range("a/archived", 0, 1, etag=listed.etag),
            lambda: store.download("a/archived", tmp_path / "target"),
        ]
        for read in reads:
            with pytest.raises(UnreadableObjectError, match="a/archived") as caught:
                read()
            assert caught.value.key == "a/archived"
            assert caught.value.next_step
        assert store.head("a/archived") is not None
        assert store.delete_if({listed.key: listed.etag}) == frozenset()
        assert list(store.list("")) == []

    def test_a_conditional_delete_keeps_rewritten_objects(self, store: ObjectStore) -> None:
        read = {key: store.put(key, b"one") for key in ("same", "rewritten")}
        store.put("rewritten", b"two")

        kept = store.delete_if({**read, "gone": WRONG_ETAG})

        assert kept == {"rewritten"}
        assert [info.key for info in store.list("")] == ["rewritten"]

    @pytest.mark.parametrize(
        "size",
        [0, 10, PART_BYTES, PART_BYTES + 1, 20 * 1024 * 1024],
        ids=["empty", "small", "one part", "a byte over one part", "in parts"],
    )
    def test_a_downloaded_file_equals_the_uploaded_one_and_its_hash(
        self, store: ObjectStore, tmp_path: Path, size: int
    ) -> None:
        content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        (tmp_path / "source").write_bytes(content)

        store.upload(tmp_path / "source", "files/one")
        digest = store.download("files/one", tmp_path / "target")

        assert digest == hashlib.sha256(content).hexdigest()
        assert (tmp_path / "target").read_bytes() == content

    def test_files_of_more_parts_than_fit_in_memory_are_transferred_concurrently(
        self, store: ObjectStore, tmp_path: Path
    ) -> None:
        contents = {f"files/{number}": bytes([number]) * (2 * PART_BYTES + number) for number in range(6)}

        def upload_and_download(key: str) -> bytes:
            local = tmp_path / key.replace("/", "-")
            local.write_bytes(contents[key])
            store.upload(local, key)
            store.download(key, local)
            return local.read_bytes()

        with ThreadPoolExecutor(6) as pool:
            assert dict(zip(contents, pool.map(upload_and_download, contents), strict=True)) == contents

    def test_the_error_for_downloading_a_missing_object_names_its_key(self, store: ObjectStore, tmp_path: Path) -> None:
        with pytest.raises(ObjectMissingError, match="files/nothing"):
            store.download("files/nothing", tmp_path / "target")


class TestInMemoryObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> InMemoryObjectStore:
        return InMemoryObjectStore()

    @pytest.fixture
    def put_unreadable(self, store: InMemoryObjectStore) -> Callable[[str], None]:
        def put(key: str) -> None:
            store.put(key, b"archived")
            store.unreadable.add(key)

        return put

    def test_a_lost_response_leaves_the_write_done(self, store: InMemoryObjectStore) -> None:
        def lose_the_response(call: str, key: str) -> None:
            raise TransientStorageError(f"{call} {key}")

        store.after = lose_the_response

        with pytest.raises(TransientStorageError):
            store.put_if("CURRENT", b"one", etag=None)
        assert store.get("CURRENT").body == b"one"


_numbers = count()


@contextmanager
def listening(client: S3Client, event: str, listener: Callable[..., None]) -> Iterator[None]:
    """Have botocore call `listener` at each `event` within the block."""
    client.meta.events.register(event, listener)
    try:
        yield
    finally:
        client.meta.events.unregister(event, listener)


class BrokenBody:
    """The body of a response whose connection breaks after the given bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        raise ReadTimeoutError(endpoint_url="https://s3")

    def iter_chunks(self, _size: int) -> Iterator[bytes]:
        yield self._content
        raise ReadTimeoutError(endpoint_url="https://s3")


def archiver(s3: S3Client, store: S3ObjectStore) -> Callable[[str], None]:
    """Return a function that writes an object to Glacier."""
    return lambda key: cast(
        "None", s3.put_object(Bucket=store._bucket, Key=key, Body=b"archived", StorageClass="GLACIER")
    )


class TestS3ObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3: S3Client) -> Iterator[S3ObjectStore]:
        bucket = f"object-store-contract-{next(_numbers)}"
        s3.create_bucket(Bucket=bucket)
        store = S3ObjectStore(s3, bucket)
        # The first get goes through boto3. Every later one is a signed GET.
        store.put("first", b"")
        store.get("first")
        store.delete(["first"])
        yield store
        while contents := s3.list_objects_v2(Bucket=bucket).get("Contents"):
            s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": item["Key"]} for item in contents]})
        s3.delete_bucket(Bucket=bucket)

    @pytest.fixture
    def put_unreadable(self, s3: S3Client, store: S3ObjectStore) -> Callable[[str], None]:
        return archiver(s3, store)

    def test_an_object_with_a_customers_key_is_unreadable(
        self, s3: S3Client, store: S3ObjectStore, tmp_path: Path
    ) -> None:
        s3.put_object(
            Bucket=store._bucket, Key="own", Body=b"x", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32
        )
        (listed,) = store.list("")

        for read in (
            lambda: store.get("own"),
            lambda: store.head("own"),
            lambda: store.copy("own", "b", etag=listed.etag),
            lambda: store.download("own", tmp_path / "target"),
        ):
            with pytest.raises(UnreadableObjectError, match="SSE-C"):
                read()

    @pytest.fixture
    def in_three_parts(self, store: S3ObjectStore) -> bytes:
        content = b"".join(bytes([part]) * PART_BYTES for part in range(3))
        store.put("big", content)
        return content

    def test_a_download_never_mixes_parts_of_an_object_and_its_replacement(
        self, s3: S3Client, store: S3ObjectStore, in_three_parts: bytes, tmp_path: Path
    ) -> None:
        other = in_three_parts[::-1]
        requested: list[str] = []

        def replace_after_the_first_response(**_: object) -> None:
            requested.append("part")
            if len(requested) == 1:
                store.put("big", other)

        with listening(s3, "after-call.s3.GetObject", replace_after_the_first_response):
            digest = store.download("big", tmp_path / "target")

        assert (tmp_path / "target").read_bytes() == other
        assert digest == hashlib.sha256(other).hexdigest()

    def test_only_the_part_whose_connection_broke_is_read_again(
        self, s3: S3Client, store: S3ObjectStore, in_three_parts: bytes, tmp_path: Path
    ) -> None:
        requested: list[str] = []

        def break_once(parsed: dict[str, Any], **_: object) -> None:
            requested.append(parsed["ContentRange"])
            if parsed["ContentRange"].startswith(f"bytes {PART_BYTES}-") and requested.count(requested[-1]) == 1:
                parsed["Body"] = BrokenBody(b"")

        with listening(s3, "after-call.s3.GetObject", break_once):
            digest = store.download("big", tmp_path / "target")

        assert digest == hashlib.sha256(in_three_parts).hexdigest()
        assert len(requested) == 4

    def test_a_broken_first_part_is_read_on_from_where_it_broke(
        self, s3: S3Client, store: S3ObjectStore, in_three_parts: bytes, tmp_path: Path
    ) -> None:
        requested: list[str] = []

        def break_after_ten_bytes(parsed: dict[str, Any], **_: object) -> None:
            requested.append(parsed["ContentRange"].partition("/")[0])
            if requested[-1].startswith("bytes 0-"):
                parsed["Body"] = BrokenBody(in_three_parts[:10])

        with listening(s3, "after-call.s3.GetObject", break_after_ten_bytes):
            digest = store.download("big", tmp_path / "target")

        assert digest == hashlib.sha256(in_three_parts).hexdigest()
        assert f"bytes 10-{PART_BYTES - 1}" in requested

    def test_failed_downloads_do_not_block_the_next_one(
        self, s3: S3Client, store: S3ObjectStore, in_three_parts: bytes, tmp_path: Path
    ) -> None:
        def deny(params: dict[str, Any], **_: object) -> None:
            if "If-Match" in params["headers"]:
                denied = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
                raise ClientError(cast("Any", denied), "GetObject")

        with listening(s3, "before-call.s3.GetObject", deny):
            for _ in range(PARTS_AT_ONCE):
                with pytest.raises(ConfigurationError, match="access is denied"):
                    store.download("big", tmp_path / "target")

        assert store.download("big", tmp_path / "target") == hashlib.sha256(in_three_parts).hexdigest()

    def test_the_error_for_a_missing_bucket_names_its_setting(self, s3: S3Client) -> None:
        with pytest.raises(ConfigurationError, match="CHROMADB_BUCKET"):
            S3ObjectStore(s3, "no-such-bucket-anywhere").get("a")


class TestS3InProcess(ObjectStoreContract):
    @pytest.fixture
    def client(self) -> S3Client:
        client: S3Client = InProcessAws().session().client("s3", config=client_config())
        return client

    @pytest.fixture
    def store(self, client: S3Client) -> S3ObjectStore:
        client.create_bucket(Bucket="bucket")
        return S3ObjectStore(client, "bucket")

    @pytest.fixture
    def put_unreadable(self, client: S3Client, store: S3ObjectStore) -> Callable[[str], None]:
        return archiver(client, store)

    def test_the_error_for_a_missing_bucket_names_its_setting(self) -> None:
        s3 = InProcessAws().session().client("s3", config=client_config())

        with pytest.raises(ConfigurationError, match="CHROMADB_BUCKET"):
            S3ObjectStore(s3, "no-such-bucket-anywhere").get("a")


def deny(stub: Stubber, listed: list[str] | None, heads: list[int]) -> None:
    """Add the answers to the requests that find out why a read was denied. None: a listing is denied too.

    `heads` are the statuses of a neighbour that does not exist, and then of two that do.
    """
    if listed is None:
        stub.add_client_error("list_objects_v2", "AccessDenied", http_status_code=403)
    else:
        stub.add_response("list_objects_v2", {"Contents": [{"Key": key} for key in listed]})
    for number, status in enumerate(heads):
        if status == 200:
            stub.add_response("head_object", {})
        else:
            stub.add_client_error("head_object", str(status), http_status_code=status)
        if number == 0 and status == 403 and listed is None:
            stub.add_client_error("list_objects_v2", "AccessDenied", http_status_code=403)
        elif number == 0 and status == 403:
            stub.add_response("list_objects_v2", {"Contents": [{"Key": f"delta/{name}"} for name in "abc"]})


class TestErrorsOfS3:
    """Errors forced with botocore's stubber, because no local server throttles."""

    @pytest.fixture
    def client(self) -> S3Client:
        client: S3Client = client_to_stub("s3")
        return client

    @pytest.mark.parametrize(
        ("code", "status", "expected"),
        [
            ("PreconditionFailed", 412, PreconditionFailedError),
            ("NoSuchKey", 404, PreconditionFailedError),
            ("ConditionalRequestConflict", 409, TransientStorageError),
            ("SlowDown", 503, TransientStorageError),
            ("InternalError", 500, TransientStorageError),
            ("SomethingNew", 502, TransientStorageError),
            ("RequestTimeout", 400, TransientStorageError),
            ("NoSuchBucket", 404, ConfigurationError),
        ],
    )
    def test_each_error_code_of_a_conditional_write_has_its_error_class(
        self, client: S3Client, code: str, status: int, expected: type[Exception]
    ) -> None:
        with Stubber(client) as stub:
            stub.add_client_error("put_object", code, http_status_code=status)
            with pytest.raises(expected) as caught:
                S3ObjectStore(client, "bucket").put_if("CURRENT", b"", etag=WRONG_ETAG)

        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize(
        ("listed", "heads", "expected"),
        [
            (["delta/a"], [404], UnreadableObjectError),
            (["delta/a"], [403, 403, 200], UnreadableObjectError),
            (["delta/a"], [403, 403, 403], ConfigurationError),
            (["delta/ab"], [], ObjectMissingError),
            ([], [], ObjectMissingError),
            (None, [403], ConfigurationError),
        ],
    )
    def test_a_denied_object_is_missing_unreadable_or_forbidden(
        self, client: S3Client, listed: list[str] | None, heads: list[int], expected: type[Exception]
    ) -> None:
        with Stubber(client) as stub:
            stub.add_client_error("get_object", "AccessDenied", http_status_code=403)
            deny(stub, listed, heads)
            with pytest.raises(expected, match="s3://bucket/delta/a") as caught:
                S3ObjectStore(client, "bucket").get("delta/a")
            stub.assert_no_pending_responses()

        assert caught.type is expected

    def test_an_object_with_a_disabled_key_is_unreadable(self, client: S3Client) -> None:
        with Stubber(client) as stub:
            stub.add_client_error("get_object", "KMS.DisabledException", http_status_code=403)
            with pytest.raises(UnreadableObjectError, match="s3://bucket/delta/a"):
                S3ObjectStore(client, "bucket").get("delta/a")

    @pytest.mark.parametrize("seconds", [7200, None])
    def test_a_clock_is_compared_with_the_date_of_the_response(self, client: S3Client, seconds: int | None) -> None:
        headers = {} if seconds is None else {"date": formatdate(time.time() - seconds)}
        store = S3ObjectStore(client, "bucket")
        assert store.seconds_ahead() is None
        with Stubber(client) as stub:
            stub.add_response(
                "put_object", {"ETag": WRONG_ETAG, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": headers}}
            )
            store.put("a", b"")

        assert store.seconds_ahead() == (None if seconds is None else pytest.approx(seconds, abs=300))

    def test_a_copy_that_is_too_large_is_the_objects_fault(self, client: S3Client) -> None:
        with Stubber(client) as stub:
            message = "The specified copy source is larger than the maximum allowable size"
            stub.add_client_error("copy_object", "InvalidRequest", message, http_status_code=400)
            with pytest.raises(UnreadableObjectError, match="larger than 5 GB"):
                S3ObjectStore(client, "bucket").copy("delta/a", "quarantine/a", etag=WRONG_ETAG)

    @pytest.mark.parametrize(
        ("listed", "heads", "expected"),
        [
            (["delta/a"], None, ConfigurationError),
            (["delta/a"], [403, 403, 403], ConfigurationError),
            (["delta/a"], [404], UnreadableObjectError),
            ([], [], ObjectMissingError),
        ],
    )
    def test_a_denied_copy_is_the_objects_fault_only_if_it_alone_cannot_be_read(
        self, client: S3Client, listed: list[str], heads: list[int] | None, expected: type[Exception]
    ) -> None:
        with Stubber(client) as stub:
            stub.add_client_error("copy_object", "AccessDenied", http_status_code=403)
            stub.add_response("list_objects_v2", {"Contents": [{"Key": key} for key in listed]})
            if heads is None:
                stub.add_response("get_object", {"ETag": WRONG_ETAG, "ContentRange": "bytes 0-0/9"})
            elif heads:
                stub.add_client_error("get_object", "AccessDenied", http_status_code=403)
                deny(stub, listed, heads)
            with pytest.raises(expected) as caught:
                S3ObjectStore(client, "bucket").copy("delta/a", "quarantine/a", etag=WRONG_ETAG)
            stub.assert_no_pending_responses()

        assert caught.type is expected

    @pytest.mark.parametrize(
        "broken",
        [
            EndpointConnectionError(endpoint_url="https://s3"),
            ReadTimeoutError(endpoint_url="https://s3"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_broken_connection_is_transient(self, client: S3Client, broken: Exception) -> None:
        def break_connection(**_: object) -> None:
            raise broken

        client.meta.events.register("before-send.s3.PutObject", break_connection)

        with pytest.raises(TransientStorageError, match="s3://bucket/CURRENT"):
            S3ObjectStore(client, "bucket").put_if("CURRENT", b"", etag=None)

    def test_an_error_on_the_second_page_of_a_listing_is_translated(self, client: S3Client) -> None:
        with Stubber(client) as stub:
            stub.add_response("list_objects_v2", {"IsTruncated": True, "NextContinuationToken": "more"})
            stub.add_client_error("list_objects_v2", "SlowDown", http_status_code=503)
            with pytest.raises(TransientStorageError, match="SlowDown"):
                list(S3ObjectStore(client, "bucket").list("delta/"))

    def test_an_error_of_one_deleted_key_is_raised(self, client: S3Client) -> None:
        failed = {"Key": "delta/b", "Code": "InternalError", "Message": "We encountered an internal error."}
        with Stubber(client) as stub:
            stub.add_response("delete_objects", {"Errors": [failed]})
            stub.add_response("delete_objects", {"Errors": [{**failed, "Code": "SlowDown"}]})
            store = S3ObjectStore(client, "bucket")
            with pytest.raises(TransientStorageError, match="delta/b"):
                store.delete(["delta/a", "delta/b"])
            with pytest.raises(TransientStorageError, match="delta/b"):
                store.delete_if({"delta/b": WRONG_ETAG})
