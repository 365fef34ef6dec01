# SPDX-License-Identifier: BUSL-1.1
import os
import stat
from pathlib import Path

import pytest

from mlos_core import config
from mlos_core.errors import ConfigError, PermissionDenied


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "mlos.toml"
    file.write_text('http_port = 1\nlog_level = "debug"\nmax_attempts = 7\n')
    environ = {"MLOS_HTTP_PORT": "2", "MLOS_LOG_LEVEL": "error"}
    loaded = config.load(file, environ, {"http_port": "3", "log_level": None})
    assert (loaded.http_port, loaded.log_level, loaded.max_attempts) == (3, "error", 7)


def test_an_unknown_key_in_the_file_is_named_with_its_nearest(tmp_path):
    file = tmp_path / "mlos.toml"
    file.write_text("htp_port = 1\n")
    with pytest.raises(ConfigError, match="htp_port") as caught:
        config.load(file, {})
    assert "http_port" in caught.value.hint


def test_an_unknown_variable_is_named_with_its_nearest():
    with pytest.raises(ConfigError, match="MLOS_DRAIN_TIMEOT") as caught:
        config.load(None, {"MLOS_DRAIN_TIMEOT": "3"})
    assert "MLOS_DRAIN_TIMEOUT" in caught.value.hint


def test_variables_that_are_no_settings_are_left_alone():
    environ = {"MLOS_SOCKET": "/x", "MLOS_CORE_ENDPOINT": "http://x", "PATH": "/bin"}
    assert config.load(None, environ) == config.Config()


def test_a_file_must_give_values_of_the_right_type(tmp_path):
    file = tmp_path / "mlos.toml"
    file.write_text('http_port = "80"\n')
    with pytest.raises(ConfigError, match="http_port"):
        config.load(file, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [("MLOS_HTTP_PORT", "70000"), ("MLOS_MAX_CLIENTS", "0"), ("MLOS_WAIT_MODE", "sleep")],
)
def test_impossible_values_are_refused(key, value):
    with pytest.raises(ConfigError):
        config.load(None, {key: value})


def test_lists_and_modes_can_be_written_in_the_environment():
    loaded = config.load(None, {"MLOS_ALLOWED_UIDS": "1, 2", "MLOS_SOCKET_MODE": "0660"})
    assert loaded.allowed_uids == (1, 2)
    assert loaded.socket_mode == 0o660
    assert loaded.run_dir_mode == 0o710


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        config.load(tmp_path / "absent.toml", {})


def test_the_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        config.Config().http_port = 1


def test_the_socket_lies_in_the_run_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MLOS_SOCKET", raising=False)
    monkeypatch.setenv("MLOS_RUN_DIR", str(tmp_path))
    assert config.default_socket() == tmp_path / "mlosd.sock"
    monkeypatch.setenv("MLOS_SOCKET", "/elsewhere")
    assert config.default_socket() == Path("/elsewhere")


def test_a_private_folder_is_closed_to_others(tmp_path):
    folder = config.make_private(tmp_path / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_in_the_place_of_the_run_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionDenied):
        config.make_private(tmp_path / "link")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(PermissionDenied):
        config.make_private(folder)
    monkeypatch.delenv("MLOS_SOCKET", raising=False)
    monkeypatch.setenv("MLOS_RUN_DIR", str(folder))
    with pytest.raises(PermissionDenied):
        config.default_socket()
