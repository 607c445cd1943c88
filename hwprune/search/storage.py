"""Where trials are kept: memory, an SQLite file, or a database that many machines share."""

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from hwprune.errors import StoreError

if TYPE_CHECKING:
    import optuna

BEAT_SECONDS = 10
_GRACE_SECONDS = 60  # without a sign of life, then a worker counts as gone
_LOCK_SECONDS = 60  # that SQLite waits for another process
_TRIES, _PAUSE_SECONDS = 6, 0.5


def open_storage(storage: Path | str | None) -> "optuna.storages.BaseStorage":
    """Opens a file of trials, or a database by its address, made if it is not there.

    Args:
        storage: path of an SQLite file, an address such as postgresql://host/trials, or None for
            memory.

    Raises:
        StoreError: it cannot be opened; the error says why, without the address' password.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if storage is None:
        return optuna.storages.InMemoryStorage()
    from sqlalchemy.exc import SQLAlchemyError

    is_address = "://" in str(storage)
    url = str(storage) if is_address else f"sqlite:///{storage}"
    try:
        if not is_address:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
        return _created(url)
    except (OSError, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise StoreError(f"the trials in {shown(storage)} cannot be opened: {reason}",
                         "check the address" if is_address
                         else "move the file away to start anew") from error  # fmt: skip
    except ImportError as error:
        raise StoreError(
            f"the trials in {shown(storage)} cannot be opened: {error}",
            "install its driver: pip install 'hwprune[postgres]'",
        ) from error


def shown(storage: Path | str) -> str:
    """The storage as it may be printed."""
    text = str(storage)
    if "://" not in text:
        return text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(text).render_as_string(hide_password=True)
    except ArgumentError:
        return "the database"


def _created(url: str) -> "optuna.storages.RDBStorage":
    """Processes that begin together may make the same tables: the later ones then find them."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for _ in range(_TRIES - 1):
        try:
            return _database(url)
        except (IntegrityError, OperationalError, ProgrammingError):
            time.sleep(_PAUSE_SECONDS)
    return _database(url)


def _database(url: str) -> "optuna.storages.RDBStorage":
    import optuna

    arguments = {"timeout": _LOCK_SECONDS} if url.startswith("sqlite") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats are called experimental
        return optuna.storages.RDBStorage(
            url,
            {"connect_args": arguments},
            heartbeat_interval=BEAT_SECONDS,
            grace_period=_GRACE_SECONDS,
        )
