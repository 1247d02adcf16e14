"""Clients of a running service; they load neither torch nor the service's own libraries."""

from twinrank.extras import check_installed

check_installed("clients", "client", "httpx")

from twinrank.client.client import (  # noqa: E402 (once it is sure that they can be imported)
    AsyncClient,
    Client,
    Query,
)
from twinrank.errors import ClientError  # noqa: E402
from twinrank.service.schemas import (  # noqa: E402
    Answer,
    FoundAnswers,
    Ranked,
    Ranking,
    Ready,
    Section,
    Statistics,
    Stored,
    Turn,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "FoundAnswers",
    "Query",
    "Ranked",
    "Ranking",
    "Ready",
    "Section",
    "Statistics",
    "Stored",
    "Turn",
]
