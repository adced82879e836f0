"""Asynchronous invocations: send an image, have a job run, read its status and result. Called by ``pelagos invocation``.

OSCAR answers 201 without naming the job, reports ``Succeeded`` for a job whose script failed, and forgets ended jobs after some
time. So each invocation has its own key, below which image, result and status are stored in a MinIO bucket that no service
names. Addresses that OSCAR signs let the job read and write these three objects, and nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp

from pelagos.engines.oscar import manifests
from pelagos.engines.oscar.rest import SYSTEM, ExistsError, OscarRest
from pelagos.engines.triton import inference
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract import invocations
from pelagos_contract.text import shown

LIFETIME = 24 * 3600
"""Lifetime of the job's addresses in seconds; the job may have to wait that long for its turn."""
_SOON = 300
"""Lifetime, in seconds, of addresses that we use immediately."""
LARGEST_RESULT = 256 * 1024 * 1024
_MOST_LOGS = 50
_ENDED = frozenset({"Succeeded", "Failed"})


class State(Enum):
    """The state of an invocation."""

    WAITING = "Waiting"
    """There is no status yet, and some job of the service has not ended."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LOST = "Lost"
    """There is no status, and no job left that could write one."""


@dataclass(frozen=True)
class Seen:
    """The known state of an invocation; ``content`` is the prediction if it succeeded."""

    key: str
    state: State
    message: str = ""
    content: Mapping[str, Any] | None = None
    finished_at: str = ""


class Invocations:
    """The invocations of one cluster's services. ``begin`` is the prefix of the bucket's addresses; no others are used."""

    def __init__(self, rest: OscarRest, bucket: str, begin: str) -> None:
        self._rest = rest
        self._bucket = bucket
        self._begin = begin

    async def start(self, service: str, uid: str, image: bytes, confidence: str = "", key: str = "") -> str:
        """Start an invocation for an image, and return its key. With the key of one that was started before, start none.

        ``uid`` is that of the ModelService that the service must belong to. Only uid and name are checked: callers have no key
        to verify the seal that the operator checks. Raises OutageError or RejectedError.
        """
        found = await self._rest.service(service)
        if found is None:
            raise RejectedError(SYSTEM, f"there is no service {service} at {self._rest.access.url}")
        if not service.startswith(manifests.prefix(uid)) or manifests.annotations_of(found).get(manifests.UID) != uid:
            raise RejectedError(
                SYSTEM,
                f"the service {service} at {self._rest.access.url} was not created for this ModelService, so no image is sent to "
                f"it: it does not have its uid {shown(uid)[:64]} in its name and its annotation {manifests.UID}. Find out whose "
                "it is",
            )
        key = key or secrets.token_hex(12)
        if not invocations.KEY.fullmatch(key):
            raise RejectedError(
                SYSTEM,
                f"the key {shown(key)[:80]!r} must have 8 to 64 lower-case letters, digits and '-', and not begin with '-'",
            )
        if not await self._rest.has_bucket(self._bucket):
            try:
                await self._rest.make_bucket(self._bucket)
            except ExistsError as error:
                raise RejectedError(SYSTEM, f"the bucket {self._bucket} belongs to somebody else: {error}") from error
        known = await self._get(service, key, invocations.IMAGE, invocations.LARGEST_IMAGE)
        # An invocation that was interrupted before its job was created is started again.
        if known is not None and (await self.look(service, key)).state is not State.LOST:
            return key
        told = invocations.Invocation(
            key=key,
            image_url=await self._signed(service, key, invocations.IMAGE, "download", LIFETIME),
            image_sha256=hashlib.sha256(image).hexdigest(),
            result_url=await self._signed(service, key, invocations.RESULT, "upload", LIFETIME),
            status_url=await self._signed(service, key, invocations.STATUS, "upload", LIFETIME),
            confidence=confidence,
        )
        await self._put(service, key, invocations.IMAGE, image)
        await self._rest.invoke(service, str(found.get("token", "")), invocations.event(told))
        return key

    async def look(self, service: str, key: str) -> Seen:
        """The state of an invocation. Raises OutageError or RejectedError."""
        if not invocations.KEY.fullmatch(key):
            raise RejectedError(SYSTEM, f"{shown(key)[:64]!r} is not the key of an invocation")
        written = await self._get(service, key, invocations.STATUS, invocations.LARGEST_STATUS)
        if written is not None:
            return await self._told(service, key, written)
        jobs = await self._rest.jobs(service)
        left = [job for job, each in jobs.items() if each.get("status") not in _ENDED]
        # A job that could not write its status has logged it; the log exists as long as OSCAR keeps the job.
        for job in [each for each in jobs if each not in left][-_MOST_LOGS:]:
            for line in (await self._rest.job_log(service, job)).splitlines():
                if (at := line.find(invocations.LOGGED)) >= 0 and f'"{key}"' in line:
                    return await self._told(service, key, line[at + len(invocations.LOGGED) :].encode())
        if left:
            return Seen(key, State.WAITING, f"{len(left)} jobs of the service wait or run")
        message = "no job of the service is left that could answer, and none has left a status: it ended before its script could "
        return Seen(
            key, State.LOST, f"{message}write one, or it never started. OSCAR forgets ended jobs; start it again"
        )

    async def _told(self, service: str, key: str, written: bytes) -> Seen:
        try:
            status = invocations.read_status(written, key)
        except ValueError as error:
            return Seen(key, State.FAILED, f"the object at its status was not written by Pelagos: {error}")
        if status.state == invocations.FAILED:
            return Seen(key, State.FAILED, shown(status.message), None, shown(status.finished_at))
        result = await self._get(service, key, invocations.RESULT, LARGEST_RESULT)
        if result is None:
            return Seen(key, State.LOST, "its result was removed from the bucket", None, shown(status.finished_at))
        if hashlib.sha256(result).hexdigest() != status.result_sha256:
            return Seen(
                key, State.FAILED, "its result was altered: its sha256 differs", None, shown(status.finished_at)
            )
        try:
            content = inference.answered(result)
        except inference.InferenceError as error:
            return Seen(key, State.FAILED, str(error), None, shown(status.finished_at))
        return Seen(key, State.SUCCEEDED, "", content, shown(status.finished_at))

    async def _signed(self, service: str, key: str, name: str, operation: str, seconds: int) -> str:
        url = await self._rest.signed(self._bucket, f"{service}/{key}/{name}", operation, seconds)
        if not url.startswith(self._begin):
            place = url.partition("?")[0][:200]
            message = f"OSCAR signs addresses that begin differently: {shown(place)}"
            raise RejectedError(
                SYSTEM, f"{message}; set PELAGOS_OSCAR_STORAGE_URL so that it begins with {self._begin}"
            )
        return url

    async def _put(self, service: str, key: str, name: str, content: bytes) -> None:
        url = await self._signed(service, key, name, "upload", _SOON)
        status, _ = await self._ask("PUT", url, content, 0)
        if status not in {200, 201, 204}:
            raise OutageError(SYSTEM, f"the storage answers HTTP {status} to the image")

    async def _get(self, service: str, key: str, name: str, limit: int) -> bytes | None:
        """An object of the invocation; None when it does not exist."""
        url = await self._signed(service, key, name, "download", _SOON)
        status, content = await self._ask("GET", url, None, limit)
        if status == 404:
            return None
        if status != 200:
            raise OutageError(SYSTEM, f"the storage answers HTTP {status} when asked for {name}")
        return content

    async def _ask(self, method: str, url: str, content: bytes | None, limit: int) -> tuple[int, bytes]:
        tls = self._rest.trusted.tls()
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session,
                session.request(method, url, data=content, ssl=tls, allow_redirects=False) as answer,
            ):
                found = bytearray()
                async for part in answer.content.iter_any():
                    found += part
                    if limit and len(found) > limit:
                        raise OutageError(SYSTEM, f"the storage holds more than the {limit} bytes that are expected")
                return answer.status, bytes(found)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Do not mention the address: anyone who has it can use it.
            raise OutageError(SYSTEM, f"the storage does not answer: {type(error).__name__}") from None
