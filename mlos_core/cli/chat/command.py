# SPDX-License-Identifier: BUSL-1.1
"""The command's words and options, and finding the model they mean."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from mlos_core.cli.chat import terminal
from mlos_core.cli.chat.answer import CANCELLED
from mlos_core.cli.chat.conversation import Conversation
from mlos_core.cli.chat.models import chat_model
from mlos_core.cli.chat.session import Chat
from mlos_core.cli.complete import chat_models, versions
from mlos_core.cli.context import Context, command
from mlos_core.cli.inputs import pairs
from mlos_core.errors import InvalidInput

_TEMPERATURE: Final = 0.3
_SAMPLING: Final = (
    click.option("--max-tokens", type=click.IntRange(1), help="Longest answer."),
    click.option(
        "--temperature",
        type=click.FloatRange(0),
        default=_TEMPERATURE,
        show_default=True,
        help="0 always takes the likeliest token.",
    ),
    click.option("--top-p", type=click.FloatRange(0, 1), help="Likeliest tokens of this share."),
    click.option("--top-k", type=click.IntRange(0), help="Only so many likeliest tokens."),
    click.option("--min-p", type=click.FloatRange(0, 1), help="Least share of the likeliest's."),
    click.option("--repetition-penalty", type=click.FloatRange(0, min_open=True), help="Over 1."),
    click.option("--seed", type=int, help="The same seed, the same answer."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before it; repeatable."),
)


def sampling(function: Any) -> Any:
    """Add the options that become parameters of each request."""
    for option in reversed(_SAMPLING):
        function = option(function)
    return function


@click.command()
@click.argument("model", shell_complete=chat_models)
@click.argument("question", nargs=-1)
@click.option("--version", default="", shell_complete=versions, help="Which version of MODEL.")
@click.option("--system", default="", metavar="TEXT", help="Who the model is to be.")
@sampling
@click.option(
    "--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="Any other, repeatable."
)
@click.option("--stats/--no-stats", default=None, help="Speed of each answer (on a terminal).")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds for an answer.")
@command
def chat(
    context: Context,
    model: str,
    question: tuple[str, ...],
    version: str,
    system: str,
    parameters: tuple[str, ...],
    stats: bool | None,
    timeout: float,
    **sampled: Any,
) -> None:
    """Talk to MODEL, or ask it one QUESTION.

    A question `-`, or none where no person types, is read from the standard input. Between
    questions, /help shows what else can be said.
    """
    chosen = {key: value for key, value in sampled.items() if value not in (None, ())}
    with context.client() as client:
        talk = Chat(
            chat_model(client, model, timeout, version),
            Conversation(system),
            {**chosen, **pairs(parameters, "--parameter")},
            timeout=timeout,
            as_json=context.as_json,
            stats=sys.stderr.isatty() if stats is None else stats,
        )
        if question or not terminal.interactive():
            if talk.turn(_asked(question)).finish == CANCELLED:
                raise KeyboardInterrupt
            return
        terminal.note(f"{model} listens; /help helps, ctrl-D leaves")
        talk.run()


def _asked(words: tuple[str, ...]) -> str:
    text = " ".join(words)
    question = terminal.everything() if text in ("", "-") else text
    if not question:
        raise InvalidInput(
            "there is no question", hint='mlosctl chat MODEL "question", or pipe one in'
        )
    return question
