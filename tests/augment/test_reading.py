"""Reading aloud hears words and operators, and no layout."""

import pytest

from crome_jax.augment.reading import spoken


def fenced(code):
    return f"Thus:\n\n```python\n{code}\n```\n"


def test_numbers_and_signs_are_heard():
    assert spoken("**3 + 1** = 4%") == ("3", "+", "1", "4", "%")
    assert spoken("Is x >= -1?") == ("is", "x", ">", "=", "-", "1")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("It is -5 °C.", "It is 5 °C."),
        ("-5 °C", "5 °C"),
        ("The root is (-3).", "The root is (3)."),
        ("It cost $-5.", "It cost $5."),
        ("y = -x", "y = x"),
        ("a + b", "a - b"),
        ("10 - 3", "10 3"),
        ("f(x) - g(x)", "f(x) + g(x)"),
        ("(3+4)*2", "(3+4)/2"),
        ("x**2", "x*2"),
        ("x^2", "x2"),
        ("speed * time", "speed / time"),
        ("Take less, if <5 mg.", "Take less, if >5 mg."),
        ("if x > 0", "if x < 0"),
        ("if x >= 0", "if x > 0"),
        ("if x ≤ 0", "if x < 0"),
        ("if a == b", "if a != b"),
        ("if a && b", "if a || b"),
        ("i++", "i--"),
        ("C++", "C"),
        ("Use `a|b`.", "Use `a&b`."),
        (fenced("return a[0]"), fenced("return a(0)")),
        (fenced("x = 1"), fenced("x += 1")),
        (fenced("- x"), fenced("x")),
    ],
)
def test_an_edit_of_a_sign_is_heard(before, after):
    assert spoken(before) != spoken(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("- one\n- two", "one, two"),
        ("+ one\n  * two", "one, two"),
        ("- 5 apples", "5 apples"),
        ("> - quoted\n> text", "quoted text"),
        ("It was cold - and wet.", "It was cold, and wet."),
        ("It was cold -- and wet.", "It was cold, and wet."),
        ("In 2020 - the year", "In 2020, the year"),
        ("a well-known 3-year plan", "a well known 3 year plan"),
        ("a **bold** *word*, ***both***", "a bold word, both"),
        ("**Cost**: 3* a day", "Cost: 3 a day"),
        ("(**bold**)", "(bold)"),
        ("See <https://a.b/c>.", "See https://a.b/c."),
        ("Title\n=====\n\nText\n\n---\n", "# Title\nText"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a b 1 2"),
        ("x=-1", "x = -1"),
        ("3 × 4 ≠ −12", "3 * 4 != -12"),
        ("Call `foo.bar()`.", "Call foo.bar()."),
    ],
)
def test_layout_is_not_heard(before, after):
    assert spoken(before) == spoken(after)
