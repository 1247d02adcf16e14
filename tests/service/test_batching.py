import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asynchronous import run
from twinrank.service.batching import Batcher, BoundedThreads, BusyError


def batcher(work, **limits):
    return Batcher(
        work,
        ThreadPoolExecutor(1),
        **{"cost": lambda _: 1, "max_cost": 4, "max_waiting": 100, **limits},
    )


@given(st.lists(st.lists(st.integers(), max_size=6), max_size=12))
@settings(deadline=None, max_examples=30)
def test_each_request_gets_the_results_of_its_items(requests):
    seen = []

    def work(items):
        seen.append(len(items))
        return [item * 2 for item in items]

    async def ask():
        ranked = batcher(work, max_waiting=1_000)
        return await asyncio.gather(*(ranked(items) for items in requests))

    assert run(ask()) == [[item * 2 for item in items] for items in requests]
    assert sum(seen) == sum(map(len, requests))
    assert all(1 <= size <= 4 for size in seen)


def test_what_comes_while_it_works_makes_the_next_batch():
    seen, begun, go = [], threading.Event(), threading.Event()

    def work(items):
        seen.append(list(items))
        begun.set()
        go.wait(10)
        return items

    async def ask():
        ranked = batcher(work)
        first = asyncio.create_task(ranked(["alone"]))
        await asyncio.to_thread(begun.wait, 10)
        rest = [asyncio.create_task(ranked([name])) for name in "abcde"]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest)

    run(ask())
    assert seen == [["alone"], ["a", "b", "c", "d"], ["e"]]


def test_one_that_fails_fails_alone():
    def work(items):
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]

    async def ask():
        ranked = batcher(work)
        requests = (ranked([name]) for name in ("a", "bad", "b"))
        return await asyncio.gather(*requests, return_exceptions=True)

    first, bad, last = run(ask())
    assert (first, last) == (["A"], ["B"])
    assert isinstance(bad, ValueError)


def test_what_is_given_up_is_not_worked_on():
    seen, begun, go = [], threading.Event(), threading.Event()

    def work(items):
        seen.extend(items)
        begun.set()
        go.wait(10)
        return items

    async def ask():
        ranked = batcher(work)
        first = asyncio.create_task(ranked(["first"]))
        await asyncio.to_thread(begun.wait, 10)
        gone, kept = asyncio.create_task(ranked(["gone"])), asyncio.create_task(ranked(["kept"]))
        await asyncio.sleep(0)
        gone.cancel()
        go.set()
        await asyncio.gather(first, kept)

    run(ask())
    assert seen == ["first", "kept"]


def test_more_than_may_wait_is_refused_at_once():
    async def ask():
        ranked = batcher(lambda items: items, max_waiting=3)
        with pytest.raises(BusyError):
            await ranked(["a"] * 4)
        return await ranked(["a"] * 3)

    assert run(ask()) == ["a"] * 3


def turns(*requests, cost=lambda _: 1, most=1):
    """In which batches the items of requests are worked on that wait together: (who, items)."""
    seen, begun, go = [], threading.Event(), threading.Event()

    def work(items):
        seen.append(list(items))
        begun.set()
        go.wait(10)
        return items

    async def ask():
        ranked = batcher(work, cost=cost, max_cost=most)
        tasks = [asyncio.create_task(ranked(["first"], "nobody"))]
        await asyncio.to_thread(begun.wait, 10)
        tasks += [asyncio.create_task(ranked(items, who)) for who, items in requests]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*tasks)

    run(ask())
    return seen[1:]


def test_clients_take_turns():
    seen = turns(("a", ["a1", "a2", "a3"]), ("b", ["b1", "b2"]), ("c", ["c1"]))
    assert seen == [["a1"], ["b1"], ["c1"], ["a2"], ["b2"], ["a3"]]


def test_requests_of_one_client_take_turns_and_give_it_no_more():
    seen = turns(("a", ["a1", "a2"]), ("a", ["A1", "A2"]), ("b", ["b1", "b2"]))
    assert seen == [["a1"], ["b1"], ["A1"], ["b2"], ["a2"], ["A2"]]


def test_who_asks_for_what_costs_much_waits_longer():
    seen = turns(("a", ["xxxx", "yyyy"]), ("b", ["1", "2", "3"]), cost=len)
    assert seen == [["xxxx"], ["1"], ["2"], ["3"], ["yyyy"]]


def test_a_batch_is_cut_where_it_would_cost_too_much():
    assert turns(("a", ["xx", "yy", "zzzzz", "w"]), cost=len, most=4) == [
        ["xx", "yy"],
        ["zzzzz"],
        ["w"],
    ]


def test_no_client_fills_the_queue():
    async def ask():
        ranked = batcher(lambda items: items, max_waiting=8)
        much = [asyncio.create_task(ranked(["a"] * 2, "a")) for _ in range(4)]
        await asyncio.sleep(0)
        assert await ranked(["b"], "b") == ["b"]
        return await asyncio.gather(*much, return_exceptions=True)

    refused = [each for each in run(ask()) if isinstance(each, BusyError)]
    assert len(refused) == 2


def test_work_that_blocks_is_waited_for_in_bounds():
    go = threading.Event()

    async def ask():
        threads = BoundedThreads("storing", 1, 0.05)
        with pytest.raises(BusyError, match="storing takes too long"):
            await threads(go.wait, 60)
        done = []
        with pytest.raises(BusyError):
            await threads(done.append, 1)  # it waits behind the other, and never begins
        go.set()
        threads.close()
        return done

    assert run(ask()) == []
