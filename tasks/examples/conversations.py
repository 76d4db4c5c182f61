"""Conversations as chat data sets write them: role and content, or from and value, down to one question and its answer."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "bard", "answer"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
FIELDS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")  # in which data sets keep them

NoExchange = Literal["unknown_role", "several_turns", "no_question", "no_answer", "empty_text", "not_text"]


def is_conversation(cell: object) -> bool:
    """Whether it is a list of messages: objects of which one says who speaks."""
    return isinstance(cell, list) and any(_speaker(entry) is not None for entry in cast("list[object]", cell))


def exchange(messages: Sequence[object]) -> tuple[str, str] | NoExchange:
    """Prompt and response; what the system is told stands above the prompt. Else why it is no such thing."""
    said: list[tuple[str, str]] = []
    for message in messages:
        role = ROLES.get((_speaker(message) or "").strip().casefold())
        if role is None:
            return "unknown_role"
        told = cast("Mapping[str, object]", message)
        content = text_of(told.get("content", told.get("value", told.get("text"))))
        if content is None:
            return "not_text"
        said.append((role, content))
    system = [text for role, text in said if role == "system" and text.strip()]
    turns = [(role, text) for role, text in said if role != "system"]
    roles = [role for role, _ in turns]
    if not roles or roles == ["user"]:
        return "no_answer" if roles else "empty_text"
    if "user" not in roles:
        return "no_question"
    if roles != ["user", "assistant"]:
        return "several_turns"
    (_, prompt), (_, response) = turns
    if not prompt.strip() or not response.strip():
        return "no_answer" if prompt.strip() else "empty_text"
    return "\n".join([*system, prompt]), response


def text_of(content: object) -> str | None:
    """The text of a message, of one in parts too; "" where it has none, None where a part is no text, such as an image."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    parts: list[str] = []
    for part in cast("list[object]", content):
        told = cast("Mapping[str, object]", part) if isinstance(part, dict) else {"text": part}
        text = told.get("text") if told.get("type", "text") in ("text", "input_text", "output_text") else None
        if not isinstance(text, str):
            return None
        parts.append(text)
    return "".join(parts)


def _speaker(message: object) -> str | None:
    if not isinstance(message, dict):
        return None
    told = cast("Mapping[str, object]", message)
    role = told.get("role", told.get("from"))
    return role if isinstance(role, str) else None
