"""Everything that can go wrong, as one tree.

::

    PipelineError
    ├── InvalidConnectionError           a connection can't be stored; lists every error
    ├── ConnectionsFileError             a file of connections can't be applied; lists every error
    ├── UnknownConnectionError           no connection has that name
    ├── StoredSettingsError              this version refuses a connection's stored settings
    ├── SettingsMismatchError            a connection's params don't fit its label config
    ├── IdentityError                    a project or target is not the one that the ledger knows
    ├── MassChangeError                  a run would delete too much; it waits for consent
    ├── RebindError                      a connection can't be rebound in this way
    ├── UnsettledError                   a connection is not removed: a run left something half done
    ├── InvalidVariableError             an environment variable has an unusable value
    ├── NotInQuarantineError             an object to retry is not in quarantine
    ├── NotATaskError                    an object, or one row of it, can't become a task
    │   └── NotJSONError                 what follows in the object can't be read either
    ├── ExternalSystemError              an external system refused or failed
    │   ├── BucketError
    │   │   ├── BucketNotFoundError
    │   │   ├── BucketAccessError        credentials are missing, wrong or insufficient
    │   │   ├── BucketUnavailableError   try again
    │   │   ├── ObjectNotFoundError
    │   │   ├── ObjectRefusedError       the object is archived or locked, or its key is missing
    │   │   └── ObjectChangedError       the object has another version now; list it again
    │   ├── QueueError                   the queue of a bucket's notifications
    │   │   ├── QueueAccessError         credentials are missing, wrong or insufficient
    │   │   └── QueueUnavailableError    try again
    │   └── LabelStudioError
    │       ├── LabelStudioAccessError
    │       ├── LabelStudioUnavailableError  try again; the outcome of a write is unknown
    │       ├── AnswerTooLargeError      an answer has too many bytes
    │       ├── ProjectNotFoundError
    │       ├── TaskPartsLostError       tasks were stored without predictions and annotations
    │       └── TasksRefusedError        Label Studio refused a batch, or crashed over it
    ├── SnapshotError                    training data is absent, incomplete, damaged or wrong
    ├── FormatError                      training data can't be converted to a format
    ├── HomeError                        the home is in use, or not in the expected state
    ├── LocalCopyError                   the disk refused a local copy; try again
    ├── ServerFailedError                a server did not start
    ├── DagsterStorageError              Dagster's home or database can't be used
    ├── LedgerError                      the ledger can't be opened
    │   └── LedgerUnavailableError       its database failed during a run; try again
    ├── RunTooLongError                  a run reached its time limit; the next one continues
    └── LeaseError                       another run holds the connection; try again
        └── LeaseLostError               this run held it, and another run took over

An error has a ``message`` (what happened, and where) and a ``hint`` (what to do next).
Both are sentences. They may quote what strangers wrote, so control characters are escaped.
``transient`` separates "try again" from "it will fail again"; ``needs_decision`` says that a
person has to decide what is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class PipelineError(Exception):
    """Any failure that ls_pipeline itself reports.

    Its text is the message, then the hint, then each of the ``details`` on a line.
    """

    transient = False
    needs_decision = False

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = ()) -> None:
        self.message, self.hint = visible(message), visible(hint)
        sentences = " ".join(filter(None, (self.message, self.hint)))
        super().__init__("\n  ".join((sentences, *map(visible, details))))


class InvalidConnectionError(PipelineError):
    """A connection can't be stored; ``errors`` has a sentence for every reason."""

    def __init__(self, name: str, errors: Sequence[str]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"Connection {name!r} was not stored: " + " ".join(self.errors))


class ConnectionsFileError(PipelineError):
    """A file of connections can't be applied; ``errors`` has a sentence for every reason."""

    def __init__(
        self, file: str, errors: Sequence[str], so_far: str = "nothing was stored"
    ) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{file}: {so_far}.", details=self.errors)


