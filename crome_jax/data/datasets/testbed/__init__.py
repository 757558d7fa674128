"""The English of the causal testbed: what decides a response's quality, and what only goes along with it."""
