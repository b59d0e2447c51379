# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nothing is lost, however often the daemon dies (chaos.py). SPE_SEED=N does again what was done with that seed, which
each failure names; SPE_RESTARTS=N says how often the daemon is started again, SPE_LONG=1 is many more."""

import os
import random
import time

import chaos
import chaos_daemon
import harness

LONG = "SPE_LONG" in os.environ
ENOUGH = 200  # for all points
RESTARTS = int(os.environ.get("SPE_RESTARTS", 2000 if LONG else 20 if harness.EMULATED else ENOUGH))
CALM_ROUNDS = 1500 if LONG else 30
REFUSALS = 1100  # more than are kept
GROWTH_KIB = 512  # what the heap may be in pieces: a few bytes for each call
SEED = int(os.environ.get("SPE_SEED", time.time_ns() // 1000 % 1_000_000))
WAYS = ("kill", "kill", "sent", "byte", "byte", "term", "stop")
POINT_ROUNDS = 6  # so often is tried what has not been come to


class TestChaos(harness.TestCase):
    def world(self, kind):
        print(f"SPE_SEED={SEED} SPE_RESTARTS={RESTARTS}", flush=True)
        daemon = kind(self.directory(), tree=chaos_daemon.big_little, config=chaos_daemon.CONFIG)
        self.brokers.append(daemon)
        self.addCleanup(daemon.end)
        world = chaos.World(daemon, SEED)
        self.addCleanup(world.close)
        world.start()
        world.measure()
        return world

    def rounds(self, world, rounds):
        """Does them all, then everybody goes. A failure names the round and what led to it."""
        number = 0
        try:
            for number, do in enumerate(rounds):
                do(number)
            world.finish()
        except Exception as error:
            print("\n".join(world.history))
            raise AssertionError(f"SPE_SEED={SEED} SPE_RESTARTS={RESTARTS}, round {number}: {error!r}") from error
        print(f"{world.restarts} restarts in {time.monotonic() - world.began:.1f} s {dict(world.deaths)}, "
              f"{world.reborn} pids used again, {world.books.counts}", flush=True)

    def deaths(self, world, restarts):
        """How each life ends: half of them at points, in turn."""
        rng, names = random.Random(f"{SEED}/plan"), world.points.names(world.daemon.can_queue)
        to_come = []
        while world.restarts < restarts:
            to_come = to_come or rng.sample(names, len(names))
            yield to_come.pop() if to_come and rng.random() < 0.5 else rng.choice(WAYS)
        for _ in range(POINT_ROUNDS if restarts >= ENOUGH // 2 else 0):
            yield from [name for name in names if not world.points.hits[name]]

    def die(self, kind, restarts):
        world = self.world(kind)
        self.rounds(world, (lambda number, how=how: world.run(number, how) for how in self.deaths(world, restarts)))
        print(f"points: {dict(sorted(world.points.hits.items()))}", flush=True)
        return world

    def test_kept(self):
        """systemd keeps its socket and what it stores; it comes to every point."""
        world = self.die(chaos_daemon.Kept, RESTARTS * 4 // 5)
        if RESTARTS >= ENOUGH:
            missing = set(world.points.names(True)) - set(world.points.hits)
            self.assertFalse(missing, f"SPE_SEED={SEED}: it never came to these points")

    def test_alone(self):
        """There is nobody to keep anything."""
        world = self.die(chaos_daemon.Alone, RESTARTS // 5)
        self.assertTrue(world.points.hits or not world.points.names(False) or RESTARTS < ENOUGH, "no point was come to")

    def test_calm(self):
        """Nobody kills it, and it grows neither in descriptors, which each round looks at, nor in memory."""
        world, sizes = self.world(chaos_daemon.Kept), []
        world.be_refused(REFUSALS)

        def calm(number):
            world.calm(number)
            sizes.append(world.daemon.resident_kib())

        self.rounds(world, [calm] * CALM_ROUNDS)
        if LONG:
            early, late = sizes[CALM_ROUNDS // 3], sizes[-1]
            print(f"{world.books.serial} calls, resident: {early} KiB after a third, {late} KiB in the end")
            self.assertLessEqual(late, early + GROWTH_KIB)


if __name__ == "__main__":
    harness.main()
