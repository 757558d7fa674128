"""The offline editor: plain text editing of English, with no model, no network and nothing to download."""

from crome_jax.augment.oracles.offline.editor import OfflineEditor

__all__ = ["OfflineEditor"]
