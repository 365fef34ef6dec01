# SPDX-License-Identifier: BUSL-1.1
import errno
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from axon_client import render
from axon_client.cli import COMMANDS, ELSEWHERE, cli
from mlos_core.errors import NotFound, Unavailable


@pytest.fixture
def installed(axon, folder):
    assert axon("install", folder)[0] == 0
    return folder


def test_install_says_what_to_do_next(axon, folder):
    code, out, err = axon("install", folder)
    assert (code, err) == (0, "")
    assert "installed local/digits@0.0.0" in out
    assert "axon register local/digits@0.0.0" in out


def test_install_prints_json(axon, folder):
    code, out, _ = axon("install", folder, "--as", "me/d@2", "--json")
    about = json.loads(out)
    assert code == 0
    assert (about["package"], about["format"], about["models"]) == (
        "me/d@2",
        "onnx",
        ["model.onnx"],
    )


def test_several_models_without_a_main_one_are_listed_at_installation(axon, folder, onnx):
    (folder / "model.onnx").rename(folder / "det.onnx")
    (folder / "rec.onnx").write_bytes(onnx())
    _, out, _ = axon("install", folder)
    assert "det.onnx, rec.onnx" in out
    assert "--file" in out


def test_list_has_three_formats(axon, installed):
    assert "local/digits@0.0.0" in axon("list")[1]
    assert axon("list", "-f", "names")[1] == "local/digits@0.0.0\n"
    for flags in (["-f", "json"], ["--json"]):
        (model,) = json.loads(axon("list", *flags)[1])
        assert model["models"] == ["model.onnx"]


def test_an_empty_list_says_how_to_begin(axon):
    assert "axon install" in axon("list")[1]
    assert json.loads(axon("list", "--json")[1]) == []


def test_a_damaged_model_is_listed_as_such(axon, installed, store):
    (model,) = store.installed()
    (model.path / "manifest.yaml").unlink()
    assert "damaged" in axon("list")[1]
    (about,) = json.loads(axon("list", "--json")[1])
    assert about["error"]["code"] == "invalid_input"


def test_info_shows_the_schema(axon, installed):
    code, out, _ = axon("info", "digits")
    assert code == 0
    assert "input      x: float32[?, 4]" in out
    about = json.loads(axon("info", "digits", "--json")[1])
    assert about["models"][0]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 4]}]
    assert about["models"][0]["opsets"] == {"ai.onnx": 17}


def test_text_from_a_package_cannot_drive_the_terminal(axon, folder):
    (folder / "axon.yaml").write_text(
        "{apiVersion: axon.mlos.io/v1, kind: Model, metadata: {name: a, namespace: b,"
        ' version: "1", description: "\\e[31mred [bold]x[/bold] \\x9b"}}'
    )
    code, out, err = axon("install", folder)
    assert (code, out) == (65, "")
    assert "has a control character" in err
    assert "\x1b" not in err
    assert "\x9b" not in err


def test_markup_and_control_characters_are_only_text(capsys):
    render.show("[bold]x[/bold] \x1b[31m \x9b")
    render.show_table(["name"], [["[red]y[/red]\x1b"]])
    render.show_error(NotFound("\x1b[2J[i]z", hint="\x07"))
    out, err = capsys.readouterr()
    assert "[bold]x[/bold]" in out
    assert "[red]y[/red]" in out
    assert "[i]z" in err
    assert not set("\x1b\x9b\x07") & set(out + err)


def test_verify_fails_with_its_own_exit_code(axon, installed, store):
    assert axon("verify")[0] == 0
    (model,) = store.installed()
    (model.path / "config.json").unlink()
    code, out, err = axon("verify", "digits")
    assert code == 74
    assert "config.json: missing" in out
    assert "--replace" in err
    code, out, _ = axon("verify", "--json")
    assert code == 74
    report = json.loads(out)
    assert not report["ok"]
    assert report["models"][0]["problems"][0]["kind"] == "missing"
    assert axon("install", installed, "--replace")[0] == 0
    assert json.loads(axon("verify", "--json")[1])["ok"]


def test_uninstall_tells_what_it_freed(axon, installed):
    code, out, _ = axon("uninstall", "digits", "--json")
    assert code == 0
    (removed,) = json.loads(out)
    assert removed["files"] == 3
    assert axon("list", "-f", "names")[1] == ""


