"""Logs: one JSON object a line on stderr, without texts and keys."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

from zhihui.serving.call import Call

logger = logging.getLogger("zhihui.serving")


class JsonLines(logging.Formatter):
    """Writes a record and its facts as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is told by the kind of its error, since its message may hold a text."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage() if record.exc_info is None else record.msg.splitlines()[0],
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
        return orjson.dumps(line, default=str).decode()


def write_json_lines() -> None:
    """Send what this server and uvicorn have to say to stderr, as JSON; warnings of uvicorn and up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("zhihui.serving", logging.INFO), ("uvicorn", logging.WARNING)):
        wanted = logging.getLogger(name)
        wanted.handlers, wanted.propagate = [handler], False
        wanted.setLevel(level)


def log_call(call: Call, method: str, status: int, *, texts: bool) -> None:
    """Log a call that is over.

    Args:
        call: what is known of it.
        method: of HTTP.
        status: 499 where the client had gone.
        texts: whether its texts are logged.
    """
    facts = {
        "id": call.id,
        "method": method,
        "route": call.route,
        "status": status,
        "key": call.key,
        "ms": round(1000 * call.age, 1),
        **call.facts,
        **{f"{stage}_ms": round(1000 * seconds, 1) for stage, seconds in call.seconds.items()},
    }
    if texts and call.texts:
        facts["texts"] = call.texts
    logger.info("call", extra={"facts": facts})
