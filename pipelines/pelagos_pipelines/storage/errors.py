"""Failures of object storage, in our own words: vendors' messages are long and quote the request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pelagos_contract import s3
from pelagos_contract.s3 import Failing


class StorageError(Exception):
    """The storage does not answer, or cannot serve the request now. Trying the step again helps."""


class StorageRefusedError(Exception):
    """The storage refuses the credentials, the bucket or a name. A person must change something."""


class ChangedError(StorageError):
    """An object was replaced after it was listed. Trying the step again helps."""


class TakenOverError(Exception):
    """Another process has taken over the place. This one must end without writing there again."""


@contextmanager
def worded(where: str, doing: str) -> Iterator[None]:
    """Translate obstore's errors into ours. FileNotFoundError passes through for an absent object, not for an absent bucket.

    Raises:
        StorageError, StorageRefusedError, ChangedError: as each class says.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if not s3.is_bucket_missing(error):
            raise
        raise _refused(where, doing, error) from None
    except exceptions.InvalidPathError as error:
        raise StorageRefusedError(f"{where}: {s3.odd_name(error)}") from None
    except exceptions.PreconditionError:
        raise ChangedError(f"{where}: it changed while {doing}; try again") from None
    except (exceptions.BaseError, ValueError) as error:
        raise _refused(where, doing, error) from None


def _refused(where: str, doing: str, error: Exception) -> StorageError | StorageRefusedError:
    failure = s3.failure(error, authority="AWS_CA_BUNDLE")
    said = failure.said
    refusals = {
        Failing.NO_BUCKET: "there is no such bucket; create it, or correct the uri",
        Failing.DENIED: f"access is refused ({said}) while {doing}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the"
        " Secret that this step gets, and what they allow in this bucket",
        Failing.NO_CONDITIONS: f"the service has no conditional writes ({said}), which keep two steps apart; use one that has",
        Failing.MISUNDERSTOOD: f"the service does not understand ({said}) while {doing}; check AWS_ENDPOINT_URL and AWS_REGION",
    }
    if failure.kind in refusals:
        return StorageRefusedError(f"{where}: {refusals[failure.kind]}")
    return StorageError(f"{where}: {doing}: {said}")
