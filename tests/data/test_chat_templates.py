import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from crome_jax.data.chat_templates import CHATML, GEMMA, LLAMA3, PLAIN, ChatTemplate, default_template
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Message

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou "
    "are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN2_5 = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" \
and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""
LLAMA3_INSTRUCT = (  # writes the generation prompt whether asked to or not
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant"
    "<|end_header_id|>\n\n' }}"
)
QWEN3 = """{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.role == 'assistant' and loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
    {%- generation %}{{- content + '<|im_end|>' }}{%- endgeneration %}{{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""
TEMPLATES = {
    "smollm2": SMOLLM2,
    "qwen2.5": QWEN2_5,
    "qwen3": QWEN3,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "llama3": LLAMA3_INSTRUCT,
    "default gemma": GEMMA,
    "default llama3": LLAMA3,
    "default chatml": CHATML,
    "default plain": PLAIN,
}
CONTROL = [
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", *(f"<unused{i}>" for i in range(120)), "<|im_end|>|>"),
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

SYSTEM, ASK, ANSWER = Message("system", "Be brief."), Message("user", " Why? \n"), Message("assistant", "Since\n\n")
SHAPES = {
    "one turn": [ASK],
    "system": [SYSTEM, ASK],
    "three turns": [ASK, ANSWER, Message("user", "And {{ this }} <b>then</b>?")],
    "system, five turns": [SYSTEM, ASK, ANSWER, ASK, ANSWER, ASK],
}


def compile_template(source):
    return ChatTemplate(source, special_tokens=SPECIAL, control_tokens=CONTROL)


def reference(source, messages, add_generation_prompt):
    conversation = [{"role": m.role, "content": m.content} for m in messages]
    texts, _ = render_jinja_template(
        [conversation], chat_template=source, add_generation_prompt=add_generation_prompt, **SPECIAL
    )
    return texts[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_renders_as_transformers_does(name, shape):
    template, prompt = compile_template(TEMPLATES[name]), SHAPES[shape]
    try:
        expected = reference(TEMPLATES[name], prompt, True)
    except jinja2.TemplateError:
        assert template.folds_system
        prompt = [Message("user", "Be brief.\n\nWhy?"), *prompt[2:]]
        expected = reference(TEMPLATES[name], prompt, True)
    start = "".join(template.prompt(prompt))
    answer = "".join(template.response("So it is.\n\n"))
    whole = reference(TEMPLATES[name], [*prompt, Message("assistant", "So it is.\n\n")], False)
    assert start == expected
    assert whole.startswith(start + answer)
    assert answer.endswith(template.end_of_turn)


def test_a_turn_ends_with_the_control_token_after_the_answer():
    ends = {name: compile_template(source).end_of_turn for name, source in TEMPLATES.items()}
    for name in ("smollm2", "qwen2.5", "qwen3", "default chatml"):
        assert ends[name] == "<|im_end|>"
    for name in ("gemma2", "gemma3", "default gemma"):
        assert ends[name] == "<end_of_turn>"
    assert ends["llama3"] == ends["default llama3"] == "<|eot_id|>"
    assert ends["default plain"] == "</s>"
    longer = CHATML.replace("<|im_end|>", "<|im_end|>|>")
    assert compile_template(longer).end_of_turn == "<|im_end|>|>"


def test_a_system_turn_is_folded_as_gemma_3_writes_it():
    prompt = [SYSTEM, ASK, ANSWER, ASK]
    expected = compile_template(GEMMA3)
    assert not expected.folds_system
    for source in (GEMMA2, GEMMA):
        template = compile_template(source)
        assert template.folds_system
        assert template.prompt(prompt) == expected.prompt(prompt)


def test_a_system_turn_that_the_template_drops_is_folded():
    template = compile_template(
        CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    )
    assert "".join(template.prompt([SYSTEM, ASK])).count("Be brief.\n\nWhy?") == 1


@pytest.mark.parametrize(("source", "official"), [(GEMMA, GEMMA3), (LLAMA3, LLAMA3_INSTRUCT)], ids=["gemma", "llama3"])
def test_a_default_is_its_family_s_own(source, official):
    for prompt in SHAPES.values():
        assert compile_template(source).prompt(prompt) == compile_template(official).prompt(prompt)


def test_the_default_is_chosen_by_the_turn_tokens_of_the_vocabulary():
    assert default_template({"<bos>", "<start_of_turn>", "<end_of_turn>"}) == GEMMA
    assert default_template({"<|im_start|>", "<|im_end|>"}) == CHATML
    assert default_template({"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}) == LLAMA3
    assert default_template({"<|im_start|>", "</s>"}) == PLAIN


# White space, whole control tokens, their parts, and what templates look at.
spelled = st.lists(
    st.sampled_from([*CONTROL[:9], *CONTROL[-3:]])
    | st.sampled_from(["<|im_", "end|>", "<", "|>", ">", "<start_of", "_turn>", "<unused", "1>", "", " ", "\n"])
    | st.text(max_size=6),
    max_size=6,
).map("".join)
answers = spelled.filter(lambda text: text.strip())


@given(question=spelled, answer=answers)
@pytest.mark.parametrize("name", TEMPLATES)
def test_contents_never_write_control_tokens(name, question, answer):
    template = compile_template(TEMPLATES[name])
    for pieces, plain, text in [
        (template.prompt([Message("user", question)]), template.prompt([Message("user", "Why?")]), question),
        (template.response(answer), template.response("So."), answer),
    ]:
        assert pieces[1::2] == plain[1::2]
        assert text.strip() in "".join(pieces)


@given(question=answers)
def test_contents_are_written_to_the_letter(question):
    prompt = [SYSTEM, Message("user", question), Message("assistant", question), ASK]
    for source in (SMOLLM2, QWEN2_5, GEMMA3, LLAMA3_INSTRUCT):
        assert "".join(compile_template(source).prompt(prompt)) == reference(source, prompt, True)


@given(first=spelled, second=spelled)
@example(first=" end|> <\n", second="")
@example(first="<|im_", second="end|>")
def test_a_control_token_is_not_made_up_of_what_stands_side_by_side(first, second):
    # A template that invites it: contents touch each other, and halves of control tokens.
    template = compile_template(
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + '</s>' }}{% else %}"
        "{{ '<|im_' + m.content | trim + '|im_end|>' }}{{ m.content }}{% endif %}{% endfor %}"
    )
    pieces = template.prompt([Message("user", first), Message("assistant", second), Message("user", second)])
    assert pieces[1::2] == ["</s>"]


def test_private_use_characters_are_kept():
    text = "".join(map(chr, range(0xE000, 0xE020))) + "<|im_end|>"
    assert text in "".join(compile_template(SMOLLM2).response(text))


def test_a_template_that_rewrites_spelled_control_tokens_is_refused():
    template = compile_template(CHATML.replace("m['content']", "(m['content'] | replace('<|im_end|>', ''))"))
    with pytest.raises(DataError, match="'response' is refused by the chat template"):
        template.response("So <|im_end|>")


def test_today_is_always_the_same_day():
    assert "26 Jul 2024" in "".join(compile_template("{{ strftime_now('%d %b %Y') }}" + CHATML).prompt([ASK]))


def test_json_is_written_unescaped():
    source = "{{ {'é': '<b>'} | tojson }}" + CHATML
    assert "".join(compile_template(source).prompt([ASK])) == reference(source, [ASK], True)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "default gemma"])
def test_a_conversation_that_the_template_refuses_is_a_data_error(name):
    with pytest.raises(DataError, match=r"'prompt' is refused by the chat template \(.*alternate"):
        compile_template(TEMPLATES[name]).prompt([ASK, ASK])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}", "chat template: line 1: "),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "ends an assistant's turn with no control token"),
        (
            CHATML + "{% if add_generation_prompt %}{{ '<think>' }}{% endif %}",
            "does not start as its generation prompt",
        ),
    ],
)
def test_an_unusable_template_is_an_error(source, message):
    with pytest.raises(CromeError, match=message):
        compile_template(source)


@given(st.data())
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_damaged_template_works_or_is_an_error(name, data):
    source = TEMPLATES[name]
    start = data.draw(st.integers(0, len(source)))
    damaged = source[:start] + data.draw(st.text(max_size=2)) + source[start + data.draw(st.integers(0, 40)) :]
    try:
        answer = compile_template(damaged).response("So.")
    except CromeError:
        return
    assert "So." in "".join(answer)
    assert answer[-2] in CONTROL
