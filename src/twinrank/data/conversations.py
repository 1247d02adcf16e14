"""Conversations as text: a line `User: ...` or `Agent: ...` for each message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from twinrank.data.mail_patterns import TURN

USER, AGENT = "User", "Agent"
CONVERSATION, QUESTION = "conversation", "question"
ROLE_FIELDS = ("role", "author", "sender", "speaker", "from", "type", "name")
TEXT_FIELDS = ("content", "text", "body", "message")

Message = tuple[str, str]  # a role and a text


def read_messages(value: object) -> list[Message] | None:
    """Read a list of messages, such as [{"role", "content"}] or [{"author", "text"}].

    Args:
        value: the list, or a text that holds it as JSON.

    Returns:
        Roles and texts of the messages that have a text; none if it is no such list.
    """
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    messages = [_read_message(item) for item in value]
    if not all(messages):
        return None
    return [message for message in messages if message and message[1].strip()]


def write_messages(messages: Iterable[Message], clean: Callable[[str], str] = str.strip) -> str:
    """Write messages as a conversation, each text cleaned before; without those left empty."""
    turns = ((role.strip(), clean(text).strip()) for role, text in messages)
    return "\n".join(f"{role[:1].upper()}{role[1:]}: {text}" for role, text in turns if text)


def is_conversation(text: str) -> bool:
    """Say whether a text consists of turns: it begins with the asker's, or with two of anybody."""
    first = TURN.match(text)
    return first is not None and bool(first["asker"] or TURN.search(text, first.end()))


def _read_message(item: object) -> Message | None:
    """Read role and text of one message; none if it has not both."""
    if not isinstance(item, dict):
        return None
    roles = [name for name in ROLE_FIELDS if item.get(name)]
    texts = [name for name in TEXT_FIELDS if name in item]
    if not roles or not texts:
        return None
    role: Any = item[roles[0]]
    if isinstance(role, dict):
        role = next((role[name] for name in ROLE_FIELDS if isinstance(role.get(name), str)), None)
    text: Any = item[texts[0]]
    if isinstance(text, list):  # parts, as language models have them
        parts = [part.get("text") if isinstance(part, dict) else part for part in text]
        text = "\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(role, str) or not isinstance(text, str | None):
        return None
    return role, text or ""
