"""Chat templates: how a conversation is written for a model, with control tokens that no content can forge."""

import datetime
import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Message

GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('a system turn must come first') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('user' if m['role'] == 'user' else 'model') + '\n' }}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""Gemma 2 and 3's own, for their base models, which have the tokens but ship no template."""

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""Llama 3's own, for its base models."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The form of Qwen and SmolLM, without a system turn of its own."""

PLAIN = (
    "{% for m in messages %}{{ (m['role'] | capitalize) + ':\n' + m['content'] }}"
    "{{ (eos_token if m['role'] == 'assistant' else '') + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""For a vocabulary without tokens for turns: roles in words, the answer ended by EOS."""

_DEFAULTS = {
    ("<start_of_turn>", "<end_of_turn>"): GEMMA,
    ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"): LLAMA3,
    ("<|im_start|>", "<|im_end|>"): CHATML,
}

# Templates that print today's date get the day that Llama 3's fall back to: a reward must not depend on when it is
# computed.
_TODAY = datetime.datetime(2024, 7, 26)

_QUESTION, _ANSWER = "What is two and two?", "Four-stand-in."


def default_template(control_tokens: Collection[str]) -> str:
    """Return the template for a vocabulary that ships none: that of the family whose turn tokens it has, else PLAIN."""
    held = set(control_tokens)
    return next((template for tokens, template in _DEFAULTS.items() if held.issuperset(tokens)), PLAIN)


def ending_with(source: str, end_of_turn: str) -> str:
    """Return a template that writes what `source` does, but nothing after an assistant's last turn.

    Others score the last token of what a template renders; most templates write a line break there.

    Args:
        end_of_turn: the control token that ends the turn.
    """
    body, token = source.removesuffix("\n"), json.dumps(end_of_turn)
    # Jinja drops a line break after a block and one at a template's end, so `source` still starts a line.
    return (
        f"{{% set rendered %}}\n{body}{{% endset %}}"
        "{% if messages and messages[-1]['role'] == 'assistant' and not add_generation_prompt %}"
        f"{{{{ rendered.rsplit({token}, 1)[0] + {token} }}}}{{% else %}}{{{{ rendered }}}}{{% endif %}}"
    )


def starting_with_bos(source: str) -> str:
    """Return a template that writes BOS before what `source` writes."""
    return f"{{% if bos_token %}}{{{{ bos_token }}}}{{% endif %}}\n{source}"


def keeping(source: str, special_tokens: Mapping[str, str]) -> str:
    """Return a template that writes what `source` does with these tokens, whatever its caller gives by their names."""
    kept = [f"{{% set {name} = {json.dumps(token)} %}}\n" for name, token in special_tokens.items() if name in source]
    return "".join(kept) + source


def on_one_day(source: str) -> str:
    """Return a template that writes what `source` does here on any day: others give the date of the day."""
    if "strftime_now" not in source or "macro strftime_now" in source:
        return source
    directives = [f"%{bare}{letter}" for bare in ("-", "") for letter in "aAbBcdHIjmMpSwxXyYZ"]
    # "%%" is put away meanwhile, as its second half would begin a directive.
    steps = [("%%", "\0"), *((d, _TODAY.strftime(d)) for d in directives), ("\0", "%")]
    written = "".join(f" | replace({json.dumps(old)}, {json.dumps(new)})" for old, new in steps)
    return f"{{% macro strftime_now(form) %}}{{{{ form{written} }}}}{{% endmacro %}}\n{source}"


class ChatTemplate:
    """A Jinja chat template, rendered as transformers' `apply_chat_template` renders it.

    What it renders comes in pieces: text, control token, text, ..., text (some texts are empty). Control tokens are
    those that the template itself writes. A content that spells one stays text.

    Args:
        source: the Jinja template.
        special_tokens: variables of the template, as `bos_token`.
        control_tokens: spellings of all control tokens of the vocabulary.

    Attributes:
        end_of_turn: the control token that ends an assistant's turn.
        tail: what the template writes after it where the conversation ends there, in pieces that begin with a text.
        stops_there: whether that is nothing.
        folds_system: whether a leading system turn is written at the head of the first user turn, parted by a blank
            line as in Gemma 3's template, because the template refuses or drops the role.

    Raises:
        CromeError: where the template has an error, or does not end an assistant's turn with a control token.
    """

    def __init__(self, source: str, *, special_tokens: Mapping[str, str], control_tokens: Collection[str]):
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as e:
            raise CromeError(f"chat template: line {e.lineno}: {e.message}") from None
        self._source, self._special_tokens = source, dict(special_tokens)
        self._control = re.compile(f"({_trie(control_tokens)})") if control_tokens else re.compile("(?!)()")
        self._heads = {token[:n] for token in control_tokens for n in range(1, len(token))}
        self._tails = {token[n:] for token in control_tokens for n in range(1, len(token))}
        self._longest = max(map(len, control_tokens), default=0)
        self._stand_in = [Message("user", _QUESTION)]
        try:
            self.folds_system = self._loses_system()
            self._start = self._render(self._stand_in, True)
            pieces = self._answer_pieces(_ANSWER)
        except jinja2.TemplateError as e:
            raise CromeError(f"chat template: cannot write a question and its answer ({e})") from None
        # The control token after the answer's text ends the turn.
        self._turn = next((i + 2 for i, text in enumerate(pieces) if _ANSWER in text), len(pieces) + 1)
        if self._turn > len(pieces):
            raise CromeError("chat template: ends an assistant's turn with no control token; give one that does")
        self.end_of_turn = pieces[self._turn - 1]
        self.tail = pieces[self._turn :]
        self.stops_there = self.tail == [""]

    def prompt(self, prompt: Sequence[Message]) -> list[str]:
        """Render a prompt up to where the assistant's answer starts.

        Raises:
            DataError: where the template refuses the conversation.
        """
        try:
            return self._pieces(self._folded(prompt), True)
        except jinja2.TemplateError as e:
            raise DataError(f"is refused by the chat template ({e})", field="prompt") from None

    def response(self, text: str) -> list[str]:
        """Render an answer up to and including the end of its turn; the prompt before it makes no difference.

        Raises:
            DataError: where the template refuses it.
        """
        try:
            return [*self._answer_pieces(text)[: self._turn], ""]
        except jinja2.TemplateError as e:
            raise DataError(f"is refused by the chat template ({e})", field="response") from None

    def between(self, request: str) -> list[str]:
        """Render what stands between two answers to a prompt: a user's turn that asks for the second, up to its start.

        Args:
            request: what the user says.

        Raises:
            CromeError: where the template writes no second answer after a first.
        """
        turns = [*self._stand_in, Message("assistant", _ANSWER), Message("user", request)]
        try:
            pieces = self._pieces(turns, True)
        except jinja2.TemplateError as e:
            raise CromeError(f"chat template: cannot write two answers, as a pairwise model needs ({e})") from None
        turn = next((i + 2 for i, text in enumerate(pieces) if _ANSWER in text), len(pieces) + 1)
        if turn > len(pieces) or pieces[turn - 1] != self.end_of_turn:
            raise CromeError("chat template: drops or does not end the first of the two answers of a pairwise model")
        return pieces[turn:]

    def writes_pairs(self, request: str) -> bool:
        """Tell whether the template writes two answers at once as they are written one by one around `between`.

        One that takes thoughts out of earlier answers, say, does not.
        """
        turns = [Message("assistant", _ANSWER), Message("user", request), Message("assistant", _ANSWER)]
        answer = "".join(self.response(_ANSWER))
        one_by_one = self._start + answer + "".join(self.between(request)) + answer
        return self._render([*self._stand_in, *turns], False).startswith(one_by_one)

    def _answer_pieces(self, text: str) -> list[str]:
        return self._pieces([*self._stand_in, Message("assistant", text)], False, after=self._start)

    def _pieces(self, messages: Sequence[Message], add_generation_prompt: bool, after: str = "") -> list[str]:
        """Render and cut at the control tokens; a mark inside each one that a content spells keeps it whole text."""
        written = self._source + "".join(m.content for m in messages)
        mark = next(c for c in map(chr, range(0xE000, 0xF900)) if c not in written)  # private use
        marked = [Message(m.role, self._mark(m.content, mark)) for m in messages]
        text = self._render(marked, add_generation_prompt)
        if marked != list(messages) and text.replace(mark, "") != self._render(messages, add_generation_prompt):
            raise jinja2.TemplateError("it treats the control tokens that a content spells in its own way")
        if not text.startswith(after):
            raise CromeError("chat template: an assistant's turn does not start as its generation prompt does")
        return [piece.replace(mark, "") for piece in self._control.split(text[len(after) :])]

    def _mark(self, content: str, mark: str) -> str:
        core = content.strip()  # Marks stay off the surrounding white space: templates trim it.
        if not core:
            return content
        marked = self._control.sub(lambda token: token[0][0] + mark + token[0][1:], core)
        # Nor may a content's edge make up a control token with what the template writes next to it.
        if any(core[:n] in self._tails for n in range(1, self._longest)):
            marked = mark + marked
        if any(core[-n:] in self._heads for n in range(1, self._longest)):
            marked += mark
        start = content.index(core)
        return content[:start] + marked + content[start + len(core) :]

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=[{"role": m.role, "content": m.content} for m in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as e:
            # Whatever Python says to an expression of the template.
            raise jinja2.TemplateError(f"{type(e).__name__}: {e}") from None

    def _loses_system(self) -> bool:
        try:
            return _ANSWER not in self._render([Message("system", _ANSWER), *self._stand_in], True)
        except jinja2.TemplateError:
            return True

    def _folded(self, prompt: Sequence[Message]) -> Sequence[Message]:
        if not self.folds_system or len(prompt) < 2 or (prompt[0].role, prompt[1].role) != ("system", "user"):
            return prompt
        return [Message("user", f"{prompt[0].content}\n\n{prompt[1].content.strip()}"), *prompt[2:]]


def _trie(words: Collection[str]) -> str:
    """Return a regular expression for the longest of `words`, whose cost does not grow with their number."""
    by_head = itertools.groupby(sorted(word for word in words if word), key=lambda word: word[0])
    branches = [re.escape(head) + _trie([word[1:] for word in group]) for head, group in by_head]
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)}){'?' if '' in words else ''}"


class _Generation(jinja2.ext.Extension):
    """Read `{% generation %}`, with which some templates mark the answer for transformers, as its body."""

    tags = {"generation"}  # noqa: RUF012 - the name and type are Jinja's

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )

    def raise_exception(message: str):
        raise jinja2.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        # Jinja's own escapes what HTML reserves.
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": _TODAY.strftime}
    return environment
