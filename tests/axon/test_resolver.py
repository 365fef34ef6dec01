# SPDX-License-Identifier: BUSL-1.1
import random

import pytest

from axon_client.adapters.base import Resolved, Version
from axon_client.resolver import resolve
from axon_client.spec import PackageSpec, parse
from mlos_core.errors import InvalidInput, NotFound, Unavailable


class Shelf:
    """A source with packages that exist nowhere: {spec: dependencies}."""

    def __init__(self, packages, yanked=(), tags=None):
        self.packages = {parse(text): tuple(needs) for text, needs in packages.items()}
        self.yanked = set(yanked)
        self.tags = tags or {}
        self.asked = []

    def versions(self, spec):
        self.asked.append(spec.title)
        found = [one for one in self.packages if one.title == spec.title]
        if not found:
            raise NotFound(f"there is no {spec.title}", hint="look again")
        return [self._version(one) for one in found]

    def _version(self, spec):
        why = "broken weights" if str(spec) in self.yanked else ""
        return Version(spec.version, why, tuple(self.tags.get(str(spec), ())))

    def resolve(self, spec):
        self.asked.append(str(spec))
        if spec not in self.packages:
            raise NotFound(f"there is no {spec}")
        return Resolved(spec, dependencies=self.packages[spec])


class Plain:
    """A source that knows its newest version, and others by name, but lists none."""

    def __init__(self, title, newest, names=None):
        self.title, self.newest, self.names = title, newest, names or {}

    def resolve(self, spec):
        version = self.names.get(spec.version, spec.version) or self.newest
        if version not in (self.newest, *self.names.values(), "1.0.0"):
            raise NotFound(f"there is no {spec}")
        return Resolved(parse(self.title).at(version))


def solve(source, *wanted, **options):
    options.setdefault("source_of", lambda package: source)
    found = resolve([parse(text) for text in wanted], **options)
    return [str(one.package) for one in found.packages]


@pytest.mark.parametrize(
    ("selector", "version"),
    [
        ("", "1.10.0"),
        ("@*", "1.10.0"),
        ("@1", "1.10.0"),
        ("@~1.9", "1.9.1"),
        ("@^1.2", "1.10.0"),
        ("@>=1,<1.10", "1.9.1"),
        ("@1.9.0", "1.9.0"),
        ("@2.0.0-rc.1", "2.0.0-rc.1"),
        ("@^2.0.0-rc", "2.0.0-rc.1"),
        ("@stable", "1.9.0"),
    ],
)
def test_the_highest_version_that_fits_is_taken(selector, version):
    shelf = Shelf(
        {f"a/m@{v}": () for v in ("1.9.0", "1.10.0", "1.9.1", "0.1.0", "2.0.0-rc.1")},
        tags={"a/m@1.9.0": ["stable"]},
    )
    assert solve(shelf, f"a/m{selector}") == [f"a/m@{version}"]


def test_the_version_tagged_latest_comes_before_higher_ones_that_fit_as_with_npm():
    shelf = Shelf({f"a/m@1.{minor}.0": () for minor in range(4)}, tags={"a/m@1.1.0": ["latest"]})
    assert solve(shelf, "a/m") == ["a/m@1.1.0"]
    assert solve(shelf, "a/m@latest") == ["a/m@1.1.0"]
    assert solve(shelf, "a/m@^1") == ["a/m@1.1.0"]
    assert solve(shelf, "a/m@^1.2") == ["a/m@1.3.0"]


def test_pre_releases_are_taken_without_being_asked_for_only_if_there_is_nothing_else():
    shelf = Shelf({"a/m@1.0.0-beta.2": (), "a/m@1.0.0-beta.10": ()})
    assert solve(shelf, "a/m") == ["a/m@1.0.0-beta.10"]
    with pytest.raises(NotFound) as caught:
        solve(shelf, "a/m@^1")
    assert "1.0.0-beta.10 is a pre-release" in caught.value.hint


