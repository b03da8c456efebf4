"""Simulates which replica answers for which adapter, and which adapters each replica keeps loaded.

A replica keeps the adapters that it used last, as the server does. The load is heavy-tailed: the adapter with
rank k gets a share of the requests in proportion to 1 / k ** skew.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Chooser = Callable[[int], int]
# Points of each replica on the ring: with more, the arcs are more equal.
_POINTS = 200
# A replica that has this much more than its share passes requests on.
_BOUND = 1.25


@dataclass(frozen=True)
class Scene:
    """A load on a number of replicas.

    Attributes:
        policy: One of `POLICIES`.
        replicas: Number of replicas.
        slots: Number of adapters that a replica keeps loaded.
        adapters: Number of adapters.
        skew: Exponent of the shares of the adapters.
        requests: Number of requests after the first half, which only fills the replicas.
    """

    policy: str
    replicas: int
    slots: int
    adapters: int = 100_000
    skew: float = 1.0
    requests: int = 300_000


def simulate(scene: Scene, seed: int = 0) -> dict[str, Any]:
    """Sends requests to replicas.

    Args:
        scene: The load.
        seed: Random seed.

    Returns:
        The scene, the share of requests for which an adapter has to be loaded (`loads`), and the load of the busiest
        replica as a multiple of the mean (`busiest`).
    """
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, scene.adapters + 1) ** scene.skew
    asked = generator.choice(scene.adapters, 2 * scene.requests, p=shares / shares.sum())
    choose = POLICIES[scene.policy](scene.replicas, generator)
    kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(scene.replicas)]
    loads, answered = 0, Counter[int]()
    for number, adapter in enumerate(asked.tolist()):
        replica = choose(adapter)
        own = kept[replica]
        counts = number >= scene.requests
        answered[replica] += counts
        if adapter in own:
            own.move_to_end(adapter)
            continue
        loads += counts
        own[adapter] = None
        if len(own) > scene.slots:
            own.popitem(last=False)
    busiest = max(answered.values()) * scene.replicas / scene.requests
    return {**asdict(scene), "loads": loads / scene.requests, "busiest": busiest}


def in_turn(replicas: int, generator: np.random.Generator) -> Chooser:
    """Returns the policy of a plain load balancer: each request goes to the next replica."""
    turn = 0

    def choose(adapter: int) -> int:
        nonlocal turn
        turn = (turn + 1) % replicas
        return turn

    return choose


def ring(replicas: int, generator: np.random.Generator) -> Chooser:
    """Returns consistent hashing: each adapter has a replica (Karger et al. 1997)."""
    points = _points(replicas)
    places = [place for place, _ in points]

    def choose(adapter: int) -> int:
        return points[bisect(places, _hash(f"adapter {adapter}")) % len(points)][1]

    return choose


def bounded_ring(replicas: int, generator: np.random.Generator) -> Chooser:
    """Returns consistent hashing with bounded loads: a replica with too much passes on to the next.

    Mirrokni et al. 2018, https://arxiv.org/abs/1608.01350. The load is that of the last requests.
    """
    points = _points(replicas)
    places = [place for place, _ in points]
    load = np.zeros(replicas)
    memory = 1 - 1 / (50 * replicas)

    def choose(adapter: int) -> int:
        nonlocal load
        load *= memory
        most = _BOUND * (load.sum() + 1) / replicas
        start = bisect(places, _hash(f"adapter {adapter}"))
        followers = (points[(start + step) % len(points)][1] for step in range(len(points)))
        replica = next((one for one in followers if load[one] + 1 <= most), int(load.argmin()))
        load[replica] += 1
        return replica

    return choose


POLICIES: dict[str, Callable[[int, np.random.Generator], Chooser]] = {
    "in turn": in_turn,
    "ring": ring,
    "bounded ring": bounded_ring,
}


def _points(replicas: int) -> list[tuple[int, int]]:
    return sorted(
        (_hash(f"{replica}/{point}"), replica) for replica in range(replicas) for point in range(_POINTS)
    )


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
