"""One run: a directory, local or on an object store, that holds its identity, its plan and its shards.

    run.json                          who the run is: config, hashes, versions
    plan.parquet                      every unit, with its shard and batch
    summary.json                      what the calls of the driver did; nothing depends on it
    spatial/shard-000123.parquet      results (a folder by the study): if it is there, the shard is done
    points/shard-000123.parquet       points for the pointing game
    failures/shard-000123.parquet     units that could not be computed; only where there are any
    scores/*.parquet, *.csv           what the aggregators made of it

The file of the main kind is written last, so a shard is committed by one atomic step; the others are
overwritten with the same rows, or removed, if the shard has to be done again.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from extremal.storage.errors import PlaceError, RunError
from extremal.storage.files import (
    exists,
    join,
    list_files,
    open_filesystem,
    parquet_bytes,
    printable,
    remove,
    write_bytes,
)
from extremal.storage.kinds import FAILURES, KINDS, PAIR, UNITS, Kind, Unit
from extremal.storage.manifest import (
    SCHEMA_VERSION,
    WHOLE_CONFIG,
    EditedError,
    Manifest,
    VersionError,
    read_manifest,
    sealed,
)

PLAN_ROWS = 8192  # a worker reads the row groups of its shard, not the plan
READERS = 16  # files opened at once where only their latency counts
# What a damaged Parquet file makes pyarrow raise: found by flipping bits.
DAMAGE = (OSError, ValueError, KeyError, pa.ArrowException)


def _shard_name(shard: int) -> str:
    return f"shard-{shard:06d}.parquet"


def _is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".parquet") and name[6:-8].isdigit()


def _locate(uri: str) -> tuple[pafs.FileSystem, str, str]:
    """Filesystem, path, and a URI that means the same in every process: local paths become absolute."""
    try:
        filesystem, root = open_filesystem(uri)
    except (PlaceError, OSError) as error:
        raise RunError(
            f"{printable(uri)} is no place for a run: {error}. Give a folder or an s3:// or gs:// URI."
        ) from error
    return filesystem, root, uri if "://" in uri else root


@dataclass(frozen=True)
class Run:
    """An existing run. `manifest` is the content of run.json; `uri` may hold credentials, `place` never."""

    uri: str
    filesystem: pafs.FileSystem
    root: str
    manifest: Manifest

    def place(self, name: str = "") -> str:
        """The URI of the run, or of a file in it, to be shown or stored."""
        return printable(join(self.uri, name) if name else self.uri)

    # ---- making and finding -------------------------------------------------------------------

    @classmethod
    def find(cls, uri: str) -> "Run | None":
        """The run at `uri`, or None if there is no run.json.

        Raises:
            RunError: run.json is there but unreadable, edited or of another schema version.
        """
        filesystem, root, uri = _locate(uri)
        path = f"{root}/run.json"
        try:
            found = exists(filesystem, path)
        except OSError as error:
            raise RunError(
                f"{printable(uri)} cannot be reached: {error}. Check the address, credentials and network."
            ) from error
        if not found:
            return None
        named = printable(join(uri, "run.json"))
        try:
            with filesystem.open_input_file(path) as f:
                manifest = read_manifest(f.read())
        except VersionError as error:
            raise RunError(
                f"{printable(uri)} was written with schema version {error}, this code reads "
                f"{WHOLE_CONFIG} and {SCHEMA_VERSION}. Use the matching version of extremal or a new output "
                "directory."
            ) from error
        except EditedError as error:
            raise RunError(
                f"{named} was edited or is damaged: {error}. Restore it; the shards belong to what it was."
            ) from error
        except (ValueError, OSError) as error:
            raise RunError(
                f"{named} is not readable ({error}). Restore it or choose another directory."
            ) from error
        if manifest.study not in KINDS or manifest.unit not in UNITS:
            raise RunError(
                f"{named} is of a study {manifest.study!r} over units {manifest.unit!r}, which this version "
                "does not know. Use the version of extremal that wrote it."
            )
        return cls(uri, filesystem, root, manifest)

    @classmethod
    def open(cls, uri: str) -> "Run":
        """The run at `uri`.

        Raises:
            RunError: there is none, or it is unreadable.
        """
        run = cls.find(uri)
        if run is None:
            raise RunError(
                f"No run at {printable(uri)}: it has no run.json. Give the --out of an `extremal run`."
            )
        return run

    @classmethod
    def create(cls, uri: str, manifest: Manifest, plan: pa.Table) -> "Run":
        """Write a new run; run.json goes last, so that a run is either whole or not there.

        Args:
            manifest: without its hash. plan: rows of its unit's plan.

        Raises:
            RunError: the directory cannot be written.
        """
        filesystem, root, uri = _locate(uri)
        run = cls(uri, filesystem, root, sealed(manifest))
        try:
            filesystem.create_dir(root, recursive=True)
            for kind in run.kinds:
                filesystem.create_dir(f"{root}/{kind.name}", recursive=True)
                if any(_is_shard(info.base_name) for info in list_files(filesystem, f"{root}/{kind.name}")):
                    raise RunError(
                        f"{root}/{kind.name} holds shards, but {printable(uri)} has no run.json that "
                        "says of what. Restore run.json, or choose another directory."
                    )
            # So that a reader's `failures/*.parquet` finds a file before anything has failed.
            nothing = parquet_bytes(run.schema(FAILURES).empty_table())
            write_bytes(filesystem, f"{root}/{FAILURES.name}/empty.parquet", nothing)
            content = parquet_bytes(plan.cast(run.unit.plan), row_group_size=PLAN_ROWS)
            write_bytes(filesystem, f"{root}/plan.parquet", content)
            write_bytes(filesystem, f"{root}/run.json", run.manifest.to_json().encode())
        except OSError as error:
            raise RunError(
                f"Cannot write the run directory {printable(uri)}: {error}. "
                "Check its permissions and free space."
            ) from error
        return run

    # ---- shards -------------------------------------------------------------------------------

    @property
    def kind(self) -> Kind:
        """The main kind of result, whose files mark committed shards."""
        return KINDS[self.manifest.study]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All kinds of tables of the run, the main one first."""
        return (self.kind, *self.kind.beside, FAILURES)

    def require(self, kind: Kind, purpose: str) -> None:
        """Refuse a run of another study.

        Args:
            purpose: what needs it, as the end of the message: "ablation needs a channel run".

        Raises:
            RunError: its results are of another kind.
        """
        if self.kind != kind:
            raise RunError(f"{self.place()} holds {self.kind.name} results; {purpose}.")

    @property
    def unit(self) -> Unit:
        """What a row of the plan is."""
        return UNITS[self.manifest.unit]

    def schema(self, kind: Kind, columns: Sequence[str] | None = None) -> pa.Schema:
        """The schema of one of the run's tables, or of some of its columns."""
        schema = kind.schema(self.unit)
        return schema if columns is None else pa.schema([schema.field(name) for name in columns])

    def plan(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The plan, one row per unit in order.

        Raises:
            RunError: plan.parquet is missing or damaged.
        """
        return self._read_plan(columns=columns)

    def shard_plan(self, shard: int) -> pa.Table:
        """The units of one shard in order; only its rows are kept in memory.

        Raises:
            RunError: plan.parquet is missing or damaged.
        """
        return self._read_plan(filters=[("shard", "=", shard)])

    def plan_of(self, image_ids: Sequence[str]) -> pa.Table:
        """The pairs of some images in order; only their rows are kept in memory.

        Raises:
            RunError: the run's units are no pairs, or plan.parquet is missing or damaged.
        """
        if self.unit != PAIR:
            raise RunError(
                f"{self.place()} is of {self.unit.name}s, which have no images: give a run of pairs."
            )
        return self._read_plan(filters=[("image_id", "in", list(image_ids))])

    def _read_plan(self, **selection: Any) -> pa.Table:
        try:
            return pq.read_table(
                f"{self.root}/plan.parquet",
                filesystem=self.filesystem,
                page_checksum_verification=True,
                **selection,
            )
        except DAMAGE as error:
            raise RunError(
                f"{self.place('plan.parquet')} is not readable ({error}). "
                "If the store itself is well, restore it or start a new run."
            ) from error

    def shards_of(self, kind: Kind) -> list[int]:
        """Numbers of the shards that have a file of a kind, committed or not, ascending."""
        return sorted(self.shard_files(kind))

    def shard_files(self, kind: Kind) -> dict[int, pafs.FileInfo]:
        """The shards' files of a kind, committed or not, by the shard's number.

        Raises:
            RunError: the directory cannot be listed.
        """
        try:
            files = list_files(self.filesystem, f"{self.root}/{kind.name}")
        except OSError as error:
            raise RunError(f"Cannot list the shards of {self.place()}: {error}.") from error
        return {int(file.base_name[6:-8]): file for file in files if _is_shard(file.base_name)}

    def committed(self) -> list[int]:
        """Numbers of the committed shards, ascending.

        Raises:
            RunError: the directory cannot be listed.
        """
        return self.shards_of(self.kind)

    def commit(self, shard: int, tables: Mapping[Kind, pa.Table]) -> None:
        """Publish a shard: side tables first, the main kind last.

        Raises:
            ValueError: the main kind is missing (a shard in which every unit failed has an empty one).
            OSError: the store is full or not writable; nothing is committed then.
        """
        if self.kind not in tables:
            raise ValueError(
                f"shard {shard} has no {self.kind.name} table, without which it is not committed"
            )
        last: tuple[Kind, ...] = (FAILURES, self.kind)
        if self.is_committed(shard):  # done again for its failures, which must not go before the results come
            last = (self.kind, FAILURES)
        for kind in (*self.kind.beside, *last):
            table = tables.get(kind, self.schema(kind).empty_table())
            if table.num_rows or kind == self.kind:
                self._write_shard(shard, kind, table.cast(self.schema(kind)))
            else:  # an earlier attempt may have left one
                remove(self.filesystem, self.shard_path(shard, kind))

    def shard_sizes(self) -> dict[int, int]:
        """Units of every planned shard, in the plan's order."""
        counts = self.plan(["shard"])["shard"].value_counts()
        return dict(zip(*(part.to_pylist() for part in counts.flatten()), strict=True))

    def missing(self) -> list[int]:
        """Shards of the plan that are not committed, in its order."""
        committed = set(self.committed())
        return [shard for shard in self.shard_sizes() if shard not in committed]

    def with_failures(self) -> list[int]:
        """Committed shards in which units failed, ascending."""
        return self._with_rows(FAILURES)

    def is_committed(self, shard: int) -> bool:
        """Whether a shard is committed now, by whomever."""
        return exists(self.filesystem, self.shard_path(shard, self.kind))

    @contextmanager
    def open_shard(self, shard: int, kind: Kind) -> Iterator[pq.ParquetFile]:
        """A shard's file of a kind.

        Raises:
            RunError: it is damaged, also where the caller's reading shows it, or of another run.
        """
        path = self.shard_path(shard, kind)
        try:
            source = self.filesystem.open_input_file(path)
            with pq.ParquetFile(source, page_checksum_verification=True) as file:
                owner = (file.schema_arrow.metadata or {}).get(b"extremal.config_hash", b"").decode()
                if owner != self.manifest.config_hash:
                    raise RunError(f"Shard file {path} belongs to another run. {self.fix(shard)}")
                yield file
        except DAMAGE as error:
            raise RunError(
                f"Shard file {path} is damaged ({error}), unless the store itself fails. {self.fix(shard)}"
            ) from error

    def fix(self, shard: int) -> str:
        """What to do about a shard that is not sound.

        Without its main file the shard is open again; deleting a side table would only lose its rows.
        """
        return f"Delete {self.shard_path(shard, self.kind)} and run the same command again."

    def shard_path(self, shard: int, kind: Kind) -> str:
        """The path of a shard's file of a kind, on the run's filesystem."""
        return f"{self.root}/{kind.name}/{_shard_name(shard)}"

    def _write_shard(self, shard: int, kind: Kind, table: pa.Table) -> None:
        metadata = {
            "extremal.config_hash": self.manifest.config_hash,
            "extremal.schema_version": str(self.manifest.schema_version),
            "extremal.shard": str(shard),
            "extremal.rows": str(table.num_rows),
        }
        table = table.replace_schema_metadata(metadata)
        write_bytes(self.filesystem, self.shard_path(shard, kind), parquet_bytes(table))

    def tables(
        self, kind: Kind, columns: Sequence[str] | None = None, shards: Sequence[int] | None = None
    ) -> Iterator[pa.Table]:
        """Tables of committed shards, one at a time: of all of them in their order, or of those given.

        Raises:
            RunError: a shard is damaged or of another run; the message names the file.
        """
        for shard in self._with_rows(kind) if shards is None else shards:
            if shards is None or self._has(shard, kind):
                yield self._read_shard(shard, kind, columns)

    def shard_table(self, shard: int, kind: Kind) -> pa.Table:
        """Rows of one kind of a committed shard; none if it has no such file.

        Raises:
            RunError: the file is damaged or of another run, or the shard is not committed.
        """
        if not self._has(shard, kind):
            return self.schema(kind).empty_table()
        return self._read_shard(shard, kind, None)

    def _has(self, shard: int, kind: Kind) -> bool:
        """Whether a committed shard has rows of a kind; asks for one file and lists no folder."""
        return kind == self.kind or exists(self.filesystem, self.shard_path(shard, kind))

    def _with_rows(self, kind: Kind) -> list[int]:
        """Committed shards that have rows of a kind, ascending."""
        committed = self.committed()
        return committed if kind == self.kind else sorted(set(committed) & set(self.shards_of(kind)))

    def _read_shard(self, shard: int, kind: Kind, columns: Sequence[str] | None) -> pa.Table:
        schema = self.schema(kind, columns)
        with self.open_shard(shard, kind) as file:
            return file.read(columns=columns).select(schema.names).cast(schema)

    def table(self, kind: Kind, columns: Sequence[str] | None = None) -> pa.Table:
        """All committed rows of a kind in plan order; empty with the right schema if there are none."""
        with ThreadPoolExecutor(READERS) as pool:
            tables = pool.map(lambda shard: self._read_shard(shard, kind, columns), self._with_rows(kind))
            return pa.concat_tables([self.schema(kind, columns).empty_table(), *tables])
