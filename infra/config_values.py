"""The types of setting values. Each refuses what AWS would refuse only in the middle of a deployment."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

Task = Literal[
    "acquire-lock",
    "list-deltas",
    "merge-batch",
    "compactor",
    "fold-partitions",
    "clean-up",
    "release-lock",
    "producer",
    "query",
]
"""The name of a function's task."""

_RATE = re.compile(r"rate\((?:(1) (minute|hour|day)|([2-9]|[1-9]\d+) (minute|hour|day)s)\)")
_CRON = re.compile(r"cron\(\S+( \S+){5}\)")
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cron-expressions.html: Sunday is 1.
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_WEEKDAYS = re.compile(rf"([1-7]|{'|'.join(_DAYS)})(?:-([1-7]|{'|'.join(_DAYS)}))?")
_BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_OF_ECR = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[^\s:@]+[:@]")
_UNIT_MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}
_LOG_RETENTIONS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip


def interval_minutes(schedule: str) -> int:
    """Return the longest time between two starts of a schedule.

    A cron expression counts as one start on each of its days of the week, or one a week if it names other days.
    """
    rate = _RATE.fullmatch(schedule)
    if rate:
        return int(rate[1] or rate[3]) * _UNIT_MINUTES[rate[2] or rate[4]]
    *_, day, month, weekday, year = schedule.removeprefix("cron(").removesuffix(")").split()
    every_day = {day, month, year} <= {"*", "?"}
    return _UNIT_MINUTES["day"] * (_longest_gap(weekday) if every_day else 7)


def _longest_gap(weekdays: str) -> int:
    """Return the most days between two of the weekdays, e.g. 3 for MON-FRI. A form that is not known counts as 7."""
    if weekdays in ("*", "?"):
        return 1
    chosen: set[int] = set()
    for part in weekdays.upper().split(","):
        days = _WEEKDAYS.fullmatch(part)
        first, last = (_number(days[1]), _number(days[2] or days[1])) if days else (1, 0)
        if first > last:
            return 7
        chosen |= set(range(first, last + 1))
    ordered = sorted(chosen)
    return max(later - day for day, later in pairwise([*ordered, ordered[0] + 7]))


def _number(weekday: str) -> int:
    return int(weekday) if weekday.isdigit() else _DAYS.index(weekday) + 1


def _is_schedule(text: str) -> str:
    if not _RATE.fullmatch(text) and not _CRON.fullmatch(text):
        raise ValueError("Should be an EventBridge schedule: rate(15 minutes), rate(1 hour) or cron(0 3 * * ? *)")
    return text


def _is_log_retention(days: int) -> int:
    if days not in _LOG_RETENTIONS:
        raise ValueError(f"Should be a number of days that CloudWatch accepts: {_LOG_RETENTIONS}")
    return days


def _is_own_tag(key: str) -> str:
    if key.lower().startswith("aws:"):
        raise ValueError("Should not start with aws:, which AWS reserves")
    return key


def _is_image_by_digest(image: str) -> str:
    # A tag can be moved to another image, and neither Pulumi nor Lambda would notice.
    if not _BY_DIGEST.fullmatch(image):
        raise ValueError("Should name the image by its digest: <repository>@sha256:<64 hexadecimal digits>")
    return image


def _is_image_of_ecr(image: str) -> str:
    if not _OF_ECR.match(image):
        raise ValueError("Should be in ECR: <account>.dkr.ecr.<region>.amazonaws.com/<repository>@sha256:<digest>")
    return _is_image_by_digest(image)


def _parsed_object(value: Any) -> Any:  # noqa: ANN401 - pydantic validates the result
    # Pulumi passes every structured value as JSON.
    if not isinstance(value, str):
        return value
    if not value.startswith("{"):
        raise ValueError("Should be set key by key: pulumi config set --path chromadb:<name>.<key> <value>")
    return json.loads(value)


def _parsed_list(value: Any) -> Any:  # noqa: ANN401 - pydantic validates the result
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.startswith("[") else [item.strip() for item in value.split(",")]


JSON_OBJECT = BeforeValidator(_parsed_object)
Schedule = Annotated[str, AfterValidator(_is_schedule)]
Days = Annotated[int, Field(ge=1, le=3650)]
LogDays = Annotated[int, AfterValidator(_is_log_retention)]

MemoryMb = Annotated[int, Field(ge=128, le=10240)]
StorageMb = Annotated[int, Field(ge=512, le=10240)]
TimeoutSeconds = Annotated[int, Field(ge=1, le=900)]

Architecture = Literal["arm64", "x86_64"]
ImageUri = Annotated[str, AfterValidator(_is_image_of_ecr)]
BaseImage = Annotated[str, AfterValidator(_is_image_by_digest)]
AccountId = Annotated[str, Field(pattern=r"^\d{12}$")]
AccountIds = Annotated[tuple[AccountId, ...], BeforeValidator(_parsed_list)]
TableName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")]
LockId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Region = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
KeyArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+$")]
KeyArns = Annotated[tuple[KeyArn, ...], BeforeValidator(_parsed_list)]
TopicArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}$")]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
PolicyArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]+$")]
RolePath = Annotated[str, Field(pattern=r"^/([\w+=,.@-]+/)*$")]
TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_ .:/=+@-]+$", max_length=128), AfterValidator(_is_own_tag)]
TagValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9_ .:/=+@-]*$", max_length=256)]
VpcId = Annotated[str, Field(pattern=r"^vpc-[0-9a-f]{8,17}$")]
SubnetId = Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")]
SubnetIds = Annotated[tuple[SubnetId, ...], BeforeValidator(_parsed_list)]
