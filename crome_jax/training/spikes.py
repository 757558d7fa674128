"""Steps whose loss stands far above those before it."""

import collections

import numpy as np


class SpikeDetector:
    """Tells a spike from the usual scatter of the loss.

    A loss is a spike when it exceeds the median of the last `window` ones by more than `threshold` times their spread,
    1.4826 times the median absolute deviation: the standard deviation where they are normal. Unlike mean and standard
    deviation, neither is moved by the spikes themselves. It says nothing before half of the window is known, so a run
    that was just started or resumed is quiet for that long.

    Args:
        window: steps that are remembered.
        threshold: in spreads.
        least: nats by which a loss must exceed the median at any rate; where training goes well the spread is next to
            nothing.
    """

    def __init__(self, window: int = 64, threshold: float = 8.0, least: float = 0.1):
        self._losses: collections.deque[float] = collections.deque(maxlen=window)
        self._threshold, self._least = threshold, least

    def update(self, loss: float) -> float | None:
        """Take a step's finite loss, in nats; return by how many nats it is above the median if it is a spike."""
        above = None
        if len(self._losses) >= self._losses.maxlen // 2:
            known = np.array(self._losses)
            median = float(np.median(known))
            spread = 1.4826 * float(np.median(np.abs(known - median)))
            if loss - median > max(self._threshold * spread, self._least):
                above = loss - median
        self._losses.append(loss)
        return above
