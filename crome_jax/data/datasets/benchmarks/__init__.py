"""Published benchmarks of reward models as TFDS builders: what they are made of and how their records become groups."""