class UnknownConnectionError(PipelineError):
    """No connection has that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        names = ", ".join(known) if known else "none yet"
        super().__init__(f"There is no connection {name!r}. Connections: {names}.")


class StoredSettingsError(PipelineError):
    """The ledger has settings of a connection that this version of ls_pipeline refuses.

    ``enabled`` is whether they enable the connection.
    """

    def __init__(self, connection: str, revision: int, errors: str, *, enabled: bool) -> None:
        self.enabled = enabled
        super().__init__(
            f"Connection {connection!r} stopped, because this version of ls_pipeline refuses "
            f"revision {revision} of its settings: {errors}",
            hint="Store all of its settings again with `ls-pipeline connections add "
            f"{connection}` or `connections apply`.",
        )


class SettingsMismatchError(PipelineError):
    """A connection's params don't fit the label config of its project."""


class IdentityError(PipelineError):
    """A project or a target is not the one that the ledger knows; nothing was changed."""

    needs_decision = True

    def __init__(self, connection: str, what: str) -> None:
        self.what = what
        super().__init__(
            f"Connection {connection!r} stopped and changes nothing: {what}",
            hint="If the address is wrong, correct it, and run `ls-pipeline sync "
            f"{connection}`. Otherwise see what `ls-pipeline connections rebind {connection}` "
            "offers.",
        )


class MassChangeError(PipelineError):
    """A run would delete, empty or bury most of what a connection has: ``count`` of ``total``."""

    needs_decision = True

    def __init__(self, connection: str, what: str, count: int, total: int) -> None:
        self.count = count
        super().__init__(
            f"Connection {connection!r} stopped: this run would {what}, {count} of {total}. "
            "None of them was touched.",
            hint="If that is right, allow it once with `ls-pipeline sync "
            f"{connection} --allow-mass-change`, or with allow_mass_change in the launchpad.",
        )


class RebindError(PipelineError):
    """A connection can't be rebound as a person chose."""

    def __init__(self, connection: str, what: str) -> None:
        super().__init__(
            f"Connection {connection!r} was not rebound: {what}",
            hint=f"See what `ls-pipeline connections rebind {connection}` offers.",
        )


class UnsettledError(PipelineError):
    """A connection was not removed, because what a run began could not be finished."""

    def __init__(self, connection: str, reason: PipelineError) -> None:
        super().__init__(
            f"Connection {connection!r} was not removed, because what a run began could not be "
            f"finished: {reason.message}",
            hint="Try again later, or add --force: then it is finished if you add the connection "
            "again.",
        )


class InvalidVariableError(PipelineError):
    """An environment variable has an unusable value."""

    def __init__(self, variable: str, what: str, *, hint: str = "") -> None:
        super().__init__(f"{variable} {what}", hint=hint)


class NotInQuarantineError(PipelineError):
    """An object to retry is not in quarantine."""

    def __init__(self, connection: str, keys: Sequence[str]) -> None:
        super().__init__(
            f"Not in the quarantine of {connection!r}: {', '.join(map(repr, keys))}.",
            hint=f"See ls-pipeline quarantine list {connection}.",
        )


class NotATaskError(PipelineError):
    """An object, or one row of it, can't become a task; the message is the reason."""


class NotJSONError(NotATaskError):
    """A text stops being JSON at one place: what follows can't be read either."""

    def __init__(self, reason: str, place: str) -> None:
        super().__init__(f"Not JSON: {reason} ({place}).")


class ExternalSystemError(PipelineError):
    """A bucket, a queue or Label Studio refused or failed."""


class BucketError(ExternalSystemError):
    """A bucket refused or failed; ``uri`` is the bucket or the object."""

    def __init__(self, uri: str, what: str, *, hint: str = "") -> None:
        self.uri = uri
        super().__init__(f"{uri}: {what}", hint=hint)


class BucketNotFoundError(BucketError):
    """The bucket does not exist."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "the bucket does not exist.", hint="Create it, or correct the path.")


class BucketAccessError(BucketError):
    """Credentials are missing, wrong, or lack a permission."""


class BucketUnavailableError(BucketError):
    """The bucket did not answer, or answered that it is not available now."""

    transient = True


class ObjectNotFoundError(BucketError):
    """The object does not exist."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "the object does not exist (any more).")


class ObjectRefusedError(BucketError):
    """The store refuses this object: it is archived, locked, or its encryption key is missing."""


class ObjectChangedError(BucketError):
    """The object exists, in another version than the one asked for."""

    transient = True

    def __init__(self, uri: str, *, is_write: bool = False) -> None:
        verb, next_time = ("written", "looks again") if is_write else ("read", "reads it again")
        super().__init__(uri, f"the object changed while it was {verb}. The next run {next_time}.")


class QueueError(ExternalSystemError):
    """The queue of a bucket's notifications refused or failed; polling continues."""

    def __init__(self, address: str, what: str, *, hint: str = "") -> None:
        super().__init__(f"{address}: {what}", hint=hint)


