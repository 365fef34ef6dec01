# SPDX-License-Identifier: BUSL-1.1
"""TensorFlow SavedModels: signatures from `saved_model.pb`, weights from the variables' index.

The field numbers are those of TensorFlow's published schemas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from axon_client import wire
from axon_client.introspect.header import Header, Tally
from axon_client.introspect.mapped import mapped, refusal
from axon_client.introspect.tensor_bundle import weigh_variables
from axon_client.introspect.tensorflow_types import DTYPES
from axon_client.manifest import IO, IOSpec
from mlos_core.errors import LoadFailed

FILE: Final = "saved_model.pb"
_SERVING: Final = "serving_default"
_INITIALISERS: Final = ("__saved_model_init_op", "__saved_model_train_op")
_REACHES_OUT: Final = {
    "PyFunc": "calls Python",
    "PyFuncStateless": "calls Python",
    "EagerPyFunc": "calls Python",
    "ReadFile": "reads files of the machine",
    "WriteFile": "writes files of the machine",
    "MatchingFiles": "lists files of the machine",
    "SaveDataset": "writes files of the machine",
    "SaveDatasetV2": "writes files of the machine",
    "DatasetToTFRecord": "writes files of the machine",
    "ExperimentalDatasetToTFRecord": "writes files of the machine",
    "CreateSummaryFileWriter": "writes files of the machine",
    "CreateSummaryDbWriter": "writes files of the machine",
    "WholeFileReader": "reads files of the machine",
    "WholeFileReaderV2": "reads files of the machine",
    "TextLineReader": "reads files of the machine",
    "TextLineReaderV2": "reads files of the machine",
    "TextLineDataset": "reads files of the machine",
    "TFRecordDataset": "reads files of the machine",
    "TFRecordDatasetV2": "reads files of the machine",
    "FixedLengthRecordDataset": "reads files of the machine",
    "FixedLengthRecordDatasetV2": "reads files of the machine",
    "RemoteCall": "calls other machines",
    "DataServiceDataset": "calls other machines",
    "DataServiceDatasetV2": "calls other machines",
    "DataServiceDatasetV3": "calls other machines",
    "DataServiceDatasetV4": "calls other machines",
}
"""Operations by which a graph does more than compute, and what that is."""


class _Signature(NamedTuple):
    key: str
    io: IO


def read_saved_model(path: Path) -> Header:
    """Read the header of a SavedModel.

    Args:
        path: its folder, or the `saved_model.pb` in it.

    Raises:
        LoadFailed: it is none.
    """
    file = path / FILE if path.is_dir() else path
    with mapped(file) as data:
        try:
            model = _SavedModel(wire.Reader(data, len(data)))
            model.read()
        except ValueError as error:
            raise refusal(file, "a SavedModel", error) from error
    tally = Tally()
    try:
        complete = weigh_variables(file.parent / "variables" / "variables.index", tally)
    except ValueError as error:
        raise LoadFailed(f"{file.parent.name}: variables.index: {error}") from error
    return model.header(tally if complete else None)


class _SavedModel:
    def __init__(self, reader: wire.Reader) -> None:
        self._reader = reader
        self._signatures: list[_Signature] = []
        self._version = ""
        self._reaches: dict[str, None] = {}

    def read(self) -> None:
        graphs = [field for field in self._reader.top() if field.number == 2]
        if not graphs:
            raise wire.WireError("it has no graph")
        for graph in graphs:  # which of them is loaded is said by whoever loads it
            for part in self._reader.message(graph):
                if part.number == 2:
                    self._graph(part)
                elif graph is graphs[0] and part.number == 1:
                    self._about(part)
                elif graph is graphs[0] and part.number == 5:
                    self._signature(part)

    def header(self, tally: Tally | None) -> Header:
        main = self._main()
        return Header(
            io=main.io if main else IO(),
            parameters=tally.parameters if tally else None,
            dtypes=tally.dtypes if tally else {},
            weight_bytes=tally.bytes if tally else None,
            producer=f"tensorflow {self._version}" if self._version else "",
            runs_code=", ".join(f"its graph {what}" for what in self._reaches),
            unknown=() if main else ("it has no signature: what to call stands in no place",),
        )

    def _main(self) -> _Signature | None:
        """The one that servers call, or the only one."""
        named = [one for one in self._signatures if one.key == _SERVING]
        others = [one for one in self._signatures if one.key not in _INITIALISERS]
        return named[0] if named else others[0] if len(others) == 1 else None

    def _about(self, field: wire.Field) -> None:
        for part in self._reader.message(field):
            if part.number == 5:
                self._version = self._reader.text(part)

    def _graph(self, field: wire.Field) -> None:
        for part in self._reader.message(field):
            if part.number == 1:
                self._node(part)
            elif part.number == 2:
                self._library(part)

    def _library(self, field: wire.Field) -> None:
        for function in self._reader.message(field):
            if function.number == 1:
                for part in self._reader.message(function):
                    if part.number == 3:
                        self._node(part)

    def _node(self, field: wire.Field) -> None:
        for part in self._reader.message(field):
            if part.number == 2:
                what = _REACHES_OUT.get(self._reader.text(part))
                if what:  # of two words for one thing protobuf takes the last
                    self._reaches[what] = None

    def _signature(self, field: wire.Field) -> None:
        key, io = "", IO()
        for part in self._reader.message(field):
            if part.number == 1:
                key = self._reader.text(part)
            elif part.number == 2:
                io = self._io(part)
        self._signatures.append(_Signature(key, io))

    def _io(self, field: wire.Field) -> IO:
        sides: dict[int, list[IOSpec]] = {1: [], 2: []}
        for part in self._reader.message(field):
            if part.number in sides:
                sides[part.number].append(self._entry(part))
        return IO(*(sorted(side, key=lambda spec: spec.name) for side in sides.values()))

    def _entry(self, field: wire.Field) -> IOSpec:
        name, dtype = "", "unknown"
        shape: list[int] | None = None
        for part in self._reader.message(field):
            if part.number == 1:
                name = self._reader.text(part)
            elif part.number == 2:
                for inner in self._reader.message(part):
                    if inner.number == 2:
                        dtype = DTYPES.get(inner.value, f"tensorflow_{inner.value}")
                    elif inner.number == 3:
                        shape = shape_of(self._reader, inner)
        return IOSpec(name, dtype, shape)


def shape_of(reader: wire.Reader, field: wire.Field) -> list[int] | None:
    """A TensorShapeProto's sizes, -1 where any fits; None if the rank is unknown."""
    sizes: list[int] = []
    for part in reader.message(field):
        if part.number == 3 and part.value:
            return None
        if part.number == 2:
            told = [wire.signed(p) for p in reader.message(part) if p.number == 1]
            sizes.append(max(told[-1], -1) if told else 0)
    return sizes
