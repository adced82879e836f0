"""An issuer for tests that gives false answers and fails on demand; keys and tokens are made by joserfc."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OctKey, RSAKey

AUDIENCE = "pelagos-models"


@functools.cache
def key(kid: str, number: int = 0) -> RSAKey:
    """One of several keys, each generated only once, because that takes time."""
    del number
    return RSAKey.generate_key(2048, {"kid": kid})


class MadeIssuer:
    """``asked`` counts requests by path; ``answers`` replace the usual ones.

    Answers about slow tokens wait until ``gate`` is open.
    """

    def __init__(self) -> None:
        self.keys: list[Key] = [key("first")]
        self.asked: dict[str, int] = {}
        self.answers: dict[str, web.Response] = {}
        self.users: dict[str, Mapping[str, Any]] = {}
        self.gate = asyncio.Event()
        self.name = ""
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.name = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def token(self, signer: Key | None = None, algorithm: str = "RS256", header: Any = None, **claims: Any) -> str:
        """A valid token, changed; None removes a claim."""
        signer = signer or self.keys[0]
        usual = {"iss": self.name, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 600}
        told = {name: value for name, value in (usual | claims).items() if value is not None}
        given = {"alg": algorithm} | ({"kid": signer.kid} if signer.kid else {}) | (header or {})
        return jwt.encode(given, told, signer, algorithms=[algorithm])

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        self.asked[path] = self.asked.get(path, 0) + 1
        if path in self.answers:
            answer = self.answers[path]
            return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))
        if path == "/.well-known/openid-configuration":
            return web.json_response(
                {"issuer": self.name, "jwks_uri": f"{self.name}/keys", "userinfo_endpoint": f"{self.name}/me"}
            )
        if path == "/keys":
            return web.json_response(KeySet(self.keys).as_dict(private=False))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token.startswith("slow"):
            await self.gate.wait()
        user = self.users.get(token)
        return web.json_response(user) if user is not None else web.Response(status=401)


__all__ = ["AUDIENCE", "ECKey", "MadeIssuer", "OctKey", "key"]
