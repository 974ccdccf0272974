"""The simulated world without a short cut: what decides is in the tiles, and in no mean of them."""

import numpy as np
from simulation import EFFECTS, make_world, simulate_rare

from wsisurv.survival.metrics import concordance
from wsisurv.survival.ridge import choose_ridge


def standardised(values, like):
    return (values - like.mean(0)) / like.std(0)


def test_no_mean_tile_shows_what_decides_but_the_spread_of_the_tiles_does():
    world = make_world(3, apart=0.3)
    seen, new = (simulate_rare(world, n, seed, tiles=(150, 300)) for n, seed in ((500, 0), (500, 1)))
    directions = world.looks / np.linalg.norm(world.looks, axis=1, keepdims=True)

    def reached(of):
        ways = [np.stack([of(bag.astype(np.float64)) for bag in data.bags]) for data in (seen, new)]
        seen_ways, new_ways = (standardised(one, ways[0]) for one in ways)
        fit = choose_ridge(variables=seen_ways, time=seen.time, event=seen.event)
        return concordance(log_hazard=fit.log_hazard(new_ways), time=new.time, event=new.event)

    assert abs(reached(lambda bag: bag.mean(0)) - 0.5) < 0.05
    assert reached(lambda bag: (bag @ directions[list(EFFECTS)].T).var(0)) > 0.65
