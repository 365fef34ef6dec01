# SPDX-License-Identifier: BUSL-1.1
"""Everything that axon fetches over HTTP.

    download   a file of any size: parallel, resumable, verified
    get_bytes, get_json   something small, whole, with a bound
    request    anything else; the caller reads the answer

All of them verify certificates, follow a bounded number of redirects and never from HTTPS to
HTTP, honour proxies and netrc, send credentials to their own host alone, and retry what may
go away by itself. The HTTP library is imported with the first request, not before.
"""

from axon_client.net.attempt import Downloaded
from axon_client.net.client import Answer, request
from axon_client.net.downloader import download
from axon_client.net.options import Clock, Options
from axon_client.net.small import get_bytes, get_json

__all__ = ["Answer", "Clock", "Downloaded", "Options", "download", "get_bytes", "get_json",
           "request"]  # fmt: skip
