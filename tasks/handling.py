"""What every Lambda handler does around its step: parse the event, log, emit metrics, report errors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from aws_lambda_powertools import Logger
from pydantic import BaseModel, ValidationError

from chromadb_compaction.aws.clients import services
from chromadb_compaction.errors import CompactionError, InvalidRequestError, LockHeldError
from chromadb_compaction.layout import execution_name
from chromadb_compaction.metrics import metrics_of
from chromadb_compaction.ports import Services
from tasks.emission import emit

Request = TypeVar("Request", bound=BaseModel)
Handler = Callable[[object, object], dict[str, Any]]

logger = Logger(service="chromadb_compaction")
"""Named as the package is, so that what the domain logs through `logging` comes out in the same JSON."""


def lambda_task(
    request_model: type[Request],
    step: Callable[[Request, Services], BaseModel],
    *,
    logs_result: bool = True,
    answers: tuple[type[CompactionError], ...] = (),
) -> Handler:
    """Return the Lambda handler that parses an event as `request_model` and answers with what `step` returns.

    `logs_result` False keeps the answer out of the log: for what is large, or other people's text.
    Raises InvalidRequestError for an event that breaks the model. An error leaves the handler as it is, so that
    Step Functions sees its class name. Those of `answers` do not: they are for a caller who is no workflow, and
    come back as `{"error": {"kind": "NoSuchCollection", "message": ..., "next_step": ...}}`, with the error's fields.
    `type` repeats the kind for callers of earlier versions.
    """
    task = step.__name__

    def handler(event: object, context: object) -> dict[str, Any]:
        logger.structure_logs(append=False, service=task, function_request_id=getattr(context, "aws_request_id", None))
        try:
            request = parse(request_model, event)
            logger.append_keys(**log_keys(request))
            result = _measured(step, request)
        except answers as error:
            logger.warning("%s: %s", type(error).__name__, error, extra={"error": error.as_dict()})
            return {"error": {"type": error.kind, **error.as_dict()}}
        except LockHeldError as error:
            # An answer, no failure: the workflow ends well.
            logger.info("%s: %s", type(error).__name__, error, extra={"error": error.as_dict()})
            raise
        except CompactionError as error:
            logger.error("%s: %s", type(error).__name__, error, extra={"error": error.as_dict()})  # noqa: TRY400 - Lambda prints the stack itself
            raise
        answer = result.model_dump(mode="json")
        logger.info("%s done", task, extra={"result": answer} if logs_result else {})
        return answer

    return handler


def _measured(step: Callable[[Request, Services], BaseModel], request: Request) -> BaseModel:
    """Return what the step returns, and emit the metrics that its result or its error stands for."""
    known = services()
    try:
        result = step(request, known)
    except CompactionError as error:
        _report(error, request, known)
        raise
    _report(result, request, known)
    return result


def _report(outcome: object, request: BaseModel, known: Services) -> None:
    emit(metrics_of(outcome), stack=known.settings.chromadb_stack, properties=log_keys(request))


def parse(model: type[Request], event: object) -> Request:
    """Return `event` as `model`. Raises InvalidRequestError naming the first field that is wrong."""
    try:
        return model.model_validate(event)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "the event"
        raise InvalidRequestError(f"{model.__name__}: {field}: {problem['msg']}; mend the caller's payload") from error


def log_keys(request: BaseModel) -> dict[str, object]:
    """Return what every log line of this invocation carries: the execution's name, the pass, the batch's key."""
    fields = request.model_dump(include={"execution": True, "pass_number": True, "batch": {"key"}}, by_alias=True)
    if "execution" in fields:
        fields["execution"] = execution_name(fields["execution"])
    if "batch" in fields:
        fields["batch"] = fields["batch"]["key"]
    return fields
