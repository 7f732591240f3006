"""Work in threads ahead of its use: the same results in the same order, bounded, and nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import pytest

from captioner.data.images.read_ahead import in_background, map_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("read-ahead", "in-background"))]


@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_the_order_is_that_of_the_items(count: int, ahead: int) -> None:
    found = in_background(map_ahead(lambda item: item**2, range(count), threads=3, ahead=ahead), ahead=min(ahead, 4))
    assert list(found) == [item**2 for item in range(count)]
    assert threads() == []


def test_no_more_is_taken_than_may_be_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    for number, _ in enumerate(map_ahead(lambda item: item, items(), threads=2, ahead=5)):
        assert len(taken) <= number + 5
    assert taken == list(range(50))


def test_an_error_comes_where_its_result_would() -> None:
    def divide(item: int) -> float:
        return 1 / item

    found = in_background(map_ahead(divide, [1, 2, 0, 4], threads=2, ahead=4))
    assert [next(found), next(found)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert list(found) == []
    assert threads() == []


def test_closing_early_closes_what_is_behind() -> None:
    closed = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    found = in_background(endless(), ahead=2)
    assert next(found) == 0
    found.close()
    assert closed.is_set()
    assert threads() == []


def test_the_next_item_is_computed_while_the_last_is_used() -> None:
    """The consumer waits for the second item to be begun before it asks for it: without a thread it would never be."""
    begun = threading.Event()

    def items() -> Generator[int, None, None]:
        yield 1
        begun.set()
        yield 2

    found = in_background(items())
    assert next(found) == 1
    assert begun.wait(60)
    assert list(found) == [2]
