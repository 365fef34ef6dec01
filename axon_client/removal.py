# SPDX-License-Identifier: BUSL-1.1
"""Whether models may be removed: not while another package or a running daemon needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from axon_client.errors import InUse
from axon_client.models import InstalledModel
from axon_client.register import connect_to, served
from axon_client.satisfied import fits, needs
from axon_client.spec import PackageSpec
from axon_client.store import Store
from mlos_core.errors import InvalidInput, Unavailable


def check(
    store: Store,
    models: Sequence[InstalledModel],
    installed: Sequence[InstalledModel],
    socket: str | None = None,
) -> None:
    """See that nobody needs the models.

    Raises:
        InUse: somebody does; says who.
    """
    users = [*dependents(models, installed), *_daemons(models, socket)]
    if users:
        raise InUse("; ".join(users), hint="--force removes it all the same")


def dependents(
    models: Sequence[InstalledModel], installed: Sequence[InstalledModel]
) -> Iterator[str]:
    """What would lack something: one sentence for each package that stays and needs a model."""
    going = {str(model.spec) for model in models}
    staying = [model for model in installed if str(model.spec) not in going]
    for user in staying:
        for need in _needs(user):
            if any(fits(model.spec, need) for model in staying):
                continue
            for model in models:
                if fits(model.spec, need):
                    yield f"{user.spec} depends on {model.spec}"


def _needs(model: InstalledModel) -> list[PackageSpec]:
    try:
        return needs(model)
    except InvalidInput:
        return []  # a damaged manifest holds nobody up


def _daemons(models: Sequence[InstalledModel], socket: str | None) -> Iterator[str]:
    try:
        serving = served(lambda: connect_to(socket))
    except Unavailable:
        return  # no daemon runs
    for one in serving:
        for model in models:
            if Path(one.path).is_relative_to(model.path):
                yield f"the daemon serves {model.spec} as {one.name}"
