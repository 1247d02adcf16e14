"""The log: a line of JSON for everything that happens, on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

ACCESS, AUDIT = "twinrank.access", "twinrank.audit"  # their messages are such lines already


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        if record.name in (ACCESS, AUDIT):
            return record.getMessage()
        line = {
            "time": time_text(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json() -> None:
    """Have this process log lines of JSON from now on, warnings of Python too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)


def time_text(seconds: float) -> str:
    """Give a time (seconds since 1970) as a log has it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