@pytest.mark.parametrize("command", ["info", "verify", "uninstall", "register"])
def test_a_near_miss_is_suggested_with_an_exit_code(axon, installed, command):
    code, out, err = axon(command, "digit")
    assert (code, out) == (66, "")
    assert err == "error: digit is not installed\nhint: did you mean local/digits@0.0.0?\n"


def test_an_error_is_json_too(axon):
    code, out, err = axon("info", "nothing", "--json")
    assert (code, err) == (66, "")
    assert json.loads(out)["error"]["code"] == "not_found"


def test_verifying_nothing_says_that_there_is_nothing(axon):
    assert "no models are installed" in axon("verify")[1]
    assert json.loads(axon("verify", "--json")[1]) == {"ok": True, "models": []}


def test_a_wrong_command_is_corrected(axon):
    code, _, err = axon("instal")
    assert code == 2
    assert "Did you mean 'install'?" in err


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_others_call_a_command_is_corrected(axon, name):
    meant = ELSEWHERE[name]
    code, _, err = axon(name, "pypi/magika")
    assert code == 2
    assert f"Did you mean {meant!r}?" in err
    assert axon(*meant.split(), "--help")[0] == 0


def test_the_version_is_an_option_too(axon):
    assert axon("--version") == axon("-V") == axon("version")


def test_a_wrong_option_is_a_usage_error(axon):
    assert axon("list", "--bogus")[0] == 2


def test_help_is_shown(axon):
    code, out, _ = axon("--help")
    assert code == 0
    assert "install" in out


def test_an_error_about_a_name_that_is_not_utf8_is_json_too(axon, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    code, out, _ = axon("install", path, "--json")
    assert code == 66
    assert path in json.loads(out)["error"]["message"]


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 71), (errno.EROFS, 77), (errno.ENOENT, 66), (errno.EIO, 70)]
)
def test_what_the_system_refuses_has_an_exit_code(axon, monkeypatch, number, code):
    def fail(*arguments):
        raise OSError(number, os.strerror(number), "there")

    monkeypatch.setattr("axon_client.catalog.find_newest", fail)
    found, _, err = axon("info", "x")
    assert found == code
    assert f"error: there: {os.strerror(number)}\n" in err


