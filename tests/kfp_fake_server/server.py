"""The server itself: receives requests, checks them, applies the faults that are switched on, and answers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kfp_fake_server import published, steps
from kfp_fake_server.execution import Execution
from kfp_fake_server.faults import Faults
from kfp_fake_server.store import OVER, Experiment, RequestError, Run, Store, page

if TYPE_CHECKING:
    from kfp_fake_server.backends import Backend
    from kfp_fake_server.published import Operation

Struct = dict[str, Any]

LARGEST_REQUEST = 8 * 1024 * 1024
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}


class FakeServer:
    """A server with its store and its runs. ``multi_user``: every run has a namespace; otherwise none may be named."""

    def __init__(
        self, backend: Backend, *, multi_user: bool = False, capacity: Mapping[str, int] | None = None
    ) -> None:
        self.faults = Faults()
        self.store = Store()
        self.execution = Execution(backend, self.faults, capacity)
        self.multi_user = multi_user
        self.requests: list[str] = []
        """Operations that were requested, in order."""
        self.violations: list[str] = []
        """Requests and replies that the published client does not know."""
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._operations: Mapping[str, Callable[[Operation, Mapping[str, str], Any], Awaitable[Struct]]] = {
            "HealthzService_GetHealthz": self._health,
            "ExperimentService_CreateExperiment": self._create_experiment,
            "ExperimentService_GetExperiment": self._get_experiment,
            "ExperimentService_ListExperiments": self._list_experiments,
            "ExperimentService_DeleteExperiment": self._delete_experiment,
            "RunService_CreateRun": self._create_run,
            "RunService_GetRun": self._get_run,
            "RunService_ListRuns": self._list_runs,
            "RunService_TerminateRun": self._terminate_run,
            "RunService_DeleteRun": self._delete_run,
            "RunService_ArchiveRun": self._archive_run,
            "RunService_UnarchiveRun": self._unarchive_run,
            "RunService_RetryRun": self._retry_run,
            "ExperimentService_ArchiveExperiment": self._archive_experiment,
            "ExperimentService_UnarchiveExperiment": self._unarchive_experiment,
        }

    async def start(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> str:
        """Listen; returns the URL."""
        application = web.Application(client_max_size=LARGEST_REQUEST)
        application.router.add_route("*", "/fake-server/faults", self._switch)
        application.router.add_get("/fake-server/violations", self._tell_violations)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=tls)
        await site.start()
        bound = self._runner.addresses[0]
        self.url = f"{'https' if tls else 'http'}://{bound[0]}:{bound[1]}"
        return self.url

    async def stop(self) -> None:
        """End all runs, and stop listening."""
        await self.execution.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _switch(self, request: web.Request) -> web.Response:
        """GET returns the faults; PUT sets those that it names."""
        if request.method == "PUT":
            for name, value in (await request.json()).items():
                if not hasattr(self.faults, name):
                    return web.json_response({"error": f"there is no fault {name}"}, status=400)
                setattr(self.faults, name, value)
        return web.json_response(dataclasses.asdict(self.faults))

    async def _tell_violations(self, _request: web.Request) -> web.Response:
        return web.json_response(self.violations)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        operation = published.find(request.method, request.path)
        if operation is None or operation.identifier not in self._operations:
            return _error(501, f"{request.method} {request.path} is not served by this fake server")
        self.requests.append(operation.identifier)
        await asyncio.sleep(self.faults.seconds)
        refused = self._refuse(request)
        if refused is not None:
            return refused
        try:
            body = await self._body(request)
            status, reply = 200, await self._perform(operation, dict(request.query), body)
        except RequestError as error:
            status, reply = error.code, _error_body(error.code, str(error))
        wrong = operation.wrong_in_reply(status, reply)
        if wrong:
            self.violations += [f"{operation.identifier} reply: {each}" for each in wrong]
            return _error(500, f"the fake server's reply is wrong: {wrong}")
        return self._send(request, operation, status, reply)

    def _send(self, request: web.Request, operation: Operation, status: int, reply: Struct) -> web.Response:
        if self.faults.errors_after:
            return self._failure(self.faults.errors_after.pop(0))
        if operation.identifier == "RunService_CreateRun" and self.faults.lose_replies_to_creation:
            self.faults.lose_replies_to_creation -= 1
            if request.transport is not None:
                request.transport.close()
        text = json.dumps(reply)
        if self.faults.garbage:
            text = text[: len(text) // 2]
        return web.Response(text=text, status=status, content_type="application/json")

    def _refuse(self, request: web.Request) -> web.Response | None:
        """The answer of a fault that applies before the request is parsed; None without one."""
        faults = self.faults
        if faults.login_page:
            return web.Response(text="<html><body>Please log in</body></html>", content_type="text/html")
        if faults.redirect:
            return web.Response(status=302, headers={"Location": "/dex/auth"})
        if faults.errors:
            return self._failure(faults.errors.pop(0))
        if faults.tokens is not None and request.headers.get("Authorization", "") not in {
            f"Bearer {token}" for token in faults.tokens
        }:
            return _error(401, "Unauthenticated: the token is invalid or has expired")
        if faults.requests_until_expiry is not None:
            faults.requests_until_expiry -= 1
            if faults.requests_until_expiry <= 0:
                faults.tokens, faults.requests_until_expiry = [], None
        return None

    def _failure(self, status: int) -> web.Response:
        headers = {"Retry-After": str(self.faults.retry_after)} if self.faults.retry_after else {}
        return _error(status, "upstream request timeout" if status == 504 else "InternalServerError", headers)

    async def _body(self, request: web.Request) -> Any:
        if request.method != "POST" or not request.can_read_body:
            return None
        try:
            return await request.json()
        except ValueError as error:
            raise RequestError(400, f"Invalid input error: {error}") from error

    async def _perform(self, operation: Operation, query: Mapping[str, str], body: Any) -> Struct:
        wrong = operation.wrong_in_request(query, body)
        if wrong:
            self.violations += [f"{operation.identifier} request: {each}" for each in wrong]
            raise RequestError(400, f"Invalid input error: {'; '.join(wrong)}")
        return await self._operations[operation.identifier](operation, query, body)

    async def _health(self, _operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        return {"multi_user": self.multi_user, "pipeline_store": "database"}

    async def _create_experiment(self, _operation: Operation, _query: Mapping[str, str], body: Struct) -> Struct:
        self._check_namespace(body.get("namespace", ""))
        return self.store.add_experiment(body).document()

    async def _get_experiment(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        return self._experiment(operation.path["experiment_id"]).document()

    async def _list_experiments(self, _operation: Operation, query: Mapping[str, str], _body: Any) -> Struct:
        namespace = query.get("namespace", "")
        self._check_namespace(namespace)
        found = [each for each in self.store.experiments.values() if each.namespace == namespace]
        return page(found, query, Experiment.document, "experiments")

    async def _delete_experiment(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        del self.store.experiments[self._experiment(operation.path["experiment_id"]).identifier]
        return {}

    async def _archive_experiment(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        """Archive the experiment with its runs, which continue."""
        experiment = self._experiment(operation.path["experiment_id"])
        experiment.storage_state = "ARCHIVED"
        for run in self.store.runs.values():
            if run.experiment is experiment:
                run.storage_state = "ARCHIVED"
        return {}

    async def _unarchive_experiment(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        """Restore the experiment; its runs stay archived."""
        self._experiment(operation.path["experiment_id"]).storage_state = "AVAILABLE"
        return {}

    async def _create_run(self, _operation: Operation, _query: Mapping[str, str], body: Struct) -> Struct:
        experiment = self._experiment(body.get("experiment_id", ""))
        if experiment.storage_state == "ARCHIVED":
            raise RequestError(400, f"Failed precondition: experiment {experiment.identifier} is archived")
        if not body.get("display_name"):
            raise RequestError(400, "Invalid input error: The run name is empty. Please specify a valid name")
        if "pipeline_spec" not in body:
            raise RequestError(
                400, "Invalid input error: a run needs a pipeline_spec here; references to pipelines are not served"
            )
        runs = [self._new_run(experiment, body) for _ in range(2 if self.faults.create_twice else 1)]
        self.faults.create_twice = max(self.faults.create_twice - 1, 0)
        return runs[-1].document()

    def _new_run(self, experiment: Experiment, body: Struct) -> Run:
        parameters = body.get("runtime_config", {}).get("parameters", {})
        try:
            steps.resolve(body["pipeline_spec"], parameters)
        except (ValueError, KeyError) as error:
            raise RequestError(400, f"Invalid input error: {error}") from error
        account = body.get("service_account", "default-editor" if self.multi_user else "pipeline-runner")
        run = Run(
            body["display_name"], body.get("description", ""), experiment, body["pipeline_spec"], parameters, account
        )
        self.store.runs[run.identifier] = run
        self.execution.submit(run)
        return run

    async def _get_run(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        return self._run(operation).document()

    async def _list_runs(self, _operation: Operation, query: Mapping[str, str], _body: Any) -> Struct:
        identifier = query.get("experiment_id", "")
        if identifier:
            self._experiment(identifier)
        else:
            self._check_namespace(query.get("namespace", ""))
        runs = [
            self._shown(run)
            for run in self.store.runs.values()
            if run.experiment.identifier == identifier
            or (not identifier and run.experiment.namespace == query.get("namespace", ""))
        ]
        return page(runs, query, Run.document, "runs")

    async def _terminate_run(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        run = self._run(operation)
        if run.state in OVER | {"CANCELING"}:
            raise RequestError(400, f"Invalid input error: Failed to terminate a run {run.identifier}. Row not found")
        if self.faults.workflows_deleted and run.shown is not None:
            run.shown["state"] = "CANCELING"
            raise RequestError(500, "InternalServerError: Failed to terminate workflow due to patching error")
        self.execution.end(run)
        return {}

    async def _delete_run(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        run = self._run(operation)
        if not self.faults.lying_deletion:
            if not self.faults.orphaning_deletion:
                await self.execution.forget(run)
            self.store.runs.pop(run.identifier, None)
        return {}

    async def _archive_run(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        self._run(operation).storage_state = "ARCHIVED"
        return {}

    async def _unarchive_run(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        self._run(operation).storage_state = "AVAILABLE"
        return {}

    async def _retry_run(self, operation: Operation, _query: Mapping[str, str], _body: Any) -> Struct:
        """What the button "Retry" of the real server's page requests: the same run continues from the step that failed."""
        run = self._run(operation)
        if run.state not in {"FAILED", "CANCELED"}:
            raise RequestError(400, f"Failed precondition: the run {run.identifier} is in state {run.state}")
        await self.execution.retry(run)
        return {}

    async def expire(self) -> None:
        """Forget runs that have ended, with all that is left of them, as servers do with old records."""
        for run in list(self.store.runs.values()):
            if run.state in OVER:
                await self.execution.forget(run)
                del self.store.runs[run.identifier]

    def _run(self, operation: Operation) -> Run:
        run = self.store.run(operation.path["run_id"])
        self._check_namespace(run.experiment.namespace)
        return self._shown(run)

    def _shown(self, run: Run) -> Run:
        if not (self.faults.frozen or self.faults.workflows_deleted):
            run.shown = None
        elif run.shown is None:
            self.execution.freeze(run)
        return run

    def _experiment(self, identifier: str) -> Experiment:
        experiment = self.store.experiment(identifier)
        self._check_namespace(experiment.namespace)
        return experiment

    def _check_namespace(self, namespace: str) -> None:
        if self.multi_user and not namespace:
            raise RequestError(400, "Invalid input error: a namespace must be named in multi-user mode")
        if not self.multi_user and namespace:
            raise RequestError(400, "Invalid input error: no namespace may be named in single-user mode")
        if namespace in self.faults.forbidden_namespaces:
            raise RequestError(
                403, f"PermissionDenied: User is not authorized with reason: cannot access namespace {namespace}"
            )


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(_error_body(status, message), status=status, headers=headers)


def _error_body(status: int, message: str) -> Struct:
    return {"code": _CODES.get(status, 2), "message": message, "details": []}
