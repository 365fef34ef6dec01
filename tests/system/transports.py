# SPDX-License-Identifier: BUSL-1.1
"""The ways to reach a model, brought into one form: arrays in, arrays out, `MlosError`s.

Each is used from several threads at once.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import io
import json
import threading

import httpx
import numpy as np

from mlos_core.client import connect, connect_async
from mlos_core.errors import MlosError, from_wire
from mlos_core.front.codec import from_array
from mlos_core.types import DTYPES


class Sync:
    """The synchronous client."""

    def __init__(self, daemon):
        self._client = connect(daemon.socket)
        self._models = {}
        self._lock = threading.Lock()

    def model(self, name, **options):
        with self._lock:
            if name not in self._models:
                self._models[name] = self._client.model(name, **options)
            return self._models[name]

    def infer(self, name, inputs, **options):
        with self.model(name).infer(inputs, wait=True, **options) as result:
            return dict(result.copy())

    def stream(self, name, inputs, **options):
        return list(self.model(name).stream(inputs, **options))

    def break_off(self, name, inputs):
        """Ask, and cancel before the answer comes."""
        future = self.model(name).submit(inputs)
        future.cancel()
        return future

    def start_stream(self, name, inputs, **options):
        """The first event of a stream, and what ends it early."""
        stream = self.model(name).stream(inputs, **options)
        return next(stream), stream.close

    def close(self):
        self._client.close()


class Async:
    """The asyncio client, its loop in a thread."""

    def __init__(self, daemon):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = self.do(connect_async(daemon.socket))
        self._models = {}
        self._lock = threading.Lock()

    def do(self, awaitable):
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result(60)

    def model(self, name, **options):
        with self._lock:
            if name not in self._models:
                self._models[name] = self.do(self._client.model(name, **options))
            return self._models[name]

    def infer(self, name, inputs, **options):
        model = self.model(name)

        async def ask():
            with await model.infer(inputs, wait=True, **options) as result:
                return dict(result.copy())

        return self.do(ask())

    def stream(self, name, inputs, **options):
        model = self.model(name)

        async def ask():
            return [event async for event in model.stream(inputs, **options)]

        return self.do(ask())

    def break_off(self, name, inputs):
        model = self.model(name)

        async def ask():
            task = model.submit(inputs)
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self.do(ask())

    def start_stream(self, name, inputs, **options):
        stream = self.model(name).stream(inputs, **options)
        return self.do(anext(stream)), lambda: self.do(stream.aclose())

    def close(self):
        self.do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


class Http:
    """HTTP with JSON both ways."""

    kind = "application/json"

    def __init__(self, daemon):
        (address, *_) = [a for a in daemon.call("status")["http"] if a.startswith("http://")]
        self._http = httpx.Client(base_url=address, timeout=60, trust_env=False)
        self._signatures = {
            m["name"]: m["signature"] for m in daemon.call("models") if m["signature"]
        }

    def ask(self, name, inputs, **options):
        body, query = self.encode(inputs, options)
        headers = {"content-type": self.kind, "accept": self.kind}
        return httpx.Request(
            "POST",
            self._http.base_url.join(f"/api/v1/models/{name}/infer"),
            content=body,
            params=query,
            headers=headers,
        )

    def encode(self, inputs, options):
        values = {name: from_array(np.asarray(value)) for name, value in inputs.items()}
        return json.dumps({"inputs": values, **options}), {}

    def decode(self, name, content):
        outputs = json.loads(content)["outputs"]
        specs = {spec["name"]: spec for spec in self._signatures[name]["outputs"]}
        return {key: _array(specs[key], value) for key, value in outputs.items()}

    def infer(self, name, inputs, **options):
        return self.decode(name, _checked(self._http.send(self.ask(name, inputs, **options))))

    def stream(self, name, inputs, **options):
        request = self.ask(name, inputs, **options)
        request.headers["accept"] = "text/event-stream"
        return _events(_checked(self._http.send(request)).decode())

    def break_off(self, name, inputs):
        request = self.ask(name, inputs)
        request.extensions = {"timeout": {"connect": 10, "write": 10, "pool": 10, "read": 0.1}}
        with contextlib.suppress(httpx.ReadTimeout):
            self._http.send(request)

    def start_stream(self, name, inputs, **options):
        request = self.ask(name, inputs, **options)
        request.headers["accept"] = "text/event-stream"
        response = self._http.send(request, stream=True)
        lines = response.iter_lines()  # closes the response when it dies

        def leave():
            lines.close()
            response.close()

        return _events(next(lines) + "\n\n")[0], leave

    def close(self):
        self._http.close()


class HttpNumpy(Http):
    """HTTP with NumPy's files both ways."""

    kind = "application/x-npz"

    def encode(self, inputs, options):
        file = io.BytesIO()
        np.savez(file, **{name: _plain(np.asarray(value)) for name, value in inputs.items()})
        query = {}
        for key, value in options.items():
            words = {"outputs": ",".join, "parameters": json.dumps}
            query[key] = words.get(key, str)(value)
        return file.getvalue(), query

    def decode(self, name, content):
        with np.load(io.BytesIO(content)) as file:
            arrays = {key: file[key] for key in file.files}
        return {k: a.astype(object) if a.dtype.kind == "S" else a for k, a in arrays.items()}


def _plain(array):
    return array.astype("S") if array.dtype == object else array


def _array(spec, value):
    if spec["dtype"] in DTYPES:
        return np.array(value, spec["dtype"])
    items = [_bytes(item) for item in value]
    array = np.empty(len(items), object)
    array[:] = items
    return array


def _bytes(item):
    return base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode()


def _checked(response):
    if response.status_code == 200:
        return response.content
    error = response.json()["error"]
    raised = from_wire(error["code"], error["message"], error["hint"])
    assert type(raised) is MlosError or raised.http_status == response.status_code
    raise raised


def _events(text):
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line)
        if fields and fields.get("event", "message") == "message":
            events.append(json.loads(fields["data"]))
    return events


ALL = {"sync": Sync, "async": Async, "http-json": Http, "http-npz": HttpNumpy}


def at_once(functions):
    """Run them in threads; their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        return [f.result(60) for f in [pool.submit(function) for function in functions]]
