"""Which resource is next: new ones before others, and no namespace twice before another."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelagos.ports.cluster import Key
from pelagos.reconcilers.fair_queue import FairQueue


def key(namespace: str, name: str) -> Key:
    return Key("Dataset", namespace, name)


def drained(queue: FairQueue) -> list[Key]:
    return [queue.get_nowait()[0] for _ in range(queue.qsize())]


def test_namespaces_take_turns_and_each_keeps_its_order() -> None:
    queue = FairQueue()
    for name in "123":
        queue.put_nowait((key("crowded", name), False))
    queue.put_nowait((key("quiet", "1"), False))

    assert [f"{each.namespace} {each.name}" for each in drained(queue)] == [
        "crowded 1",
        "quiet 1",
        "crowded 2",
        "crowded 3",
    ]


def test_new_resources_of_all_namespaces_come_before_second_passes() -> None:
    queue = FairQueue()
    queue.put_nowait((key("a", "old"), False))
    for name in "12":
        queue.put_nowait((key("b", name), True))

    assert [each.name for each in drained(queue)] == ["1", "2", "old"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_nothing_is_lost_or_made_up_and_who_is_alone_waits_for_one_of_each(added: list[tuple[str, bool]]) -> None:
    queue = FairQueue()
    items = [(key(namespace, str(number)), is_new) for number, (namespace, is_new) in enumerate(added)]
    for item in items:
        queue.put_nowait(item)
    assert queue.qsize() == len(items)
    assert queue.empty() == (not items)

    found = [queue.get_nowait() for _ in items]

    assert sorted(found, key=repr) == sorted(items, key=repr)
    for is_new in (True, False):
        served = [item[0].namespace for item in found if item[1] is is_new]
        for namespace in set(served):
            before = served[: served.index(namespace)]
            assert len(before) == len(set(before)), "nobody was served twice before the first of another"
    assert queue.empty()
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


async def test_who_waits_gets_what_comes() -> None:
    queue = FairQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait((key("a", "1"), True))

    assert await waiting == (key("a", "1"), True)
