# SPDX-License-Identifier: BUSL-1.1
"""The guide, the help and the code say the same."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from axon_client import config
from axon_client.cli import COMMANDS, EXIT_CODES, cli
from axon_client.errors import IntegrityError
from mlos_core.errors import BY_CODE

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "axon.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_guide(command):
    assert re.search(rf"`(axon )?([a-z]+\|)*{command}\b|`{command}`", GUIDE), command


@pytest.mark.parametrize("variable", config.VARIABLES.values())
def test_every_variable_is_in_the_guide(variable):
    assert f"`{variable}`" in GUIDE


def test_every_error_has_its_exit_code_in_the_guide_and_in_the_help():
    for kind in {*BY_CODE.values(), IntegrityError}:
        assert f"| {kind.exit_code} |" in GUIDE
        assert f"\n  {kind.exit_code} " in EXIT_CODES


def test_every_option_that_the_guide_names_is_there():
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE))
    there = set()
    for name in COMMANDS:
        there |= _options(cli.get_command(None, name))
    assert named - there - {"--help"} == set()


def _options(command):
    found = {option for parameter in command.params for option in parameter.opts}
    for name in getattr(command, "list_commands", lambda context: [])(None):
        found |= _options(command.get_command(None, name))
    return found


def test_the_help_of_every_subcommand_is_one_screen():
    for name in COMMANDS:
        done = CliRunner().invoke(cli, [name, "--help"])
        assert done.exit_code == 0
        assert len(done.output.splitlines()) < 45, name
