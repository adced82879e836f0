"""A run is started once per name and attempt, whatever happens to requests, answers and operators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from kubeflow_worlds import NAME, UID, Cluster, make_request
from pelagos.engines.kubeflow.engine import Kubeflow
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.ports.errors import OutageError
from pelagos.ports.pipelines import RunName, RunState


async def test_a_run_whose_creation_was_not_answered_is_adopted(cluster: Cluster) -> None:
    cluster.server.faults.lose_replies_to_creation = 1
    with pytest.raises(OutageError):
        await cluster.engine.submit(make_request())

    run = await cluster.engine.submit(make_request())

    assert run.state in {RunState.PENDING, RunState.RUNNING}
    assert len(cluster.runs()) == 1


async def test_a_creation_that_a_gateway_gave_up_on_is_adopted(cluster: Cluster) -> None:
    engine = cluster.new_engine()
    create = engine._rest.create_run

    async def create_behind_a_gateway(body: Mapping[str, Any]) -> dict[str, Any]:
        cluster.server.faults.errors_after = [504]
        return await create(body)

    engine._rest.create_run = create_behind_a_gateway  # type: ignore[method-assign]
    with pytest.raises(OutageError, match="504"):
        await engine.submit(make_request())

    await cluster.engine.submit(make_request())

    assert len(cluster.runs()) == 1


async def test_of_two_runs_with_one_name_the_oldest_goes_on(cluster: Cluster) -> None:
    cluster.server.faults.create_twice = 1

    submitted = await cluster.engine.submit(make_request())

    alive = [run for run in cluster.runs() if run.state not in {"CANCELING", "CANCELED"}]
    oldest = min(cluster.runs(), key=lambda run: (run.created_at, run.identifier))
    assert alive == [oldest]
    assert submitted.url.endswith(oldest.identifier)


async def test_two_operators_that_submit_at_once_agree_on_one_run(cluster: Cluster) -> None:
    engines = [cluster.new_engine() for _ in range(4)]
    await asyncio.gather(*(engine.submit(make_request()) for engine in engines))

    found = [await engine.submit(make_request()) for engine in engines]
    await cluster.until(lambda: sum(run.state in {"PENDING", "RUNNING"} for run in cluster.runs()) == 1, "one is left")

    alive = next(run for run in cluster.runs() if run.state in {"PENDING", "RUNNING"})
    assert {run.url for run in found} == {f"https://kubeflow.example.org/#/runs/details/{alive.identifier}"}


async def test_a_run_that_another_operator_launches_between_two_looks_is_adopted(cluster: Cluster) -> None:
    late, other = cluster.new_engine(), cluster.new_engine()
    look = late._sight.require_none_at_work

    async def look_after_the_other(run: str, uid: str, namespace: str) -> None:
        await other.submit(make_request())
        await cluster.begin(cluster.runs()[0])
        await look(run, uid, namespace)

    late._sight.require_none_at_work = look_after_the_other  # type: ignore[method-assign]

    adopted = await late.submit(make_request())

    assert adopted.url.endswith(cluster.runs()[0].identifier)
    assert len(cluster.runs()) == 1


async def test_an_attempt_that_is_followed_by_another_is_ended_first(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    first = cluster.runs()[0]
    await cluster.begin(first)
    cluster.later(hours=30)
    silent = await cluster.engine.find(NAME)
    assert silent is not None
    assert silent.state is RunState.INTERRUPTED

    again = await cluster.engine.submit(make_request(attempt=2))

    await cluster.until(lambda: first.state == "CANCELED", "the silent attempt ends")
    assert (again.attempt, again.attempts_with_key) == (2, 2)


async def forget_all(cluster: Cluster) -> None:
    """Forget all runs and their pods."""
    for run in cluster.runs():
        await cluster.server.execution.forget(run)
    cluster.server.store.runs.clear()


async def test_a_run_that_was_deleted_behind_our_back_is_gone(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await forget_all(cluster)

    assert await cluster.engine.find(NAME) is None
    assert (await cluster.engine.submit(make_request())).attempt == 1


async def test_an_experiment_that_was_deleted_behind_our_back_is_made_again(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await forget_all(cluster)
    cluster.server.store.experiments.clear()

    assert await cluster.engine.find_owned(UID) == ()
    assert await cluster.engine.find(NAME) is None
    await cluster.engine.submit(make_request())

    assert len(cluster.runs()) == 1


async def test_a_retry_key_of_any_length_comes_back(cluster: Cluster) -> None:
    key = "asked/" + "é" * 2000
    await cluster.engine.submit(make_request(retry_key=key))

    found = await cluster.new_engine().find(NAME)

    assert found is not None
    assert found.retry_key == key


async def test_looking_at_a_run_is_one_request(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    cluster.server.requests.clear()

    await cluster.engine.find(NAME)

    assert cluster.server.requests == ["RunService_GetRun"]


async def test_a_name_that_begins_like_another_is_another_run(cluster: Cluster) -> None:
    longer = f"{NAME}-a1-b"
    await cluster.engine.submit(make_request(longer))
    await cluster.engine.submit(make_request(retry_key="other"))

    found = await cluster.new_engine().find(NAME)

    assert found is not None
    assert (found.name, found.retry_key) == (NAME, "other")
    assert {run.name for run in await cluster.new_engine().find_owned(UID)} == {NAME, RunName(longer)}


async def test_hundreds_of_attempts_are_read_page_by_page(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.finish(cluster.runs()[0], "no")
    for attempt in range(2, 251):
        cluster.server.store.runs[str(attempt)] = _copy(cluster, attempt)

    found = await cluster.new_engine().find(NAME)

    assert found is not None
    assert found.url.endswith("/250")


def _copy(cluster: Cluster, attempt: int) -> Any:
    first = cluster.runs()[0]
    copy = type(first)(
        f"{NAME}-a{attempt}", "", first.experiment, first.struct, first.parameters, "", identifier=str(attempt)
    )
    copy.become("FAILED", "no")
    return copy


class DiedError(Exception):
    """The operator's process died."""


