"""What can go wrong, as one tree.

::

    PipelineError
    ├── InvalidConnectionError     what a person asked for can't be stored; all errors at once
    ├── ConnectionsFileError       a file of connections has errors; all at once
    ├── UnknownConnectionError     no connection of that name
    ├── NotInQuarantineError       an object that is to be tried again is not in quarantine
    ├── NotATaskError              an object, or one row of it, can't become a task
    ├── ExternalSystemError               an outside system refused or failed
    │   ├── BucketError
    │   │   ├── BucketNotFoundError
    │   │   ├── BucketAccessError      credentials missing, wrong, or not enough
    │   │   ├── BucketUnavailableError try again
    │   │   ├── ObjectNotFoundError
    │   │   └── ObjectChangedError     another version than the one asked for: look again
    │   ├── QueueError                 the queue of a bucket's notifications
    │   │   ├── QueueAccessError       credentials missing, wrong, or not enough
    │   │   └── QueueUnavailableError  try again
    │   └── LabelStudioError
    │       ├── LabelStudioAccessError
    │       ├── LabelStudioUnavailableError  try again; the outcome of a write is unknown
    │       ├── ProjectNotFoundError
    │       └── TasksRefusedError      Label Studio refused a batch; says which tasks
    ├── SnapshotError              training data is absent, incomplete, damaged, or fails a check
    ├── FormatError                training data can't be converted to a format
    ├── HomeError                  the home is in use, or not in the state that was asked for
    ├── LocalCopyError             the disk refuses a local copy
    ├── LedgerError                our own record can't be opened
    │   └── LedgerUnavailableError its database failed meanwhile; try again
    └── LeaseError                 another run holds the connection
        └── LeaseLostError         this run held it, and was overtaken

Every message is a sentence that says what happened, to which object, and what to do next.
``transient`` tells "try again" from "never will".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class PipelineError(Exception):
    """Any failure that ls_pipeline itself reports."""

    transient = False


class InvalidConnectionError(PipelineError):
    """Everything that is wrong with a connection, each error a sentence."""

    def __init__(self, name: str, errors: Sequence[str]) -> None:
        self.name = name
        self.errors = tuple(errors)
        super().__init__(f"Connection {name!r} was not stored: " + " ".join(self.errors))


class ConnectionsFileError(PipelineError):
    """Everything that is wrong with a file of connections, each error a sentence."""

    def __init__(
        self, file: str, errors: Sequence[str], so_far: str = "nothing was stored"
    ) -> None:
        self.file = file
        self.errors = tuple(errors)
        super().__init__("\n  ".join((f"{file}: {so_far}.", *self.errors)))


class UnknownConnectionError(PipelineError):
    """There is no connection of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        have = ", ".join(known) if known else "none yet"
        super().__init__(f"There is no connection {name!r}; there are: {have}.")


class NotInQuarantineError(PipelineError):
    """An object that is to be tried again is not in quarantine."""

    def __init__(self, connection: str, keys: Sequence[str]) -> None:
        self.connection = connection
        self.keys = tuple(keys)
        super().__init__(
            f"Not in quarantine of {connection!r}: {', '.join(map(repr, keys))}; see "
            f"ls-pipeline quarantine list {connection}."
        )


class NotATaskError(PipelineError):
    """An object, or a row of it, can't become a task; the message is the reason."""


class ExternalSystemError(PipelineError):
    """A bucket, a queue or Label Studio refused or failed."""


class BucketError(ExternalSystemError):
    """A bucket refused or failed."""

    def __init__(self, uri: str, what: str) -> None:
        self.uri = uri
        super().__init__(f"{uri}: {what}")


class BucketNotFoundError(BucketError):
    """The bucket does not exist."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "the bucket does not exist; create it, or correct the path.")


class BucketAccessError(BucketError):
    """Credentials are missing, wrong, or lack a permission."""


class BucketUnavailableError(BucketError):
    """The bucket did not answer, or answered that it can't now."""

    transient = True


class ObjectNotFoundError(BucketError):
    """There is no such object."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "the object is not there (any more).")


class ObjectRefusedError(BucketError):
    """An object is refused for what it is: archived, or encrypted with a key that nobody has."""


class ObjectChangedError(BucketError):
    """The object is there, in another version than the one asked for."""

    transient = True

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "the object changed while it was read; the next pass takes it.")


class QueueError(ExternalSystemError):
    """The queue of a bucket's notifications refused or failed; the polls go on."""

    def __init__(self, address: str, what: str) -> None:
        self.address = address
        super().__init__(f"{address}: {what}")


class QueueAccessError(QueueError):
    """Credentials are missing, wrong, or lack a permission."""


class QueueUnavailableError(QueueError):
    """The queue did not answer, or answered that it can't now."""

    transient = True


class LabelStudioError(ExternalSystemError):
    """Label Studio refused or failed."""


class LabelStudioAccessError(LabelStudioError):
    """Label Studio does not accept the API key."""


class LabelStudioUnavailableError(LabelStudioError):
    """Label Studio did not answer, or with a server error: whether it acted is unknown."""

    transient = True


class ProjectNotFoundError(LabelStudioError):
    """The project does not exist, or not any more."""


class TasksRefusedError(LabelStudioError):
    """Label Studio refused a batch of tasks, and stored none of it.

    ``reasons`` maps positions in the batch to Label Studio's rejection; it is empty where
    the answer doesn't tell. ``crashed`` says that it was no refusal but an internal error,
    which a task may have caused, or something else.
    """

    def __init__(self, message: str, reasons: Mapping[int, str], *, crashed: bool = False) -> None:
        self.reasons = dict(reasons)
        self.crashed = crashed
        super().__init__(message)


class SnapshotError(PipelineError):
    """A snapshot of training data is absent, incomplete, damaged, or fails a check."""


class FormatError(PipelineError):
    """Training data can't be converted to a format."""


class HomeError(PipelineError):
    """The home is in use, or not in the state that was asked for."""

    def __init__(self, home: str, what: str) -> None:
        self.home = home
        super().__init__(f"{home}: {what}")


class LocalCopyError(PipelineError):
    """The disk refuses a local copy."""

    transient = True

    def __init__(self, place: str, what: str) -> None:
        self.place = place
        super().__init__(f"{place}: {what}")


class LedgerError(PipelineError):
    """The ledger's database can't be opened."""


class LedgerUnavailableError(LedgerError):
    """The ledger's database did not answer, or refused: what was to be written is not, or all."""

    transient = True

    def __init__(self, place: str, what: str, *, is_busy: bool = False) -> None:
        self.place = place
        self.is_busy = is_busy
        look = "another process kept it for too long" if is_busy else "see to its database"
        super().__init__(
            f"The ledger {place} failed ({what}); {look}. "
            "The next pass takes up what this one left."
        )


class LeaseError(PipelineError):
    """Another run is working on the connection."""

    transient = True

    def __init__(self, connection: str, holder: str) -> None:
        self.connection = connection
        self.holder = holder
        super().__init__(
            f"Connection {connection!r} is being worked on by {holder}; "
            "wait for it to end, then try again."
        )


class LeaseLostError(LeaseError):
    """The run held the connection and was overtaken; what it still wanted to do is void."""

    def __init__(self, connection: str) -> None:
        self.connection = connection
        self.holder = "a newer run"
        PipelineError.__init__(
            self,
            f"Connection {connection!r} was taken over by a newer run, as this one was not heard "
            "of for too long; it changed nothing more. Look at the newer run.",
        )