def test_what_is_yanked_is_taken_only_if_it_is_named_exactly_or_pinned():
    shelf = Shelf({"a/m@1.0.0": (), "a/m@1.1.0": ()}, yanked=["a/m@1.1.0"])
    assert solve(shelf, "a/m@^1") == ["a/m@1.0.0"]
    assert solve(shelf, "a/m") == ["a/m@1.0.0"]
    assert solve(shelf, "a/m@1.1.0") == ["a/m@1.1.0"]
    assert solve(shelf, "a/m@^1", pins={"a/m": "1.1.0"}) == ["a/m@1.1.0"]
    with pytest.raises(NotFound) as caught:
        solve(shelf, "a/m@^1.1")
    assert "withdrawn: broken weights" in caught.value.hint
    assert "a/m@1.1.0" in caught.value.hint
    with pytest.raises(NotFound, match="no version of a/m may be chosen"):
        solve(Shelf({"a/m@1.0.0": ()}, yanked=["a/m@1.0.0"]), "a/m")


def test_dependencies_come_before_what_needs_them_and_once_each():
    shelf = Shelf(
        {
            "a/pipeline@2.0.0": ("a/ranker@^1", "a/tokens@^3"),
            "a/ranker@1.4.0": ("a/tokens@>=3.1",),
            "a/tokens@3.0.0": (),
            "a/tokens@3.2.0": (),
            "a/tokens@4.0.0": (),
        }
    )
    assert solve(shelf, "a/pipeline") == ["a/tokens@3.2.0", "a/ranker@1.4.0", "a/pipeline@2.0.0"]
    found = resolve([parse("a/pipeline")], source_of=lambda package: shelf)
    assert found.get("a/pipeline").dependencies == (
        parse("a/ranker@1.4.0"),
        parse("a/tokens@3.2.0"),
    )
    assert len(shelf.asked) == len(set(shelf.asked)) * 2, "each resolution asks once"


def test_an_older_version_is_taken_where_the_newest_would_exclude_another_wish():
    shelf = Shelf(
        {
            "a/x@1.0.0": ("a/base@^1",),
            "a/x@2.0.0": ("a/base@^2",),
            "a/y@1.0.0": ("a/base@~1.1",),
            "a/base@1.0.0": (),
            "a/base@1.1.5": (),
            "a/base@2.0.0": (),
        }
    )
    assert solve(shelf, "a/x", "a/y") == ["a/base@1.1.5", "a/x@1.0.0", "a/y@1.0.0"]


def test_a_version_whose_dependency_is_gone_is_passed_over():
    shelf = Shelf({"a/x@1.0.0": (), "a/x@1.1.0": ("a/gone@^1",)})
    assert solve(shelf, "a/x@^1") == ["a/x@1.0.0"]


def test_circles_are_resolved():
    shelf = Shelf({"a/x@1.0.0": ("a/y@^1",), "a/y@1.0.0": ("a/x@^1",)})
    assert sorted(solve(shelf, "a/x")) == ["a/x@1.0.0", "a/y@1.0.0"]


def test_pins_hold_as_long_as_they_fit():
    shelf = Shelf({f"a/m@1.{minor}.0": () for minor in range(3)})
    assert solve(shelf, "a/m@^1", pins={"a/m": "1.1.0"}) == ["a/m@1.1.0"]
    assert solve(shelf, "a/m@^1.2", pins={"a/m": "1.1.0"}) == ["a/m@1.2.0"]


def test_a_pin_that_is_not_listed_any_more_holds_where_the_source_still_has_it():
    class Commits(Shelf):
        def versions(self, spec):
            return [one for one in super().versions(spec) if one.version.endswith("b" * 12)]

    source = Commits({f"hf/m@0.0.0+{c * 12}": () for c in "ab"})
    old, new = (f"0.0.0+{c * 12}" for c in "ab")
    assert solve(source, "hf/m") == [f"hf/m@{new}"]
    assert solve(source, "hf/m", pins={"hf/m": old}) == [f"hf/m@{old}"]
    assert solve(source, f"hf/m@{old}") == [f"hf/m@{old}"]
    assert solve(source, "hf/m", pins={"hf/m": "0.0.0+" + "c" * 12}) == [f"hf/m@{new}"]