@pytest.mark.parametrize("style", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_told(home, style):
    with Path("/dev/full").open("wb") as full:
        done = _axon(["list", *style], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 71
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr


def test_without_standard_output_the_work_is_done_all_the_same(home):
    done = _axon(["list"], preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def _axon(arguments, **options):
    command = [sys.executable, "-P", "-m", "axon_client.cli", *arguments]
    return subprocess.run(command, timeout=60, check=False, **options)


def test_a_fault_of_axon_itself_is_one_line(axon, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("axon_client.catalog.find_newest", fail)
    monkeypatch.delenv("AXON_DEBUG", raising=False)
    code, _, err = axon("info", "x")
    assert code == 70
    assert "ZeroDivisionError: oops" in err
    assert "Traceback" not in err
    monkeypatch.setenv("AXON_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        axon("info", "x")


def test_an_interrupted_command_ends_as_one(axon, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("axon_client.catalog.find_newest", interrupt)
    code, out, err = axon("info", "x")
    assert (code, out) == (130, "")
    assert err.endswith("error: interrupted\n")
    assert json.loads(axon("info", "x", "--json")[1])["error"]["code"] == "cancelled"


class FakeDaemon:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def call(self, method, **parameters):
        return {"name": parameters["name"], "state": "ready", "asked": method}


@pytest.fixture
def client(monkeypatch):
    module = types.ModuleType("mlos_core.client")
    module.connect = lambda socket: FakeDaemon()
    monkeypatch.setitem(sys.modules, "mlos_core.client", module)
    return module


def test_register_hands_the_model_to_the_daemon(axon, installed, client):
    assert axon("register", "digits") == (0, "digits: ready\n", "")
    code, out, _ = axon("register", "digits", "--name", "ten", "--json")
    assert code == 0
    assert json.loads(out) == {"name": "ten", "state": "ready", "asked": "register"}


def test_register_without_a_daemon_says_so(axon, installed, client):
    def refuse(socket):
        raise Unavailable("no daemon answers", hint="start one with: mlosd")

    client.connect = refuse
    code, _, err = axon("register", "digits")
    assert code == 69
    assert "start one with: mlosd" in err


def test_version_is_shown(axon):
    assert axon("version")[0] == 0
    assert json.loads(axon("version", "--json")[1])["manifest"] == "axon.mlos.io/v1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_says_how(axon, shell):
    assert f"_AXON_COMPLETE={shell}_source axon" in axon("completion", shell)[1]


@pytest.fixture
def complete(home):
    """What a shell offers for a line that ends in the middle of its last word."""

    def complete(*words):
        made = ShellComplete(cli, {}, "axon", "_AXON_COMPLETE")
        return [item.value for item in made.get_completions(list(words[:-1]), words[-1])]

    return complete


def test_a_shell_asks_for_completion_by_the_environment(installed, home):
    done = subprocess.run(
        [sys.executable, "-m", "axon_client.cli"],
        env={
            **os.environ,
            "_AXON_COMPLETE": "bash_complete",
            "COMP_WORDS": "axon info lo",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["plain,local/digits@0.0.0", "plain,local/digits"]


def test_commands_and_what_they_name_complete(installed, complete, axon):
    axon("registry", "add", "hub", "https://a.example.org")
    assert complete("info", "lo") == ["local/digits@0.0.0", "local/digits"]
    assert complete("unin") == ["uninstall"]
    assert complete("registry", "lo") == ["login", "logout"]
    assert complete("registry", "login", "h") == ["hub"]
    assert complete("publish", "--registry", "h") == ["hub"]
    assert complete("config", "get", "off") == ["offline"]
    assert complete("config", "get", "registries.hub.p") == ["registries.hub.policy"]
    assert complete("list", "--js") == ["--json"]


def test_completion_of_a_broken_home_is_silent(home, complete):
    home.mkdir()
    (home / "config.yaml").write_text("[")
    assert complete("registry", "login", "h") == []


def test_every_command_loads_and_has_help(axon):
    for name in COMMANDS:
        code, out, _ = axon(name, "--help")
        assert code == 0, name
        assert out.startswith(f"Usage: axon {name}")


HEAVY = {"urllib3", "resolvelib", "cryptography", "sqlite3", "starlette", "rich.progress",
         "huggingface_hub", "asyncio", "importlib.metadata", "http.client"}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "more"),
    [(["--help"], {"rich", "yaml"}), (["list"], set()),
     (["config", "list"], set()), (["registry", "list"], set())],
)  # fmt: skip
def test_what_a_command_does_not_need_is_not_imported(home, command, more):
    code = (
        f"import sys; from axon_client.cli import run; run({command});"
        f"sys.exit(', '.join(sorted({HEAVY | more} & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_package_gives_its_parts_when_they_are_asked_for():
    import axon_client

    assert axon_client.install.__name__ == "install"
    assert axon_client.Store.__name__ == "Store"
    with pytest.raises(AttributeError, match="no attribute 'instal'"):
        _ = axon_client.instal


def test_a_usage_error_is_json_too(axon):
    code, out, err = axon("info", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["code"] == "usage"


def test_a_misspelt_option_and_subcommand_are_corrected(axon):
    assert "--json" in axon("list", "--jsno")[2]
    code, _, err = axon("registry", "lgin", "hub")
    assert code == 2
    assert "Did you mean 'login'?" in err


def test_help_lists_the_exit_codes_that_errors_have(axon):
    out = axon("--help")[1]
    for error in (NotFound, Unavailable):
        assert f"  {error.exit_code}  " in out


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert render._styled("x", fg="red") == "x"
    monkeypatch.delenv("NO_COLOR")
    assert render._styled("x", fg="red") == "\x1b[31mx\x1b[0m"


def test_a_reader_that_went_away_gets_no_traceback(installed, home):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "axon_client.cli", "info", "digits", "--json"]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b""


@pytest.mark.parametrize("columns", [200, 30])
def test_a_table_fits_the_terminal_and_is_never_folded_elsewhere(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [("acme/a-rather-long-name@1.0.0", "12"), ("b", "3")]
    render.show_table(("package", "size"), rows, ("size",))
    assert capsys.readouterr().out.splitlines() == [
        "package                        size",
        "acme/a-rather-long-name@1.0.0    12",
        "b                                 3",
    ]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    render.show_table(("package", "size"), rows, ("size",))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (3 if columns == 200 else 4)
    assert max(map(len, lines[1:])) <= columns


@pytest.mark.parametrize("columns", [200, 30])
def test_a_table_without_colours_has_no_escapes_at_any_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    render.show_table(("package", "about"), [("local/digits", "reads digits of all kinds")])
    assert "\x1b" not in capsys.readouterr().out
