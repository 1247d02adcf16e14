"""The errors a user can cause, each one line that says what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_FAULTS_OF_A_KIND = 3  # shown in full; the lines of some more are named
MAX_LINES_NAMED = 10


class TwinrankError(Exception):
    """Base of all errors that are the input's fault: the command line shows it, exits 2."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error, or the name of its type where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def describe_faults(error: ValidationError, whole: str = "the file") -> str:
    """Return what is wrong with the fields of a file, or with the whole, in a line."""
    faults = []
    for fault in error.errors()[:MAX_FAULTS_OF_A_KIND]:
        field = ".".join(map(str, fault["loc"])) or whole
        unknown = fault["type"] == "extra_forbidden"
        mend = "no such field, or none any more; leave it out"
        faults.append(f"{field}: {mend if unknown else fault['msg']}")
    more = error.error_count() - len(faults)
    return "; ".join([*faults, f"and {more:,} more"] if more else faults)


@dataclass(frozen=True)
class Fault:
    """One thing wrong in one line of a file.

    Attributes:
        file: where.
        line: from 1, in Parquet the row; none where the whole file is meant.
        what: is wrong.
        mend: what to do about it; the same words for all faults of a kind.
        outcome: what becomes of it where the rest is used all the same, such as "queries without
            a text left out"; empty where nothing can be used before this is mended.
    """

    file: Path
    line: int | None
    what: str
    mend: str
    outcome: str = ""

    def __str__(self) -> str:
        """Show what an eye cannot see, such as zero-width spaces, as escapes."""
        place = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        text = f"{place}: {self.what}; {self.mend}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class DataError(TwinrankError):
    """A data set, or a table to import, that cannot be used as it is: all its faults."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        """Give a line for each kind of fault in each file, so that none buries the rest."""
        kinds: dict[tuple[Path, str], list[Fault]] = {}
        for fault in self.faults:
            kinds.setdefault((fault.file, fault.mend), []).append(fault)
        lines = []
        for (file, _), alike in kinds.items():
            lines += [str(fault) for fault in alike[:MAX_FAULTS_OF_A_KIND]]
            rest = [f"{fault.line}" for fault in alike[MAX_FAULTS_OF_A_KIND:]]
            if rest:
                more = ", ..." if len(rest) > MAX_LINES_NAMED else ""
                numbers = ", ".join(rest[:MAX_LINES_NAMED]) + more
                lines.append(f"{file}: {len(rest):,} more like these, in lines {numbers}")
        return "\n".join(lines)


class ArgumentError(TwinrankError, TypeError):
    """An argument of a function whose type cannot be used; says what to give."""


class EncoderError(TwinrankError):
    """An encoder that cannot be found, loaded or run."""


class StoreError(TwinrankError):
    """A feature store that cannot be read or written."""


class DivergedError(TwinrankError):
    """A training, or a fit on validation, whose numbers are no longer finite."""


class RankerError(TwinrankError):
    """A ranker folder that is incomplete, damaged, or made for something else."""


class AnswerIndexError(TwinrankError):
    """An answer index that cannot be reached, is damaged, or holds another ranker's answers."""


class NoAnswerIndexError(AnswerIndexError):
    """A place that could hold an answer index, and holds none yet."""


class OtherAnswerIndexError(AnswerIndexError):
    """A place that holds the answer indexes of other rankers, and not this one's."""


class FeedbackError(TwinrankError):
    """A database of feedback that cannot be used, or holds nothing to learn from."""


class ServeError(TwinrankError):
    """A service that cannot start: its settings, keys, address or database."""


class ClientError(TwinrankError):
    """A service that refused, failed, or could not be reached.

    Attributes:
        detail: what is wrong, in the service's words where it answered.
        status: of HTTP, if it answered.
        request_id: under which the service's log has the request.
    """

    def __init__(
        self, detail: str, *, status: int | None = None, request_id: str | None = None
    ) -> None:
        self.detail, self.status, self.request_id = detail, status, request_id
        known = {"HTTP": status, "request": request_id}
        facts = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
        super().__init__(f"{detail} ({facts})" if facts else detail)
