# SPDX-License-Identifier: BUSL-1.1
"""A model's chat template: compiled once, rendered within bounds."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from jinja2 import meta
from jinja2.exceptions import TemplateSyntaxError

from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.synapse.text.chat.meter import SECONDS, Meter, TooCostly, weigh
from mlos_core.synapse.text.chat.sandbox import BoundedEnvironment, Refused

MAX_SOURCE: Final = 128 * 1024
"""Characters of a template; the largest of known models have a sixth of that."""
RESERVED: Final = frozenset({"messages", "tools", "add_generation_prompt"})


class ChatTemplate:
    """One jinja2 template.

    Args:
        source: the template's text.
        constants: what it may use besides the messages: bos_token, eos_token, ...

    Raises:
        LoadFailed: it is too long or no template.
    """

    def __init__(self, source: str, constants: Mapping[str, Any] | None = None) -> None:
        if len(source) > MAX_SOURCE:
            raise LoadFailed(
                f"the chat template has {len(source)} characters, {MAX_SOURCE} are the limit"
            )
        self._constants = dict(constants or {})
        self._environment = BoundedEnvironment()
        self._lock = threading.Lock()
        try:
            parsed = self._environment.parse(source)
            self.variables = frozenset(meta.find_undeclared_variables(parsed))
            self._environment.meter = Meter()
            self._template = self._environment.from_string(parsed)
        except TemplateSyntaxError as error:
            raise LoadFailed(
                f"the chat template is wrong in line {error.lineno}: {error.message}"
            ) from error
        except Exception as error:  # of jinja, of Python's compiler, of our own budget
            raise LoadFailed(f"the chat template cannot be compiled: {error}"[:500]) from error

    @property
    def takes_tools(self) -> bool:
        """Whether it renders tool definitions itself."""
        return "tools" in self.variables

    def render(self, values: Mapping[str, Any], *, seconds: float = SECONDS) -> str:
        """The prompt.

        Args:
            values: messages, tools, add_generation_prompt and anything else it may look at.
            seconds: the time it may take.

        Raises:
            InvalidInput: the template refuses the messages, fails on them, or costs too much.
        """
        everything = self._constants | dict(values)
        with self._lock:
            self._environment.meter = Meter(weigh(list(values.values())), seconds)
            try:
                return "".join(self._template.generate(everything))
            except Refused as error:
                raise InvalidInput(
                    f"the model's chat template refuses these messages: {error.message}"
                ) from error
            except TooCostly as error:
                raise InvalidInput(
                    f"the model's chat template was stopped: {error}",
                    hint="use another template: option chat_template",
                ) from error
            except RecursionError as error:
                raise InvalidInput("the model's chat template calls itself too deeply") from error
            except Exception as error:
                # Anything else is the template's own code stumbling over these messages.
                raise InvalidInput(
                    "the model's chat template cannot render these messages:"
                    f" {type(error).__name__}: {error}"[:500]
                ) from error
