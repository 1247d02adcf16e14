import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from tests.asynchronous import run
from twinrank.service.batching import Batcher


def make_batcher(work, **limits):
    options = {"cost": lambda _: 1, "max_cost": 4, "max_waiting": 100, **limits}
    return Batcher(work, ThreadPoolExecutor(1), **options)


def batches_of(*requests, cancelled=(), **limits):
    """The batches in which the items of requests, (client, items), are worked on together."""
    batches, begun, go = [], threading.Event(), threading.Event()

    def work(items):
        batches.append(list(items))
        begun.set()
        go.wait(10)
        return items

    async def ask():
        batcher = make_batcher(work, **limits)
        first = asyncio.create_task(batcher(["first"], "nobody"))
        await asyncio.to_thread(begun.wait, 10)
        tasks = [asyncio.create_task(batcher(items, client)) for client, items in requests]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        go.set()
        await asyncio.gather(first, *tasks, return_exceptions=True)

    run(ask())
    assert batches[0] == ["first"]
    return batches[1:]


@given(st.lists(st.lists(st.integers(), max_size=6), max_size=12))
@settings(deadline=None, max_examples=30)
def test_each_request_gets_the_results_of_its_items(requests):
    sizes = []

    def work(items):
        sizes.append(len(items))
        return [item * 2 for item in items]

    async def ask():
        batcher = make_batcher(work, max_waiting=1_000)
        return await asyncio.gather(*(batcher(items) for items in requests))

    assert run(ask()) == [[item * 2 for item in items] for items in requests]
    assert sum(sizes) == sum(map(len, requests))
    assert all(1 <= size <= 4 for size in sizes)


def test_what_comes_meanwhile_makes_the_next_batch():
    assert batches_of(*(("", [name]) for name in "abcde")) == [list("abcd"), ["e"]]


def test_one_that_fails_fails_alone():
    def work(items):
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]

    async def ask():
        batcher = make_batcher(work)
        requests = (batcher([name]) for name in ("a", "bad", "b"))
        return await asyncio.gather(*requests, return_exceptions=True)

    first, bad, last = run(ask())
    assert (first, last) == (["A"], ["B"])
    assert isinstance(bad, ValueError)


def test_a_request_that_is_given_up_is_not_worked_on():
    assert batches_of(("", ["gone"]), ("", ["stays"]), cancelled=[0]) == [["stays"]]


def test_more_than_may_wait_is_refused_at_once():
    async def ask():
        batcher = make_batcher(lambda items: items, max_waiting=4)
        with pytest.raises(HTTPException, match="too many queries wait"):
            await batcher(["a"] * 5)
        greedy = asyncio.create_task(batcher(["b"] * 2, "greedy"))
        await asyncio.sleep(0)
        with pytest.raises(
            HTTPException, match="too many queries wait"
        ):  # one client may not take all places
            await batcher(["b"], "greedy")
        replies = [await batcher(["c"] * 2, "other"), await greedy]
        return [*replies, await batcher(["a"] * 4)]

    assert run(ask()) == [["c"] * 2, ["b"] * 2, ["a"] * 4]


@pytest.mark.parametrize(
    ("requests", "order"),
    [
        ([("a", "123"), ("b", "45"), ("c", "6")], "146253"),
        ([("a", "12"), ("a", "34"), ("b", "56")], "152364"),  # of one client's the oldest first
        ([("a", ["xxxx", "yyyy"]), ("b", "123")], ["1", "2", "3", "xxxx", "yyyy"]),
    ],
)
def test_clients_and_requests_take_turns_by_cost(requests, order):
    assert batches_of(*requests, cost=len, max_cost=1) == [[item] for item in order]


def test_a_batch_is_cut_where_it_would_cost_too_much():
    batches = batches_of(("a", ["xx", "yy", "zzzzz", "w"]), cost=len)
    assert batches == [["xx", "yy"], ["zzzzz"], ["w"]]
