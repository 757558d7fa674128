"""Text put into a prompt as data, between lines that nothing in the text can close."""

import hashlib
import re
from collections.abc import Iterable, Sequence

from crome_jax.groups import Message

_JOINER = "\u2060"  # A word joiner: no width, no meaning, and no tokenizer's control token has one.

_CONTROL = re.compile(
    r"<(?=\|[^|<>\n]{1,60}\|>|(?:start|end)_of_(?:turn|image)>|/?(?:s|bos|eos|pad|unk|think)>|</?SYS>>"
    r"|[｜][^<>\n]{1,60}[｜]>|[se]op>|(?:SPECIAL_|extra_id_|unused)\d{1,5}>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|TOOL_CONTENT)\]|s?g?MASK\]|\|[a-z_]{1,30}\|\])"
)
"""How control tokens of chat templates begin. Servers turn such a token inside a message into the token itself, so that
a response which holds one would end its turn, whatever lines it stands between."""


class Envelope:
    """Puts texts between lines with a key that is derived from all of them.

    Whoever writes a text cannot know the key: it is a hash of that very text, and of the others. The same texts get the
    same key, so that the same request is the same bytes, and its reply is found again.

    Args:
        texts: all that will be put between lines.
    """

    def __init__(self, texts: Iterable[str]):
        held = [text.encode("utf-8", "surrogatepass") for text in texts]
        attempt = 0
        while True:
            digest = hashlib.blake2b(attempt.to_bytes(4, "big"), digest_size=12)
            for text in held:
                digest.update(len(text).to_bytes(8, "big") + text)
            self.key = digest.hexdigest()
            # It takes a broken hash to get here twice; then the next key is as good.
            if not any(self.key.encode() in text.lower() for text in held):
                return
            attempt += 1

    def block(self, label: str, text: str) -> str:
        """Return a text between two lines that say what it is."""
        return f"<<<BEGIN {label} {self.key}>>>\n{seal(text)}\n<<<END {label} {self.key}>>>"

    def conversation(self, prompt: Sequence[Message]) -> str:
        """Return every turn between lines of its own, so that no turn can pretend to be two."""
        return "\n".join(self.block(f"TURN OF THE {m.role.upper()}", m.content) for m in prompt)


def seal(text: str) -> str:
    """Return the text with a word joiner inside whatever a chat template would take for a control token."""
    if "<" not in text and "[" not in text:  # Most texts.
        return text
    return _CONTROL.sub(lambda match: match[0] + _JOINER, text)


def unseal(text: str) -> str:
    """Undo `seal` in what a model copied."""
    return re.sub(rf"([<\[]){_JOINER}", r"\1", text) if _JOINER in text else text
