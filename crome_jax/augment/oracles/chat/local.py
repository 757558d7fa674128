"""A small model served on loopback by this very process, so that an oracle can be tried without a key or a network."""

import contextlib
import importlib
from collections.abc import Iterator

from crome_jax.errors import CromeError
from crome_jax.weights.packages import find_backbone

MODEL = "smollm2-135m"

CONTEXT_TOKENS = 4096
"""Of each of the requests that are under way together; a longer prompt is refused, which is counted."""


@contextlib.contextmanager
def serve(model: str = MODEL, *, concurrency: int = 2, threads: int = 2) -> Iterator[str]:
    """Serve a GGUF file by llama.cpp while the block runs.

    Args:
        model: a backbone that is shipped in a package, or a path to a GGUF file.
        concurrency: requests under way at a time.
        threads: of the CPU.

    Yields:
        the `base_url` of its OpenAI-compatible endpoint, on 127.0.0.1.

    Raises:
        CromeError: where the package `xllamacpp` or the model is not there, or the model cannot be served.
    """
    path = find_backbone(model)
    try:
        xllamacpp = importlib.import_module("xllamacpp")
    except ImportError:
        raise CromeError("the package xllamacpp is not installed; pip install 'crome_jax[oracle]'") from None
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = CONTEXT_TOKENS * concurrency
    params.n_parallel = concurrency
    params.cpuparams.n_threads = threads
    params.verbosity = 0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as e:
        raise CromeError(f"{path}: cannot be served ({e}); give a GGUF file of a chat model") from None
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # What stops it.
