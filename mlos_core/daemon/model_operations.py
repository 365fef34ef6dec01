# SPDX-License-Identifier: BUSL-1.1
"""Operations on models: register, swap, roll back, route, load, unload, unregister."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from mlos_core.daemon import plugins as plugin_rules
from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.entry import ModelEntry, Route
from mlos_core.daemon.interpreters import interpreter
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.operations import Operations
from mlos_core.daemon.registry import unknown_version
from mlos_core.daemon.reports import info_of
from mlos_core.daemon.route import Chooser, check_weights
from mlos_core.daemon.swaps import Canary, Change, canary_of
from mlos_core.errors import DeadlineExceeded, InvalidInput, MlosError, NotFound

_log = Log("service")


class ModelOperations(Operations):
    """What can be done with models; see `Service`."""

    # --- register ---------------------------------------------------------------------

    async def register(
        self,
        name: str,
        path: str,
        plugin: str = "",
        version: str = "",
        device: str = "cpu",
        options: dict[str, Any] | None = None,
        instances: int = 1,
        batch: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
        warmup: bool = True,
        replace: bool = False,
        wait: bool = True,
        timeout: float = 60.0,
        add: bool = False,
        python: str = "",
        threads: int = 0,
        cpus: str = "",
        numa_node: int = -1,
        load: str = "now",
        keep_alive: float = -1.0,
        memory: int = 0,
        warmup_inputs: str = "",
    ) -> dict[str, Any]:
        """Load a model and give it a name.

        With `wait`, return once it is ready; if it fails to load, nothing stays registered
        (or, with `replace`, the old model goes on). Without, return at once. With `add` it is
        served as a further version of its name.

        Raises:
            InvalidInput, NotFound: a parameter is wrong, or no plugin fits.
            AlreadyExists: the name is taken, and neither `replace` nor `add` is given.
            LoadFailed, PluginBroken: why it is not served.
            OutOfMemory: the budget has no room for it.
            DeadlineExceeded: it still loads after `timeout` seconds, and goes on loading.
        """
        self._refuse_if_stopping()
        entry = _entry(
            name=name,
            path=path,
            plugin=plugin,
            version=version,
            device=device,
            options=options or {},
            instances=instances,
            batch=batch or {},
            manifest=manifest,
            warmup=warmup,
            registered_at=time.time(),
            python=interpreter(python),
            threads=threads,
            cpus=cpus,
            numa_node=numa_node,
            load=load,
            keep_alive=keep_alive,
            memory=memory,
            warmup_inputs=warmup_inputs,
        )
        await self._settled(timeout)
        entry = await self._with_plugin(entry)
        model = self.supervisor.models.get(name)
        if model is None:
            return await self._first(entry, wait, timeout)
        if add and entry.version not in model.deployments:
            if not entry.version:
                raise InvalidInput(
                    f"a further version of {name!r} needs a version", hint="give one with --version"
                )
            return await self._first(entry, wait, timeout)
        return await self._again(model, entry, replace, wait, timeout)

    async def _with_plugin(self, entry: ModelEntry) -> ModelEntry:
        hosts = self.supervisor.hosts
        if not entry.plugin:
            return msgspec.structs.replace(entry, plugin=await self._choose(entry))
        if not entry.python:
            hosts.refresh()
            hosts.catalog.check(entry.plugin)
        return entry

    async def _choose(self, entry: ModelEntry) -> str:
        hosts = self.supervisor.hosts
        names = await hosts.names(entry.python)
        path = Path(entry.path)
        words = plugin_rules.wanted(path, entry.manifest)
        for name in plugin_rules.probe_order(names, words):
            info = await hosts.probe(name, entry.python)
            if info is not None and plugin_rules.matches(info, words):
                return name
        await self.supervisor.release_hosts()
        raise plugin_rules.no_plugin(path, words, hosts.statuses())

    async def _first(self, entry: ModelEntry, wait: bool, within: float) -> dict[str, Any]:
        """Serve what nothing stands in the place of."""
        self._registry.put(entry, add=True)
        self._save()
        deployment = self.supervisor.add(entry)
        title = entry.title
        _log.info("model_registered", model=title, plugin=entry.plugin, path=entry.path)
        if entry.load == "now":
            try:
                if wait:
                    await self.supervisor.loader.load(deployment, within)
                else:
                    await self.supervisor.loader.begin(deployment)
            except DeadlineExceeded:
                if deployment.error is not None:
                    await self._forget(deployment)
                raise
            except MlosError:
                await self._forget(deployment)
                raise
        return info_of(deployment.model)

    async def _until_ready(self, deployment: Deployment, within: float) -> None:
        model = deployment.model
        await model.wait_until(lambda: deployment.state == "ready", within, deployment)

    async def _again(
        self, model: ManagedModel, entry: ModelEntry, replace: bool, wait: bool, within: float
    ) -> dict[str, Any]:
        deployment = model.deployments.get(entry.version) or model.main
        entry.check()
        self._registry.check_new(entry, replace=replace)
        if model.ending is not None or deployment.state == "failed":
            await self._forget(deployment)
            return await self._first(entry, wait, within)
        if deployment.entry.same_as(entry):
            if wait and not deployment.asleep:
                await self._until_ready(deployment, within)
            return info_of(model)
        await self._exchange(
            deployment,
            entry,
            Canary(),
            max(within, self._config.load_timeout),
            same_signature=False,
        )
        return info_of(model)

    async def _forget(self, deployment: Deployment) -> None:
        """Take a version out; with the last one the name."""
        model, version = deployment.model, deployment.version
        if self.supervisor.models.get(model.name) is not model:
            return
        if model.deployments.get(version) is not deployment:
            return
        if model.name in self._registry and version in self._registry.versions(model.name):
            self._registry.remove(model.name, version)
            self._save()
        if len(model.deployments) > 1:
            await self.supervisor.remove_version(deployment)
        else:
            await self.supervisor.remove(model.name)

    # --- swap -------------------------------------------------------------------------

    async def swap_model(
        self,
        name: str,
        version: str = "",
        path: str = "",
        new_version: str = "",
        plugin: str = "",
        options: dict[str, Any] | None = None,
        warmup_inputs: str = "",
        manifest: dict[str, Any] | None = None,
        canary: float = 0.0,
        max_error_rate: float = 0.05,
        allow_new_signature: bool = False,
        timeout: float = 300.0,
    ) -> dict[str, Any]:
        """Serve something else in the place of a version, while requests go on.

        What is not given stays as it is. Returns when no further request reaches the old one.

        Raises:
            NotFound, InvalidInput: a parameter is wrong.
            LoadFailed, ModelFailed, DeadlineExceeded: the new one is not good enough; the old
                one goes on, and has noticed nothing.
            AlreadyExists: it is being swapped already, or the new version is served beside it.
        """
        self._refuse_if_stopping()
        await self._settled(timeout)
        deployment = self._deployment(name, version)
        old = deployment.entry
        changed: dict[str, Any] = {"registered_at": time.time()}
        given = {
            "path": path,
            "version": new_version,
            "plugin": plugin,
            "warmup_inputs": warmup_inputs,
        }
        changed |= {key: value for key, value in given.items() if value}
        if options is not None:
            changed["options"] = options
        if manifest is not None:
            changed["manifest"] = manifest
        entry = _entry(**(msgspec.structs.asdict(old) | changed))
        self._check_free(deployment, entry)
        entry = await self._with_plugin(entry)
        await self._exchange(
            deployment,
            entry,
            canary_of(canary, max_error_rate),
            timeout,
            same_signature=not allow_new_signature,
        )
        return info_of(deployment.model)

    def _deployment(self, name: str, version: str) -> Deployment:
        model, wanted = self.supervisor.resolve(name, version)
        return model.version(wanted) if wanted else model.main

    def _check_free(self, deployment: Deployment, entry: ModelEntry) -> None:
        other = deployment.model.deployments.get(entry.version)
        if other is not None and other is not deployment:
            raise InvalidInput(
                f"{entry.title} is served already beside {deployment.entry.title}",
                hint="give another --new-version, or route to that one",
            )

    async def rollback_model(
        self, name: str, version: str = "", timeout: float = 300.0
    ) -> dict[str, Any]:
        """Serve again what was served before the last swap of a version.

        Raises:
            NotFound: nothing was.
            MlosError: as `swap_model`.
        """
        self._refuse_if_stopping()
        await self._settled(timeout)
        deployment = self._deployment(name, version)
        before = self._registry.previous(deployment.model.name, deployment.version)
        if before is None:
            raise NotFound(
                f"{deployment.entry.title} was not swapped, so there is nothing to go back to",
                hint="swap it with `mlosctl models swap`",
            )
        entry = msgspec.structs.replace(before, registered_at=time.time())
        self._check_free(deployment, entry)
        await self._exchange(deployment, entry, Canary(), timeout, same_signature=False, back=True)
        return info_of(deployment.model)

    async def _exchange(
        self,
        deployment: Deployment,
        entry: ModelEntry,
        canary: Canary,
        within: float,
        *,
        same_signature: bool,
        back: bool = False,
    ) -> None:
        old = deployment.version
        while deployment.unloading:
            await deployment.model.next_change()

        def promoted() -> None:
            # The old registration stays on disk until the new one serves: a crash before,
            # and the next daemon comes back with what worked.
            if back:
                self._registry.roll_back(entry.name, old, entry)
            else:
                self._registry.swap(old, entry)
            self._save()
            self._note(deployment)

        if deployment.asleep or deployment.error is not None:
            failed = deployment.error is not None
            self.supervisor.anew(deployment, entry)
            promoted()
            if failed:
                await self.supervisor.loader.load(deployment, within)
            return
        await self._swaps.swap(
            [Change(deployment, entry)],
            canary,
            within,
            same_signature=same_signature,
            promoted=promoted,
        )

    def _note(self, deployment: Deployment) -> None:
        model = deployment.model
        before = self._registry.previous(model.name, deployment.version)
        deployment.previous = (before.version or "?") if before is not None else ""
        self.supervisor.traffic.set_route(model, self._registry.route(model.name))

    # --- route ------------------------------------------------------------------------

    async def route_model(
        self, name: str, weights: dict[str, float] | None = None, version: str = ""
    ) -> dict[str, Any]:
        """Choose which version a request without a version gets: shares by weight, one
        version, or with neither the latest.

        Raises:
            NotFound: there is no such version.
            InvalidInput: the weights are not possible.
        """
        await self._settled(self._config.adopt_grace * 2)
        model = self.supervisor.get(name)
        route = _route(weights, version)
        for wanted in (*route.weights, *([version] if version else [])):
            if wanted not in model.deployments:
                raise unknown_version(name, wanted, model.deployments)
        self._registry.set_route(name, route)
        self._save()
        self.supervisor.traffic.set_route(model, route)
        await self.supervisor.traffic.settle(model)
        _log.info("model_routed", model=name, kind=route.kind, version=version)
        return info_of(model)

    def pick(self, name: str) -> str:
        """The version of one request that follows a weighted route; `""` for other routes."""
        model = self.supervisor.models.get(name)
        if model is None or model.route.kind != "weighted":
            return ""
        shares = model.shares
        known = model.chooser
        if known is None or known[0] != shares:
            known = model.chooser = (shares, Chooser(shares))
        return known[1].next()

    # --- load and unload --------------------------------------------------------------

    async def load_model(
        self, name: str, version: str = "", wait: bool = True, timeout: float = 60.0
    ) -> dict[str, Any]:
        """Load a version that is not in memory, or that failed.

        Raises:
            LoadFailed, PluginBroken: why it is not served.
            OutOfMemory: the budget has no room for it.
            DeadlineExceeded: it still loads after `timeout` seconds, and goes on loading.
        """
        self._refuse_if_stopping()
        await self._settled(timeout)
        deployment = self._deployment(name, version)
        if wait:
            await self.supervisor.loader.load(deployment, timeout)
        else:
            await self.supervisor.loader.begin(deployment)
        return info_of(deployment.model)

    async def unload_model(self, name: str, version: str = "") -> dict[str, Any]:
        """Let a version's workers finish what they hold and end them; the next request loads
        it again."""
        await self._settled(self._config.adopt_grace * 2)
        deployment = self._deployment(name, version)
        await self.supervisor.loader.unload(deployment)
        return info_of(deployment.model)

    # --- unregister -------------------------------------------------------------------

    async def unregister(self, name: str, version: str = "") -> dict[str, Any]:
        """Let the workers of a model, or of one version, finish what they hold, end them and
        forget it.

        Raises:
            NotFound: no such model or version.
        """
        await self._settled(self._config.adopt_grace * 2)
        model, wanted = self.supervisor.resolve(name, version)
        if wanted and len(model.deployments) > 1:
            await self._forget(model.version(wanted))
        else:
            if model.name in self._registry:
                self._registry.remove(model.name)
                self._save()
            await self.supervisor.remove(model.name)
        _log.info("model_unregistered", model=name, version=version)
        return info_of(model)

    async def models(self) -> list[dict[str, Any]]:
        """Every registered model."""
        return [info_of(m) for _, m in sorted(self.supervisor.models.items())]

    async def model(self, name: str) -> dict[str, Any]:
        """One model, by its name or as `name@version`; raises `NotFound`."""
        return info_of(self.supervisor.resolve(name)[0])


def _route(weights: dict[str, float] | None, version: str) -> Route:
    if weights and version:
        raise InvalidInput("a route has weights or a version", hint="give one of them")
    if weights:
        check_weights(weights)
        return Route("weighted", weights=dict(weights))
    return Route("pinned", version) if version else Route()


def _entry(**fields: Any) -> ModelEntry:
    """A checked entry of what came over a wire."""
    try:
        entry = msgspec.convert(fields, ModelEntry)
    except msgspec.ValidationError as err:
        raise InvalidInput(f"the registration does not fit: {err}", hint="correct it") from None
    entry.check()
    for what in (entry.path, *([entry.warmup_inputs] if entry.warmup_inputs else [])):
        path = Path(what)
        if not path.is_absolute():
            raise InvalidInput(
                f"the path {what!r} is relative", hint="give an absolute path to the daemon"
            )
        if not path.exists():
            raise NotFound(f"there is no file or folder {what}", hint="check the path")
    return entry
