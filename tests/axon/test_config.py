# SPDX-License-Identifier: BUSL-1.1
import json
import os
import threading

import pytest

from axon_client import config, config_file
from mlos_core.errors import ConfigError, NotFound


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in config.VARIABLES.values():
        monkeypatch.delenv(name, raising=False)


def write(home, text):
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.yaml").write_text(text)


def test_without_a_file_the_defaults_hold(home):
    assert config.load(home) == config.Config()
    assert config.load(home).parallel == 8


def test_the_environment_goes_before_the_file(home):
    write(home, "offline: false\nparallel: 2\nrate_limit: 1MB\nstores: [/a]")
    seen = config.load(home, {"AXON_OFFLINE": "1", "AXON_STORES": os.pathsep.join(["/b", "/c"])})
    assert (seen.offline, seen.parallel, seen.stores) == (True, 2, ["/b", "/c"])
    assert seen.rate_limit == 1_000_000


def test_an_empty_variable_sets_nothing(home):
    write(home, "parallel: 2")
    assert config.load(home, {"AXON_PARALLEL": ""}).parallel == 2


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("1000", 1000), ("20MB", 20_000_000), ("1.5 MiB/s", 1_572_864), ("3k", 3000)],
)
def test_amounts_have_units(home, text, amount):
    assert config.load(home, {"AXON_RATE_LIMIT": text}).rate_limit == amount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ofline: true", "did you mean offline?"),
        ("registries: {hub: {url: https://a, polcy: warn}}", "did you mean policy?"),
        ("registries: {hub: {url: https://a, policy: maybe}}", "policy"),
        ("registries: {hub: {url: ftp://a}}", "a URL (https://…)"),
        ("registries: {hub: {url: 'https://user@a'}}", "a URL"),
        ("registries: {'../x': {url: https://a}}", "letters, digits"),
        ("registries: {a b: {url: https://a}}", "the keys of registries"),
        ("parallel: 0", "parallel"),
        ("parallel: many", "parallel"),
        ("rate_limit: fast", "write 20MB"),
        ("default_registry: hub", "no registry"),
        ("registries: {a: {url: https://a, kind: hf}}\ndefault_registry: a", "kind axon"),
        ("registries: {a: {url: https://a, namespaces: [pypi]}}", "built-in"),
        ("registries: {hf: {url: https://a, kind: hf}}", "built-in"),
        ("registries: {a: {url: oci://a}}", "another kind"),
        ("- a list", "keys with values"),
        ("a: [", "not valid YAML"),
        ("a: &x [1]\nb: *x", "alias"),
        ("x: " + "[" * 100, "YAML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(home, text, said):
    write(home, text)
    with pytest.raises(ConfigError) as caught:
        config.load(home)
    assert said in str(caught.value)
    assert "config.yaml" in str(caught.value)


def test_a_namespace_has_one_registry(home):
    write(home, "registries: {a: {url: https://a, namespaces: [x]}, x: {url: https://x, kind: hf}}")
    with pytest.raises(ConfigError, match="both 'a' and 'x' claim namespace 'x'"):
        config.load(home)


def test_a_wrong_variable_is_named(home):
    with pytest.raises(ConfigError, match="AXON_OFFLINE: offline is true or false"):
        config.load(home, {"AXON_OFFLINE": "perhaps"})


def test_a_registry_may_be_given_by_its_url_alone(home):
    seen = config.load(home, {"AXON_DEFAULT_REGISTRY": "https://models.example.org"})
    assert seen.registries[seen.default_registry].url == "https://models.example.org"
    write(home, "registries: {hub: {url: https://models.example.org}}")
    seen = config.load(home, {"AXON_DEFAULT_REGISTRY": "https://models.example.org"})
    assert seen.default_registry == "hub"


def test_keys_are_set_read_and_unset(axon, home):
    assert axon("config", "get", "parallel") == (0, "8\n", "")
    assert axon("config", "set", "parallel", "3") == (0, "", "")
    assert axon("config", "get", "parallel") == (0, "3\n", "")
    assert axon("config", "unset", "parallel")[0] == 0
    assert axon("config", "get", "parallel") == (0, "8\n", "")
    assert axon("config", "unset", "parallel")[0] == 66


def test_nested_keys_are_set_and_unset(axon):
    axon("registry", "add", "hub", "https://a.example.org")
    assert axon("config", "set", "registries.hub.policy", "require")[0] == 0
    assert axon("config", "get", "registries.hub.policy")[1] == "require\n"
    axon("config", "set", "registries.hub.namespaces", "acme", "other")
    assert config.load().registries["hub"].namespaces == ["acme", "other"]
    place = "mirrors.https://far.example.org/"
    axon("config", "set", place, "https://near.example.org/")
    assert config.load().mirrors == {"https://far.example.org/": ["https://near.example.org/"]}
    assert axon("config", "get", place)[1] == "https://near.example.org/\n"
    assert axon("config", "unset", place)[0] == 0
    assert config.load().mirrors == {}


@pytest.mark.parametrize(
    ("key", "value", "code", "said"),
    [
        ("ofline", "true", 66, "did you mean offline?"),
        ("offline", "perhaps", 78, "true or false"),
        ("parallel", "65", 78, "parallel"),
        ("default_registry", "none", 78, "no registry"),
        ("registries", "x", 66, "axon registry add"),
        ("registries.none.policy", "warn", 78, "url"),
    ],
)
def test_a_wrong_change_changes_nothing(axon, home, key, value, code, said):
    write(home, "parallel: 2\n")
    found, _, err = axon("config", "set", key, value)
    assert found == code
    assert said in err
    assert (home / "config.yaml").read_text() == "parallel: 2\n"


def test_a_key_that_should_not_be_there_can_be_unset(axon, home):
    write(home, "ofline: true")
    assert axon("config", "list")[0] == 78
    assert axon("config", "unset", "ofline")[0] == 0
    assert axon("config", "list")[0] == 0


def test_list_says_what_set_each_key(axon, home, monkeypatch):
    write(home, "parallel: 2")
    monkeypatch.setenv("AXON_OFFLINE", "1")
    entries = {entry["key"]: entry for entry in json.loads(axon("config", "list", "--json")[1])}
    assert entries["offline"] == {"key": "offline", "value": True, "origin": "AXON_OFFLINE"}
    assert entries["parallel"]["origin"] == str(home / "config.yaml")
    assert entries["rate_limit"]["origin"] == "default"


def test_who_sets_what_a_variable_overrides_is_told(axon, monkeypatch):
    monkeypatch.setenv("AXON_PARALLEL", "5")
    code, _, err = axon("config", "set", "parallel", "3")
    assert code == 0
    assert "AXON_PARALLEL" in err


def test_changes_at_the_same_time_all_hold(home):
    def change(number):
        def add(values):
            values.setdefault("registries", {})[f"r{number}"] = {"url": f"https://h{number}"}

        config_file.edit(home, add)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(config.load(home).registries) == {f"r{number}" for number in range(8)}
    assert sorted(p.name for p in home.iterdir()) == ["config.lock", "config.yaml"]


def test_a_change_that_fails_leaves_no_file_behind(home):
    def fail(values):
        raise NotFound("nothing")

    with pytest.raises(NotFound):
        config_file.edit(home, fail)
    assert [path.name for path in home.iterdir()] == ["config.lock"]


def test_a_home_that_cannot_be_written_is_named(axon, monkeypatch):
    monkeypatch.setenv("AXON_HOME", os.devnull)
    code, _, err = axon("config", "set", "offline", "true")
    assert code == 78
    assert f"cannot write to {os.devnull}" in err
