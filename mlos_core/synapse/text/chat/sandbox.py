# SPDX-License-Identifier: BUSL-1.1
"""A jinja2 environment that a hostile chat template cannot make slow or large.

A template comes with the model, from anybody. Jinja's sandbox keeps it from Python's insides;
this adds bounds. Each operation that can make something large, and each turn of a loop, pays a
`Meter` that knows a budget and a deadline. Operations that jinja lets an environment intercept
(calls, filters, operators, output) pay there; for the others the parsed template is rewritten:
a loop's body begins with a payment for the turn and the text in it, `a ~ b`, comparisons and
slices go through a filter of ours. What remains costs no more than the template's own length.

It runs in the worker itself: a helper process would add memory and a process to each model,
for something that takes 50 microseconds.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlos_core.synapse.text.chat import operations
from mlos_core.synapse.text.chat.meter import Meter, TooCostly, length
from mlos_core.synapse.text.chat.rewrite import CHECKED, JOINED, SIZED, TURN, rewrite


class Refused(TemplateError):
    """The template called raise_exception: it does not take these messages."""


class GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training; its body is rendered."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Any) -> list[nodes.Node]:
        """The body, in place of the tag."""
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


def _raise(message: object) -> None:
    raise Refused(str(message)[:2000])


def _now(form: str) -> str:
    if len(form) > 200:
        raise TooCostly("it asks for a date of more than 200 characters")
    return datetime.datetime.now().astimezone().strftime(form)


def _late(function: Callable[[Any], Any]) -> Callable[[Context, Any], Any]:
    # What takes the context is never computed while the template is compiled.
    return pass_context(lambda _, value: function(value))


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The environment of one chat template. One rendering at a time: `meter` is its budget."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, GenerationTag],
            finalize=self._text,
            cache_size=0,
        )
        self.meter = Meter()
        self.source_length = 0
        self._limit_filters()
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise, "strftime_now": _now}

    def _limit_filters(self) -> None:
        known = operations.SHALLOW_FILTERS | operations.DEEP_FILTERS
        filters = self.filters | {"tojson": operations.to_json}
        self.filters = {
            name: operations.bounded_filter(name, function, lambda: self.meter)
            for name, function in filters.items()
            if name in known
        }
        self.filters |= {
            TURN: _late(lambda cost: self.meter.charge(cost)),
            SIZED: _late(self._sized),
            CHECKED: _late(self._checked),
            JOINED: _late(self._joined),
        }
        for name in operations.DEEP_TESTS & self.tests.keys():
            test: Any = self.tests[name]
            self.tests[name] = operations.bounded_test(test, lambda: self.meter)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        self.source_length = len(source)
        return rewrite(super()._parse(source, name, filename))

    # --- what pays ---

    def _text(self, value: Any) -> str:
        # Also what a list prints as is paid for before it is printed.
        self.meter.charge_all(value)
        return str(value)

    def _sized(self, value: Any) -> Any:
        self.meter.charge(length(value))
        return value

    def _checked(self, value: Any) -> Any:
        if isinstance(value, (list, tuple, Mapping)):
            self.meter.charge_all(value)
        return value

    def _joined(self, parts: list[Any]) -> str:
        self.meter.charge_all(parts)
        return "".join(map(str, parts))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator: pays for its result first."""
        operations.binary_cost(self.meter, operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **options: Any) -> Any:
        """A call: pays for its arguments, a macro also for its text, and for the result."""
        if isinstance(obj, Macro):
            self.meter.charge(self.source_length + len(args))
        else:
            # It may compare, hash or print what it gets.
            self.meter.charge_all(args, options)
        operations.method_cost(self.meter, obj, args)
        result = super().call(context, obj, *args, **options)
        self.meter.charge(length(result))
        return result

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`: a key is hashed, so pays for everything inside it."""
        if isinstance(argument, tuple):
            self.meter.charge_all(argument)
        return super().getitem(obj, argument)

    def wrap_str_format(self, value: Any) -> None:
        """No str.format: its widths have no bounds."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may touch `obj.attr`."""
        if isinstance(obj, str):
            return attr in operations.STRING_METHODS
        if isinstance(obj, Mapping):
            return attr in operations.MAPPING_METHODS
        if isinstance(obj, (list, tuple, int, float, bytes)):
            return False
        return super().is_safe_attribute(obj, attr, value)
