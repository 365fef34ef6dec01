# SPDX-License-Identifier: BUSL-1.1
"""What a chat template may call, and what each operation pays before it runs.

Only what is listed here exists for a template: a filter or method that makes much out of
little (`center`, `zfill`, `wordwrap`, format widths) is left out or has its cost computed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, Final

from mlos_core.synapse.text.chat.meter import Meter, TooCostly, length

INTEGER_BITS: Final = 4096
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\d{4,}|\*)")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHALLOW_FILTERS: Final = _names(
    "attr count d default dictsort first int items last length list map reject rejectattr"
    " reverse round select selectattr abs float batch slice"
)
"""Cost: the lengths of the arguments."""
DEEP_FILTERS: Final = _names(
    "capitalize e escape forceescape groupby join lower max min replace safe sort string sum"
    " title tojson trim truncate unique upper wordcount indent format"
)
"""Cost: everything inside the arguments, because they compare or print it."""
DEEP_TESTS: Final = _names("== eq equalto != ne > gt >= ge < lt <= le in")

STRING_METHODS: Final = _names(
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit"
    " islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix"
    " removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith"
    " strip swapcase title upper"
)
MAPPING_METHODS: Final = frozenset({"get", "items", "keys", "values"})


def binary_cost(meter: Meter, operator: str, left: Any, right: Any) -> None:
    """Pay for `left operator right`."""
    if operator == "+":
        meter.charge(length(left) + length(right))
    elif operator == "*":
        _charge_product(meter, left, right)
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * max(right, 1))
        meter.charge(1)
    elif operator == "%" and isinstance(left, str):
        if _WIDE_FORMAT.search(left):
            raise TooCostly("it formats with a width of more than 999")
        meter.charge(len(left))
        meter.charge_all(right)


def _charge_product(meter: Meter, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
        meter.charge(1)
    elif isinstance(left, int):
        meter.charge(length(right) * max(left, 1))
    elif isinstance(right, int):
        meter.charge(length(left) * max(right, 1))


def _check_bits(bits: int) -> None:
    if bits > INTEGER_BITS:
        raise TooCostly(f"it computes an integer of more than {INTEGER_BITS} bits")


def replace_cost(meter: Meter, text: Any, old: Any, new: Any, *_: Any) -> None:
    """Pay for replacing: the result may be much longer than the text."""
    text, old, new = str(text), str(old), str(new)
    meter.charge(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def join_cost(meter: Meter, separator: Any, parts: Any) -> None:
    """Pay for joining."""
    meter.charge_all(parts)
    meter.charge(length(separator) * length(parts))


def method_cost(meter: Meter, method: Any, args: tuple[Any, ...]) -> None:
    """Pay for calling a string's method."""
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if not isinstance(owner, str):
        return
    meter.charge(len(owner))
    if name == "replace" and len(args) >= 2:
        replace_cost(meter, owner, *args)
    elif name == "join" and args:
        join_cost(meter, owner, args[0])


def bounded_filter(name: str, function: Callable[..., Any], meter: Callable[[], Meter]) -> Any:
    """`function` as a filter that pays before and after it runs."""
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def bounded(*args: Any, **options: Any) -> Any:
        values = args[skip:]
        filter_cost(meter(), name, values, options)
        result = function(*args, **options)
        meter().charge(length(result))
        return result

    return bounded


def filter_cost(meter: Meter, name: str, values: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Pay for a filter on `values`: the piped value first, then the arguments."""
    if name in DEEP_FILTERS:
        meter.charge_all(values, options)
    else:
        meter.charge(sum(length(value) for value in values))
    if name == "replace" and len(values) >= 3:
        replace_cost(meter, *values)
    elif name == "join":
        join_cost(meter, values[1] if len(values) > 1 else options.get("d", ""), values[0])
    elif name == "format":
        binary_cost(meter, "%", str(values[0]), values[1:])
    elif name == "sum" and (len(values) > 2 or "start" in options):
        raise TooCostly("it sums from a start of its own")
    elif name in {"indent", "truncate", "batch", "slice", "tojson"}:
        _check_widths(meter, values, options)


def _check_widths(meter: Meter, values: tuple[Any, ...], options: dict[str, Any]) -> None:
    for argument in (*values[1:], *options.values()):
        if isinstance(argument, int) and argument > 1000:
            raise TooCostly("it asks for a width of more than 1000")
        if isinstance(argument, (int, str)):
            size = argument if isinstance(argument, int) else len(argument)
            lines = str(values[0]).count("\n") if isinstance(values[0], str) else 1
            meter.charge(max(size, 0) * (lines + 1))


def bounded_test(function: Callable[..., Any], meter: Callable[[], Meter]) -> Any:
    """A comparing test that pays for what it compares."""

    def bounded(*values: Any) -> Any:
        meter().charge_all(*values)
        return function(*values)

    return bounded


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as `transformers` writes it for templates: nothing escaped for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