class FaultyRest(KubeflowRest):
    """A connection with a fault at one of its calls: before the call has its effect, or after it."""

    def __init__(self, url: str, at: int, *, after: bool, crash: bool) -> None:
        super().__init__(url)
        self.calls = 0
        self._at = at
        self._after = after
        self._error: Exception = DiedError() if crash else OutageError("network", "the connection was lost")

    async def _call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        if self.calls == self._at and not self._after:
            raise self._error
        answer = await super()._call(service, operation, **arguments)
        if self.calls == self._at and self._after:
            raise self._error
        return answer


class OperatorProcess:
    """An operator that continues after a fault: it calls again, or is restarted and remembers nothing."""

    def __init__(self, cluster: Cluster, at: int, *, after: bool, crash: bool) -> None:
        self._cluster = cluster
        self.connection = FaultyRest(cluster.server.url, at, after=after, crash=crash)
        self.engine = Kubeflow(self.connection, cluster.site)

    async def do(self, call: Callable[[Kubeflow], Awaitable[Any]]) -> Any:
        """Call until it succeeds, as a reconciler does."""
        while True:
            try:
                return await call(self.engine)
            except OutageError:
                continue
            except DiedError:
                self.engine = self._cluster.new_engine()


async def _story(cluster: Cluster, life: OperatorProcess) -> None:
    """Attempt 1 fails, attempt 2 is canceled, then everything is deleted."""
    await life.do(lambda engine: engine.submit(make_request()))
    assert [run.name for run in cluster.runs()] == [f"{NAME}-a1"]
    await cluster.finish(cluster.runs()[0], "no")
    failed = await life.do(lambda engine: engine.find(NAME))
    assert (failed.state, failed.attempt) == (RunState.FAILED, 1)
    await life.do(lambda engine: engine.submit(make_request(attempt=2)))
    assert [run.name for run in cluster.runs()] == [f"{NAME}-a1", f"{NAME}-a2"]
    await cluster.begin(cluster.runs()[1])
    await life.do(lambda engine: engine.cancel(NAME))
    canceled = await life.do(lambda engine: engine.find(NAME))
    assert (canceled.state, canceled.attempt) == (RunState.CANCELED, 2)
    owned = await life.do(lambda engine: engine.find_owned(UID))
    assert [run.attempt for run in owned] == [2]
    await life.do(lambda engine: engine.delete(NAME))
    assert cluster.runs() == []
    assert len(cluster.hand.pods) == 2


@pytest.mark.parametrize("crash", [True, False], ids=["crash", "lost-connection"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_fault_at_any_call_is_harmless(cluster: Cluster, after: bool, crash: bool) -> None:
    golden = OperatorProcess(cluster, 0, after=after, crash=crash)
    await _story(cluster, golden)
    assert golden.connection.calls > 10

    for at in range(1, golden.connection.calls + 1):
        cluster.hand.pods.clear()
        try:
            await _story(cluster, OperatorProcess(cluster, at, after=after, crash=crash))
        except AssertionError as error:
            error.add_note(f"the fault happened at call {at}")
            raise
    assert cluster.server.store.experiments == {}
