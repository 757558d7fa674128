"""The FLOP of a training step, counted from the decoder's numbers."""

from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import Trainable, layer_runs


def products_of_layer(cfg: DecoderConfig) -> tuple[int, int]:
    """Return the weights of a layer that every token multiplies into: (keys and values, all else)."""
    d, e = cfg.width, cfg.head_width
    return 2 * d * cfg.kv_heads * e, 2 * d * cfg.heads * e + 3 * d * cfg.ffn_width


def step_flops(cfg: DecoderConfig, trainable: Trainable, rows: int, tokens: int, responses: int) -> float:
    """Count the FLOP that a step needs, over all chips: nothing computed twice.

    2 FLOP for a weight and token, as much again for each gradient that is needed (of the input, of the weight). Of
    attention the past half of the pairs is counted, within the window of local layers, whatever groups there are. No
    vocabulary is projected to; the last layer asks for the scored tokens only; the lowest trained layer hands no
    gradient down (the step's scan computes it all the same: a third of one layer's FLOP). Norms, softmax, activations
    and the optimizer are left out.

    Args:
        rows: of the whole step.
        tokens, responses: of a row.
    """
    shared, own = products_of_layer(cfg)
    runs = layer_runs(cfg, trainable)
    trained_last = trainable != "head"
    total = 0.0
    for name, run in runs.items():
        for layer in run:
            window = cfg.window if cfg.kind_of(layer) == "local" else None
            asking = responses if name == "last" else tokens
            # Of a row's pairs those of the past; all that is seen by the scored tokens, wherever they are.
            seen = _seen(tokens, window) * (asking / tokens)
            weights = 2.0 * (shared * tokens + own * asking)
            pairs = 4.0 * cfg.heads * cfg.head_width * seen
            if name == "lower" or (name == "last" and not trained_last):
                total += weights + pairs
                continue
            # The input of the lowest trained layer needs no gradient where the embedding below it is frozen.
            lowest = trainable != "all" and layer == cfg.layers - int(trainable)
            total += (2 if lowest else 3) * weights + 3 * pairs
    return rows * total


def _seen(tokens: int, window: int | None) -> float:
    """Count the pairs of a row that are neither ahead nor beyond the window; half of a square, the diagonal's rest."""
    if window is None or window >= tokens:
        return tokens * tokens / 2
    return tokens * window - window * window / 2
