"""Handling: turn a step into a Lambda handler that parses its event, logs, emits metrics and reports errors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from aws_lambda_powertools import Logger
from pydantic import BaseModel, ValidationError

from chromadb_compaction.aws.clients import services
from chromadb_compaction.disk import reporting_full_disk
from chromadb_compaction.errors import CompactionError, InvalidRequestError, LockHeldError
from chromadb_compaction.layout import execution_name
from chromadb_compaction.metrics import metrics_of
from chromadb_compaction.ports import Services
from tasks.emission import emit

Request = TypeVar("Request", bound=BaseModel)
Handler = Callable[[object, object], dict[str, Any]]

logger = Logger(service="chromadb_compaction", json_serializer=partial(json.dumps, default=str, separators=(",", ":")))
"""Named as the package, so that its modules' `logging` lines come out in the same JSON.

Its JSON is ASCII: a key or an id may hold characters that a terminal obeys."""


def lambda_task(
    request_model: type[Request],
    step: Callable[[Request, Services], BaseModel],
    *,
    logs_result: bool = True,
    answers: tuple[type[CompactionError], ...] = (),
) -> Handler:
    """Return a Lambda handler that parses its event as `request_model`, runs `step` and returns its result as JSON.

    An error leaves the handler unchanged, so that Step Functions matches its class name. An error in `answers` is
    returned instead, for callers that are not workflows:
    `{"error": {"type", "kind", "message", "next_step", ...fields}}`, from CompactionError.as_dict. `type` repeats
    `kind` for callers of earlier versions.

    Args:
        request_model: The model of the event. An event that breaks it is an InvalidRequestError.
        step: The function of `chromadb_compaction.steps` to run. Its name is the `service` of every log line.
        logs_result: False keeps the result out of the log: it is large, or it is users' text.
        answers: The errors to return instead of raising them.
    """
    task = step.__name__

    def handler(event: object, context: object) -> dict[str, Any]:
        logger.structure_logs(append=False, service=task, function_request_id=getattr(context, "aws_request_id", None))
        try:
            request = parse(request_model, event)
            logger.append_keys(**_log_keys(request))
            result = _run_measured(step, request, context)
        except answers as error:
            logger.warning("%s: %s", type(error).__name__, error, extra={"error": error.as_dict()})
            return {"error": {"type": error.kind, **error.as_dict()}}
        except LockHeldError as error:
            # The workflow catches it and succeeds.
            logger.info("%s: %s", type(error).__name__, error, extra={"error": error.as_dict()})
            raise
        except CompactionError as error:
            logger.error("%s: %s", type(error).__name__, error, extra={"error": error.as_dict()})  # noqa: TRY400 - Lambda prints the stack itself
            raise
        answer = result.model_dump(mode="json")
        logger.info("%s done", task, extra={"result": answer} if logs_result else {})
        return answer

    return handler


def _with_deadline(connected: Services, context: object) -> Services:
    """Return the services with the time at which Lambda ends this process, as the invocation's context states it."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    milliseconds = remaining() if remaining else 0
    return connected._replace(deadline=connected.clock() + milliseconds / 1000) if milliseconds > 0 else connected


def _run_measured(step: Callable[[Request, Services], BaseModel], request: Request, context: object) -> BaseModel:
    """Run the step, and emit the metrics of its result or its error."""
    connected = _with_deadline(services(), context)
    try:
        with reporting_full_disk(os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "the function")):
            result = step(request, connected)
    except CompactionError as error:
        _emit_metrics(error, request, connected)
        raise
    _emit_metrics(result, request, connected)
    return result


def _emit_metrics(outcome: object, request: BaseModel, connected: Services) -> None:
    emit(metrics_of(outcome), stack=connected.settings.chromadb_stack, properties=_log_keys(request))


def parse(model: type[Request], event: object) -> Request:
    """Return `event` as `model`. Raises InvalidRequestError, which names the first invalid field."""
    try:
        return model.model_validate(event)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "the event"
        # A field's name may hold half of a surrogate pair, which no JSON answer can.
        message = f"{model.__name__}: {field}: {problem['msg']}".encode(errors="backslashreplace").decode()
        raise InvalidRequestError(message, next_step="correct the event") from error


def _log_keys(request: BaseModel) -> dict[str, object]:
    """Return the keys of every log line of this invocation: the execution's name, the pass, the batch's key."""
    fields = request.model_dump(
        include={"execution": True, "pass_number": True, "batch": {"key"}, "item": {"key"}}, by_alias=True
    )
    if "execution" in fields:
        fields["execution"] = execution_name(fields["execution"])
    for name in ("batch", "item"):
        if name in fields:
            fields[name] = fields[name]["key"]
    return fields
