"""Who runs where: Locust's dispatcher by weights gives about the mix; this one gives it exactly, at every number.

Its methods are those that Locust's runners call of a dispatcher (`Environment.dispatcher_class`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

Counts = dict[str, int]
"""People by kind."""
Sleep = Callable[[float], object]


class WorkerNode(Protocol):
    """What is used of Locust's own."""

    id: str


class Dispatcher(Iterator[dict[str, Counts]]):
    """Steps from the people there are to those there shall be; each step is the people of each worker by kind.

    A change of the number moves nobody from one worker to another. A kind's people are spread evenly over the workers.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        workers: Iterable[str],
        counts: Callable[[int], Mapping[str, int]],
        sleep: Sleep = time.sleep,
    ) -> None:
        """`counts` tells how many of each kind so many people are; kinds that it leaves out are 0."""
        self._counts = counts
        self._kinds = tuple(kinds)
        self._sleep = sleep
        self._people = {worker: dict.fromkeys(self._kinds, 0) for worker in workers}
        self._steps: Iterator[dict[str, Counts]] = iter(())
        self.dispatch_in_progress = False

    def __next__(self) -> dict[str, Counts]:
        return next(self._steps)

    def new_dispatch(self, target_user_count: int, spawn_rate: float, user_classes: object = None) -> None:
        """From now on, steps to so many people, so many a second."""
        self._steps = self._go(target_user_count, spawn_rate)

    def add_worker(self, worker_node: WorkerNode) -> None:
        """One that comes during a run is not prepared: it takes part in the next."""

    def remove_worker(self, worker_node: WorkerNode) -> None:
        """Its people are gone."""
        self._people.pop(worker_node.id, None)

    def _go(self, target: int, rate: float) -> Iterator[dict[str, Counts]]:
        self.dispatch_in_progress = True
        at_once = max(1, math.floor(rate))
        while True:
            begun = time.monotonic()
            now = sum(sum(people.values()) for people in self._people.values())
            step = min(target, now + at_once) if target > now else max(target, now - at_once)
            self._reach(self._counts(step))
            if step == target:
                break
            yield self._copy()
            self._sleep(max(0.0, at_once / rate - (time.monotonic() - begun)))
        self.dispatch_in_progress = False
        yield self._copy()

    def _reach(self, wanted: Mapping[str, int]) -> None:
        if not self._people:
            return
        for kind in self._kinds:
            missing = wanted.get(kind, 0) - sum(people[kind] for people in self._people.values())
            for _ in range(missing):
                min(self._people.values(), key=_load_by(kind))[kind] += 1
            for _ in range(-missing):
                max(self._people.values(), key=_load_by(kind))[kind] -= 1

    def _copy(self) -> dict[str, Counts]:
        return {worker: dict(people) for worker, people in self._people.items()}


def _load_by(kind: str) -> Callable[[Counts], tuple[int, int]]:
    """What makes one worker's people more than another's."""
    return lambda people: (people[kind], sum(people.values()))


def most_of_a_worker(tables: Iterable[Mapping[Any, int]], workers: int) -> dict[str, int]:
    """The most people of each kind that one of so many workers has, over all those numbers of people."""
    found: dict[str, int] = {}
    for table in tables:
        for kind, count in table.items():
            found[kind] = max(found.get(kind, 0), math.ceil(count / workers))
    return found


def as_dispatcher_class(make: Callable[[], Dispatcher]) -> Any:
    """In place of a class: Locust calls it with its workers and user classes, which `make` knows by itself."""
    return lambda worker_nodes, user_classes: make()
