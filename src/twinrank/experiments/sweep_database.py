"""The database of a sweep: a study of Optuna that several processes may open."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from twinrank.addresses import hide_passwords, read_address, show_address
from twinrank.errors import SweepError

FILE_NAME = "sweep.db"
HEARTBEAT_EVERY_S, DEAD_AFTER_S = 5, 60
MAX_RETRIES = 2
LOCK_NUMBER = 0x7477696E  # the number of PostgreSQL's lock: "twin"


@dataclass(frozen=True)
class StudyDatabase:
    """A database of studies.

    Attributes:
        address: as SQLAlchemy writes it.
        is_file: whether it is the file in the sweep's folder, where no other sweep belongs.
    """

    address: str
    is_file: bool

    @classmethod
    def at(cls, address: str | None, out: Path) -> StudyDatabase:
        """Give the database at an address; without one a SQLite file in `out`.

        Raises:
            SweepError: if it is no address, or one in memory.
        """
        if address is not None:
            try:
                url = read_address(address)
            except ValueError as error:
                raise SweepError(
                    f"the address of the storage is {error}; give sqlite:///FILE or "
                    "postgresql://USER@HOST/NAME"
                ) from None
            if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
                raise SweepError("a storage in memory would lose the sweep; give sqlite:///FILE")
            return cls(address, is_file=False)
        out.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{out / FILE_NAME}", is_file=True)

    @property
    def shown(self) -> str:
        """Give the address without a password."""
        return show_address(read_address(self.address))

    def open_study(
        self,
        name: str,
        identity: dict[str, Any],
        *,
        direction: Literal["minimize", "maximize"],
        pruner: optuna.pruners.BasePruner,
        sampler: optuna.samplers.BaseSampler,
        start: dict[str, Any] | None,
    ) -> optuna.Study:
        """Open the study of a name, or create it, with `start` as its first trial, if any.

        Raises:
            SweepError: if the database cannot be used, or is a file that holds another sweep.
        """
        with self.errors(), self._hold_lock():
            storage = self._open()
            self._check_same_sweep(storage, name, identity)
            try:
                study = optuna.create_study(
                    study_name=name,
                    storage=storage,
                    direction=direction,
                    pruner=pruner,
                    sampler=sampler,
                )
            except optuna.exceptions.DuplicatedStudyError:
                return optuna.load_study(
                    study_name=name, storage=storage, pruner=pruner, sampler=sampler
                )
            study.set_user_attr("identity", identity)
            if start:
                study.enqueue_trial(start)
            return study

    def requeue_killed(self, study: optuna.Study) -> None:
        """Queue again the running trials whose process no longer gives a heartbeat."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(study)
        # Optuna calls a trial stale by its last heartbeat: one that died before the first has none.
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            started = trial.datetime_start or datetime.min
            age_s = (datetime.now() - started).total_seconds()
            if age_s > DEAD_AFTER_S and not self._has_heartbeat(trial):
                study.tell(trial.number, state=TrialState.FAIL)

    def _has_heartbeat(self, trial: FrozenTrial) -> bool:
        engine = sa.create_engine(self.address, poolclass=NullPool)
        query = sa.text("SELECT count(*) FROM trial_heartbeats WHERE trial_id = :id")
        with engine.connect() as connection:
            return bool(connection.execute(query, {"id": trial._trial_id}).scalar())

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Say database errors in one line.

        Raises:
            SweepError: in place of an error of the database.
        """
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            reason = hide_passwords(reason, read_address(self.address))
            raise SweepError(
                f"{self.shown}: {reason}; check the address, and run the same again: it goes on"
            ) from None  # the driver's own error may hold the password

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        """Hold a lock while the database is opened: one process alone can create its tables."""
        url = make_url(self.address)
        file = Path(url.database or "")
        try:
            with ExitStack() as stack:
                if url.get_backend_name() == "sqlite" and file.parent.is_dir():
                    stack.enter_context(FileLock(f"{file}.lock"))
                elif url.get_backend_name() == "postgresql":
                    engine = sa.create_engine(url, poolclass=NullPool)
                    connection = stack.enter_context(engine.begin())
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_NUMBER)))
                yield
        except ImportError as error:
            raise SweepError(
                f"{self.shown}: {error.__cause__ or error}; install its driver: "
                "pip install 'twinrank[sweep]' brings those of SQLite and PostgreSQL"
            ) from error

    def _open(self, attempts: int = 5) -> RDBStorage:
        engine = {"connect_args": {"timeout": 60}} if self.address.startswith("sqlite") else {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    self.address,
                    engine_kwargs=engine,
                    heartbeat_interval=HEARTBEAT_EVERY_S,
                    grace_period=DEAD_AFTER_S,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
                )
        except DBAPIError as error:
            exists = isinstance(error, IntegrityError) or "already exists" in str(error)
            if attempts == 1 or not exists:
                raise
        time.sleep(
            0.2
        )  # a program without the lock, such as Optuna's dashboard, creates the tables now
        return self._open(attempts - 1)

    def _check_same_sweep(self, storage: RDBStorage, name: str, identity: dict[str, Any]) -> None:
        """Refuse a file with another sweep."""
        others = {s.study_name: s.user_attrs.get("identity", {}) for s in storage.get_all_studies()}
        if not self.is_file or not others or name in others:
            return
        former = next(iter(others.values()))
        different = [key for key in identity if identity[key] != former.get(key)]
        raise SweepError(
            f"{self.shown}: holds a sweep with another {' and another '.join(different)}; "
            "choose another folder (--out)"
        )
