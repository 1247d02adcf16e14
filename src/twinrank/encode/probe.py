"""A second of measuring which network encodes faster here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import sqrt
from statistics import median
from typing import Protocol

import numpy as np

from twinrank.encode.threads import Batch

PROBED_S = 1.0
ROUNDS = 3  # at least

# Two lengths: what reads a few tokens is bound by memory, what reads many by arithmetic.
QUESTIONS = (
    "it wont let me in again",
    "my clients say the page shows nothing they could book",
    "how do I move all bookmarks to a new computer",
    "refund for the second invoice",
    "Videos freeze after ten seconds since the last update",
    "two people at the same hour",
    "remove saved password",
    "why does every search open another engine than the one I have chosen?",
)
TURNS = (
    "User: Hello, since this morning I cannot sign in any more, and I teach a class at noon.",
    "Agent: I am sorry to hear that! Which message do you see when you enter your password?",
    "User: It says that too many attempts were made, but I tried twice at most, on my phone.",
    "Agent: Thank you. Has anybody else got access to the account, say a colleague at the desk?",
    "User: My sister helps on Fridays. She changed something in the settings, the calendar maybe.",
    "Agent: I have unlocked it. Please choose a new password, and wait for the mail to confirm it.",
    "User: The mail has not come. I looked at the junk folder as well, there is only advertising.",
    "Agent: Then the address may be misspelt. I can see it ends in .con; shall I correct that?",
)


CONVERSATIONS = tuple("\n".join(TURNS[i:] + TURNS[:i]) for i in range(len(TURNS)))


class Runs(Protocol):
    """What encodes batches of token sequences: either network does."""

    def map(self, batches: Sequence[Batch]) -> Iterator[np.ndarray]: ...  # noqa: D102


@dataclass(frozen=True)
class Speed:
    """Median milliseconds a text: of a question alone, and of conversations in batches."""

    question_ms: float
    conversation_ms: float

    def times_faster(self, than: Speed) -> float:
        """Than another: the geometric mean over both kinds of text."""
        question = than.question_ms / self.question_ms
        return sqrt(question * than.conversation_ms / self.conversation_ms)

    def as_dict(self) -> dict[str, float]:
        """By kind of text."""
        return {"question": self.question_ms, "conversation": self.conversation_ms}


def race(
    networks: Mapping[str, Runs], questions: Batch, conversations: Batch, threads: int
) -> dict[str, Speed]:
    """How fast each of some networks encodes, taking turns for a second.

    Args:
        networks: by name.
        questions: token sequences, each encoded alone.
        conversations: token sequences, a batch for each thread.
        threads: that the networks use.
    """
    batches = [conversations] * threads
    alone: dict[str, list[float]] = {name: [] for name in networks}
    together: dict[str, list[float]] = {name: [] for name in networks}
    began = time.perf_counter()
    for number in count(-1):  # the first does not count: code is made for each new shape
        for name, network in networks.items():
            spent = [_seconds(network, [[question]]) for question in questions]
            batch = _seconds(network, batches)
            if number >= 0:
                alone[name] += spent
                together[name].append(batch)
        if number + 1 >= ROUNDS and time.perf_counter() - began > PROBED_S:
            break
    texts = threads * len(conversations)
    return {
        name: Speed(1e3 * median(alone[name]), 1e3 * median(together[name]) / texts)
        for name in networks
    }


def _seconds(network: Runs, batches: Sequence[Batch]) -> float:
    began = time.perf_counter()
    for _ in network.map(batches):
        pass
    return time.perf_counter() - began
