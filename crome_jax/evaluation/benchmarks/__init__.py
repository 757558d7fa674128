"""What published benchmarks make of rewards: one file for each, its formula as its authors compute it."""
