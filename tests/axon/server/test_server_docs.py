# SPDX-License-Identifier: BUSL-1.1
"""The page about registries says what the server does."""

import re
from pathlib import Path

from starlette.routing import Route

from axon_client.registry.app import routes
from axon_client.registry.limits import Limits
from axon_client.registry.search import MOST_S

PAGE = (Path(__file__).parents[3] / "docs" / "registry.md").read_text()


def test_every_request_that_the_server_answers_is_in_the_page_and_no_other(site):
    answered = {
        (method, route.path.replace(":path", ""))
        for route in routes(site)
        if isinstance(route, Route) and not route.path.startswith("/v2/")
        for method in route.methods - {"HEAD"}
    }
    told = set(re.findall(r"^\| `(GET|POST|PUT|PATCH|DELETE) (/[^` ]*)` \|", PAGE, re.MULTILINE))
    assert told == answered


def test_the_limits_in_the_page_are_the_servers():
    limits = Limits()
    assert f"{limits.body >> 20} MiB of JSON" in PAGE
    assert f"{limits.blob >> 40} TiB a file" in PAGE
    assert (
        f"{limits.uploads_each} uploads under way for a token and {limits.uploads} for all" in PAGE
    )
    assert f"{limits.requests} requests at once, {limits.request_time:g} s for a request" in PAGE
    assert f"{limits.stall:g} s without a byte" in PAGE
    assert f"{MOST_S:g} s for a search" in PAGE
    assert f"leave {limits.spare >> 20} MiB of the disk" in PAGE
    assert f"`limit` ({limits.page} at most)" in PAGE
