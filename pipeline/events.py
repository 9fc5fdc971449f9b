"""Log lines of things that happen once: a name and fields, for people and, with --log-json, for programs."""

import json
import logging
from datetime import datetime, timezone
from typing import Any


def event(log: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """Log one line, `name key=value ...`; `JsonFormatter` keeps the values as they are."""
    text = " ".join(f"{key}={value}" for key, value in fields.items())
    log.log(level, "%s %s", name, text, extra={"event": name, "fields": fields})


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, event, and the event's fields.

    Lines that are no events have `message` instead, with `error` if an exception goes with them.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if hasattr(record, "event"):
            line |= {"event": record.event, **getattr(record, "fields", {})}
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
