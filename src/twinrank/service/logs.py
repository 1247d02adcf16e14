"""Logs of the service: a line of JSON on stderr for every event, request and change."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

ACCESS, AUDIT = "twinrank.access", "twinrank.audit"  # loggers whose messages are JSON already


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        if record.name in (ACCESS, AUDIT):
            return record.getMessage()
        line = {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _dump_line(**line)


def log_as_json() -> None:
    """Have this process log lines of JSON from now on, warnings of Python too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)


def log_request(**fields: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Log a request that was answered."""
    logging.getLogger(ACCESS).info(_dump_line(**fields))


def log_change(state: Any, action: str, **subject: str) -> None:  # noqa: ANN401 (starlette's)
    """Log a change: who made it, of what, when, and by which request.

    Args:
        state: of the request, as the guard sets it.
        action: in words, such as "deleted an answer".
        subject: id or key of what was changed.
    """
    who = {"by": state.key_name, **state.address}
    logging.getLogger(AUDIT).info(
        _dump_line(**who, did=action, **subject, request=state.request_id)
    )


def _dump_line(**fields: Any) -> str:  # noqa: ANN401 (any JSON value)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, **fields}, ensure_ascii=False)
