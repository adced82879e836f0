"""How object storage fails, in words of our own: vendors' messages are long and quote what they were sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

NOT_NOW = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ExpiredToken"})
"""Refusals that pass by themselves, or once credentials that are rotated have arrived."""


class StorageError(Exception):
    """The storage does not answer, or cannot now. Trying the step again helps."""


class StorageRefusedError(Exception):
    """The storage refuses credentials, bucket or name. A person must change something."""


class ChangedError(StorageError):
    """An object is not the one that was listed. Trying the step again helps."""


class TakenOverError(Exception):
    """Another process works in the same place now; this one must end and leave it alone."""


@contextmanager
def worded(where: str, doing: str) -> Iterator[None]:
    """Raise our errors for obstore's; FileNotFoundError passes for an absent object, not for an absent bucket.

    Raises:
        StorageError, StorageRefusedError, ChangedError: see there.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error):
            raise
        raise _refused(where, doing, str(error)) from None
    except exceptions.InvalidPathError as error:
        raise StorageRefusedError(f"{where}: {_odd_name(str(error))}") from None
    except exceptions.PreconditionError:
        raise ChangedError(f"{where}: it changed while {doing}; try again") from None
    except (exceptions.BaseError, ValueError) as error:
        raise _refused(where, doing, str(error)) from None


def _refused(where: str, doing: str, text: str) -> StorageError | StorageRefusedError:
    status, code = _find(r"status code: (\d{3})", text), _find(r"<Code>(\w{1,60})</Code>", text)
    said = " ".join(part for part in (f"HTTP {status}" if status else "", code) if part)
    if code == "NoSuchBucket" or (status == "404" and not code):
        return StorageRefusedError(f"{where}: there is no such bucket; create it, or correct the uri")
    if code in NOT_NOW:
        return StorageError(f"{where}: {doing}: {said}")
    if status in {"401", "403"}:
        return StorageRefusedError(
            f"{where}: access is refused ({said}) while {doing}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret"
            " that this step gets, and what they allow in this bucket"
        )
    if status == "501":
        return StorageRefusedError(
            f"{where}: the service has no conditional writes ({said}), which keep two steps apart; use one that has"
        )
    if status in {"301", "307", "400"}:
        return StorageRefusedError(
            f"{where}: the service does not understand ({said}) while {doing}; check AWS_ENDPOINT_URL and AWS_REGION"
        )
    return StorageError(f"{where}: {doing}: {said or _network(text)}")


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def _odd_name(text: str) -> str:
    name = _find(r'Path "([^"]{1,200})', text)
    named = f" {name!r}" if name else ""
    return f"the object{named} has a name that is no path (an empty part, '..' or a control character); rename or remove it"


def _network(text: str) -> str:
    if "timed out" in text or "Timeout" in text:
        return "no answer in time"
    if "certificate" in text.lower():
        return "its TLS certificate is not trusted; name its certificate authority in AWS_CA_BUNDLE"
    if "kind: Connect" in text:
        return "no connection"
    return "the connection broke"