def test_a_conflict_says_who_wants_what_by_way_of_whom():
    shelf = Shelf(
        {
            "a/app@1.0.0": ("a/mid@^1",),
            "a/mid@1.0.0": ("a/leaf@^1",),
            "a/leaf@1.0.0": ("a/tokens@^1",),
            "a/tokens@1.0.0": (),
            "a/tokens@2.0.0": (),
        }
    )
    with pytest.raises(InvalidInput) as caught:
        solve(shelf, "a/app", "a/tokens@^2", asker="axon.toml")
    said = caught.value.message
    assert said.startswith("no version of a/tokens suits everybody: ")
    assert "axon.toml wants ^2" in said
    assert "a/leaf@1.0.0 (by way of a/mid@1.0.0, which a/app@1.0.0 needs) wants ^1" in said
    assert "2.0.0, 1.0.0" in caught.value.hint


def test_two_dependencies_that_exclude_each_other_are_both_named():
    shelf = Shelf(
        {
            "a/x@1.0.0": ("a/base@^1",),
            "a/y@1.0.0": ("a/base@^2",),
            "a/base@1.0.0": (),
            "a/base@2.0.0": (),
        }
    )
    with pytest.raises(InvalidInput) as caught:
        solve(shelf, "a/x", "a/y")
    assert "a/x@1.0.0 wants ^1" in caught.value.message
    assert "a/y@1.0.0 wants ^2" in caught.value.message


def test_a_missing_version_names_those_that_there_are():
    shelf = Shelf({f"a/m@1.{minor}.0": () for minor in range(12)})
    with pytest.raises(NotFound) as caught:
        solve(shelf, "a/m@^7")
    assert caught.value.message == "no version of a/m fits ^7"
    assert caught.value.hint.startswith("there are 1.11.0, 1.10.0, ")
    assert caught.value.hint.endswith("and 4 more")


def test_a_missing_package_says_who_needs_it():
    shelf = Shelf({"a/x@1.0.0": ("a/gone@^1",)})
    with pytest.raises(NotFound, match=r"there is no a/gone, which a/x@1\.0\.0 needs"):
        solve(shelf, "a/x")
    with pytest.raises(NotFound, match=r"there is no a/gone \(look"):
        solve(shelf, "a/gone")


def test_a_dependency_that_is_no_package_is_refused_with_its_owner():
    for text in ("../up", "https://x.test/m.onnx#sha256=" + "0" * 64, "a/b@^^1", "\u202ea/b"):
        with pytest.raises(InvalidInput, match=r"^a/x@1\.0\.0 "):
            solve(Shelf({"a/x@1.0.0": (text,)}), "a/x")


def test_more_dependencies_than_anybody_has_are_refused():
    shelf = Shelf({"a/x@1.0.0": [f"a/y{n}" for n in range(300)]})
    with pytest.raises(InvalidInput, match="300 dependencies"):
        solve(shelf, "a/x")


def test_wishes_that_cannot_all_be_fulfilled_are_given_up_in_bounded_work():
    packages = {}
    for n in range(14):
        for major in range(1, 9):
            below = [f"a/p{n + 1}"] if n < 13 else []
            packages[f"a/p{n}@{major}.0.0"] = [f"a/base@{major}.{n}.x", *below]
            packages[f"a/base@{major}.{n}.0"] = []
    shelf = Shelf(packages)
    with pytest.raises(InvalidInput, match=r"a/base suits everybody|in 5000 attempts"):
        solve(shelf, "a/p0")
    assert len(shelf.asked) < 1000


