# SPDX-License-Identifier: BUSL-1.1
"""Templates that would take for ever or fill the memory end with an error, soon."""

import pytest

from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.synapse.text.chat.template import ChatTemplate

NESTED = "{% set ns = namespace(x=(1,), y=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% set ns.y = (ns.y, ns.y) %}{% endfor %}"  # noqa: E501
DOUBLED = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}"

LARGE = {
    "product": "{{ 'x' * 10**9 }}",
    "product of lists": "{{ [1] * 10**9 }}",
    "power": "{{ 10 ** 1000000000 }}",
    "squares": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",  # noqa: E501
    "joined": DOUBLED + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "joined without a loop": "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 50,
    "added": DOUBLED + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "captured": DOUBLED
    + "{% set x %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = x %}{% endfor %}",
    "repeated text": "{% for i in range(100000) %}" + "x" * 100_000 + "{% endfor %}",
    "slices": "{% set b = 'x' * 1000000 %}{% set l = [" + "b[1:]," * 900 + "] %}",
    "replace": "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "replace nothing": "{{ ('a' * 1000000).replace('', 'b' * 1000) }}",
    "replace filter": "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
    "join": "{{ ('b' * 1000000).join('a' * 1000000) }}",
    "join filter": "{{ (['a'] * 1000000) | join('b' * 1000000) }}",
    "indent": "{{ ('a\\n' * 100000) | indent(1000000) }}",
    "indent by text": "{{ ('a\\n' * 100000) | indent('x' * 100000) }}",
    "tojson": "{{ [1] | tojson(indent=1000000000) }}",
    "batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "precision": "{{ '%.999999999f' % 1.5 }}",
    "starred width": "{{ '%*d' % (1000000000, 1) }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "ranges": "{% set n = namespace(x=[]) %}{% for i in range(999) %}{% set n.x = [n.x, range(100000) | list] %}{% endfor %}",  # noqa: E501
    "split": "{% set b = 'a ' * 500000 %}{% set n = namespace(x=[]) %}{% for i in range(999) %}{% set n.x = n.x + [b.split()] %}{% endfor %}",  # noqa: E501
    "date": "{{ strftime_now('%Y' * 1000) }}",
    "calls": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call f() %}" * 40
    + "x"
    + "{% endcall %}" * 40,
}
SLOW = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that skip": "{% set l = range(99999) | list %}{% for i in l %}{% for j in l if false %}{% endfor %}{% endfor %}",  # noqa: E501
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",  # noqa: E501
    "printed": NESTED + "{{ ns.x }}",
    "as text": NESTED + "{{ ns.x | string }}",
    "as JSON": NESTED + "{{ ns.x | tojson }}",
    "formatted": NESTED + "{{ '%s' % (ns.x,) }}",
    "compared": NESTED + "{{ ns.x == ns.y }}",
    "tested": NESTED + "{{ ns.x is eq ns.y }}",
    "selected": NESTED + "{{ [ns.x] | select('equalto', ns.y) | list }}",
    "searched": NESTED + "{{ ns.x in [ns.y] }}",
    "sorted": NESTED + "{{ [ns.x, ns.y] | sort }}",
    "hashed": NESTED + "{{ {ns.x: 1} }}",
    "looked up": NESTED + "{{ {}[ns.x] }}{{ {}.get(ns.x) }}",
    "raised": NESTED + "{{ raise_exception(ns.x) }}",
    "changed": NESTED + "{% for i in [ns.x, ns.y] %}{{ loop.changed(i) }}{% endfor %}",
    "dates": NESTED + "{{ strftime_now(ns.x) }}",
}


def render(source, seconds=0.05):
    return ChatTemplate(source).render({"messages": [{"role": "user"}]}, seconds=seconds)


@pytest.mark.parametrize("name", LARGE)
def test_what_makes_much_out_of_little_is_stopped_before_it_does(name):
    with pytest.raises((InvalidInput, LoadFailed), match=r"stopped|compiled"):
        render(LARGE[name], seconds=60)


@pytest.mark.parametrize("name", SLOW)
def test_what_takes_too_long_is_stopped(name):
    with pytest.raises(InvalidInput, match=r"stopped: it takes more than 0\.05 s"):
        render(SLOW[name])


def test_endless_recursion_is_stopped():
    with pytest.raises(InvalidInput, match="too deeply"):
        render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", seconds=60)
    with pytest.raises(InvalidInput, match="too deeply"):
        render("{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}", seconds=60)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ 'x'.ljust(9) }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ ('%s'.__mod__)(1) }}",
        "{{ lipsum() }}",
        "{% include 'x' %}",
        "{% import 'os' as os %}",
        "{{ [[1]] | sum(start=[]) }}",
    ],
)
def test_what_is_not_listed_is_not_there(source):
    with pytest.raises(InvalidInput):
        render(source, seconds=60)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ().__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ messages.__init__ }}",
        "{{ ''|attr('__class__') }}",
    ],
)
def test_python_behind_the_values_is_out_of_reach(source):
    assert render(source, seconds=60) == ""


def test_a_long_chat_is_no_hostile_template():
    messages = [{"role": "user", "content": "x" * 10_000}] * 200
    source = "{% for m in messages %}{{ (m.role ~ ': ' + m.content) | trim }}\n{% endfor %}"
    assert len(ChatTemplate(source).render({"messages": messages}, seconds=60)) == 200 * 10_007


def test_a_stopped_template_works_again_afterwards():
    template = ChatTemplate(
        "{% for a in range(n) %}{% for b in range(n) %}.{% endfor %}{% endfor %}"
    )
    with pytest.raises(InvalidInput):
        template.render({"n": 99_999}, seconds=0.05)
    assert template.render({"n": 2}, seconds=60) == "...."