class QueueAccessError(QueueError):
    """Credentials are missing, wrong, or lack a permission."""


class QueueUnavailableError(QueueError):
    """The queue did not answer, or answered that it is not available now."""

    transient = True


class LabelStudioError(ExternalSystemError):
    """Label Studio refused or failed."""


class LabelStudioAccessError(LabelStudioError):
    """Label Studio does not accept the API key."""


class LabelStudioUnavailableError(LabelStudioError):
    """Label Studio did not answer, or had a server error: whether it acted is unknown."""

    transient = True


class AnswerTooLargeError(LabelStudioError):
    """An answer of Label Studio has more bytes than are read."""

    def __init__(self, url: str) -> None:
        super().__init__(f"Label Studio's answer at {url} has too many bytes.", hint="See its log.")


class ProjectNotFoundError(LabelStudioError):
    """The project does not exist (any more)."""


class TasksRefusedError(LabelStudioError):
    """Label Studio refused a batch of tasks, or crashed over it.

    ``reasons`` maps positions in the batch to Label Studio's reason; it is empty if the answer
    names none. ``crashed`` means an internal error of Label Studio, which a task may have caused:
    whether the tasks were stored is unknown, so look. Otherwise none was stored. ``too_large``
    means that fewer tasks, or shorter ones, may be accepted.
    """

    def __init__(
        self,
        message: str,
        reasons: Mapping[int, str],
        *,
        crashed: bool = False,
        too_large: bool = False,
        hint: str = "",
    ) -> None:
        self.reasons = dict(reasons)
        self.crashed, self.too_large = crashed, too_large
        super().__init__(message, hint=hint)


class TaskPartsLostError(LabelStudioError):
    """Label Studio stored a batch of tasks without their predictions and annotations.

    ``task_ids`` are those tasks, in the order of the batch.
    """

    def __init__(self, message: str, task_ids: Sequence[int], *, hint: str = "") -> None:
        self.task_ids = list(task_ids)
        super().__init__(message, hint=hint)


class SnapshotError(PipelineError):
    """A snapshot of training data is absent, incomplete or damaged, or fails a check."""


class FormatError(PipelineError):
    """Training data can't be converted to a format."""


class HomeError(PipelineError):
    """The home is in use, or not in the expected state."""

    def __init__(self, home: str, what: str, *, hint: str = "") -> None:
        super().__init__(f"{home}: {what}", hint=hint)


class LocalCopyError(PipelineError):
    """The disk refused a local copy."""

    transient = True


class DagsterStorageError(PipelineError):
    """Dagster's home or database can't be used."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(
            f"Dagster's storage ({place}) can't be used: {what}",
            hint="Check the disk, and the database that this file names.",
        )


class LedgerError(PipelineError):
    """The ledger's database can't be opened."""


class LedgerUnavailableError(LedgerError):
    """The ledger's database did not answer, or refused a write: all of it is stored, or nothing."""

    transient = True

    def __init__(
        self, name: str, what: str, *, is_busy: bool = False, advice: str = "Check its database."
    ) -> None:
        self.is_busy = is_busy
        cause = ", because another process kept it locked for too long" if is_busy else ""
        super().__init__(
            f"The ledger {name} failed{cause} ({what}). "
            "The next run continues where this one stopped.",
            hint="" if is_busy else advice,
        )


class RunTooLongError(PipelineError):
    """A run reached its time limit: it begins nothing more, and what it did is recorded."""

    transient = True

    def __init__(self, connection: str, seconds: float) -> None:
        super().__init__(
            f"Connection {connection!r}: the run was ended after {seconds / 3600:g} hours, its "
            "limit. What it did is recorded.",
            hint="The next run continues where it stopped. The param run_hours_at_most sets the "
            "limit.",
        )


class LeaseError(PipelineError):
    """Another run holds the connection."""

    transient = True

    def __init__(self, connection: str, holder: str) -> None:
        super().__init__(
            f"Connection {connection!r} is being worked on by {holder}.",
            hint="Wait for it to end, then try again.",
        )


class LeaseLostError(LeaseError):
    """The run held the connection until another run took over; it can write nothing more."""

    def __init__(self, connection: str) -> None:
        PipelineError.__init__(
            self,
            f"Connection {connection!r} was taken over by a newer run, because this run did not "
            "renew its lease in time. This run changed nothing more.",
            hint="See the newer run.",
        )