def test_a_source_that_lists_nothing_is_asked_for_what_is_wanted():
    source = Plain("hf/org/m", "2.0.0", {"main": "a" * 40, "v1": "1.5.0"})
    assert solve(source, "hf/org/m") == ["hf/org/m@2.0.0"]
    assert solve(source, "hf/org/m@main") == [f"hf/org/m@{'a' * 40}"]
    assert solve(source, "hf/org/m@^2") == ["hf/org/m@2.0.0"]
    with pytest.raises(NotFound, match=r"fits \^3"):
        solve(source, "hf/org/m@^3")


def test_a_tag_that_no_listed_version_has_is_the_source_s_to_find():
    class Tagged(Shelf):
        def resolve(self, spec):
            return super().resolve(spec.at("1.0.0") if spec.version == "head" else spec)

    assert solve(Tagged({"a/m@1.0.0": (), "a/m@1.1.0": ()}), "a/m@head") == ["a/m@1.0.0"]
    with pytest.raises(NotFound, match="there is no a/m@tail"):
        solve(Tagged({"a/m@1.0.0": ()}), "a/m@tail")


def test_each_package_is_asked_for_at_its_own_source():
    here = Shelf({"a/x@1.0.0": ("b/y@^1",)})
    there = Shelf({"b/y@1.2.0": ()})
    sources = {"a": here, "b": there}
    found = solve(None, "a/x", source_of=lambda package: sources[package.namespace])
    assert found == ["b/y@1.2.0", "a/x@1.0.0"]
    assert not [asked for asked in here.asked if asked.startswith("b/")]


def test_a_source_that_is_down_ends_the_resolution():
    class Down(Shelf):
        def versions(self, spec):
            raise Unavailable("the registry does not answer")

    with pytest.raises(Unavailable):
        solve(Down({}), "a/x")


def test_python_s_versions_have_their_own_order():
    names = ("1.0.3", "1.0.3.post1", "1.1.0rc1", "1.0", "1.0.10")
    shelf = Shelf({f"pypi/m@{v}": () for v in names})
    assert solve(shelf, "pypi/m") == ["pypi/m@1.0.10"]
    assert solve(shelf, "pypi/m@1.0") == ["pypi/m@1.0"]
    assert solve(shelf, "pypi/m@1.0.x") == ["pypi/m@1.0.10"]
    assert solve(shelf, "pypi/m@<=1.0.4") == ["pypi/m@1.0.3.post1"]
    assert solve(shelf, "pypi/m@1.1.0.rc1") == ["pypi/m@1.1.0rc1"]


def outcome(packages, wanted):
    try:
        return solve(Shelf(packages), *wanted)
    except InvalidInput as error:
        return error.message


@pytest.mark.parametrize("seed", range(20))
def test_what_is_found_is_sound_and_does_not_depend_on_the_order_of_the_question(seed):
    rng = random.Random(seed)
    names = [f"a/p{n}" for n in range(6)]
    packages = {}
    for n, name in enumerate(names):
        for major in (1, 2, 3):
            below = rng.sample(names[n + 1 :], k=min(2, len(names) - n - 1))
            needs = [f"{one}@^{rng.choice((1, 2, 3))}" for one in below]
            packages[f"{name}@{major}.0.0"] = needs
    wanted = rng.sample(names, 3)
    found = outcome(packages, wanted)
    assert outcome(packages, reversed(wanted)) == found
    if isinstance(found, str):
        assert "suits everybody" in found
        return
    chosen = {parse(text).title: parse(text).version for text in found}
    for text in found:
        for need in packages[text]:
            spec = parse(need)
            assert chosen[spec.title].split(".")[0] == spec.version[1:]
            assert found.index(f"{spec.title}@{chosen[spec.title]}") < found.index(text)


def test_package_specs_know_their_title():
    assert PackageSpec("a", "b/c", "^1").title == "a/b/c"
