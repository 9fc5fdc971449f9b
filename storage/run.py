"""One run: a directory, local or on an object store, that holds its identity, its plan and its shards.

    run.json                          who the run is: config, hashes, versions
    plan.parquet                      every pair, with its shard and batch
    summary.json                      what the calls of the driver did; nothing depends on it
    spatial/shard-000123.parquet      results (or channel/, saliency/): if it is there, the shard is done
    points/shard-000123.parquet       points for the pointing game
    failures/shard-000123.parquet     pairs that could not be computed; only where there are any
    scores/*.parquet, *.csv           what the aggregators made of it

The file of the main kind is written last, so a shard is committed by one atomic step; the others are
overwritten with the same rows, or removed, if the shard has to be done again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from extremal.storage.files import (
    PlaceError,
    exists,
    join,
    list_files,
    open_filesystem,
    printable,
    remove,
    sweep_temps,
    write_bytes,
)
from extremal.storage.schema import PLAN, SCHEMA_VERSION, SCHEMAS, Kind

IDENTITY = ("config", "model", "data")
PLAN_ROWS = 8192  # a worker reads the row groups of its shard, not the plan
FOOTER = b"PAR1"  # how a whole Parquet file ends
READERS = 16  # files opened at once where only their latency counts
_ABSENT = "(absent)"
# What a damaged Parquet file makes pyarrow raise: found by flipping bits.
_DAMAGE = (OSError, ValueError, KeyError, pa.ArrowException)


class RunError(Exception):
    """A run directory cannot be used; the message names it and the fix."""


class ConfigMismatch(RunError):
    """The directory holds a run with another identity; the message is a readable diff."""


def config_hash(identity: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of a run's identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _as_stored(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as it comes back from run.json: tuples are lists there and keys strings."""
    return dict(json.loads(json.dumps(tree)))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `key: old -> new` of every leaf in which two nested mappings differ."""
    a, b = _flatten(old), _flatten(new)
    return [
        f"{key}: {a.get(key, _ABSENT)} -> {b.get(key, _ABSENT)}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key, _ABSENT) != b.get(key, _ABSENT)
    ]


def _shard_name(shard: int) -> str:
    return f"shard-{shard:06d}.parquet"


def _schema(kind: Kind, columns: Sequence[str] | None) -> pa.Schema:
    schema = SCHEMAS[kind]
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


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


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """A table as the content of a Parquet file."""
    sink = pa.BufferOutputStream()
    # Strings repeat (class names, paths); masks and scores do not, and a dictionary only slows them.
    dictionary = [f.name for f in table.schema if pa.types.is_string(f.type)]
    # Random bits of a mask still decode: without checksums most damage would pass unseen.
    pq.write_table(
        table,
        sink,
        row_group_size=row_group_size,
        compression="zstd",
        use_dictionary=dictionary,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


@dataclass(frozen=True)
class Run:
    """An existing run. `manifest` is the content of run.json; `uri` may hold credentials, `place` never."""

    uri: str
    filesystem: pafs.FileSystem
    root: str
    manifest: dict[str, Any]

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
        try:
            with filesystem.open_input_file(path) as f:
                manifest = json.loads(f.read())
            version = manifest["schema_version"]
            Kind(manifest["kind"])
            intact = manifest["config_hash"] == config_hash({key: manifest[key] for key in IDENTITY})
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise RunError(
                f"{printable(join(uri, 'run.json'))} is not readable ({error}). "
                "Restore it or choose another directory."
            ) from error
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{printable(uri)} was written with schema version {version}, this code reads "
                f"{SCHEMA_VERSION}. Use the matching version of extremal or a new output directory."
            )
        if not intact:
            raise RunError(
                f"{printable(join(uri, 'run.json'))} was edited or is damaged: its config_hash is not "
                "that of its content. Restore it; the shards belong to what it was."
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
    def create(cls, uri: str, manifest: Mapping[str, Any], plan: pa.Table) -> "Run":
        """Write a new run; run.json goes last, so that a run is either whole or not there.

        Args:
            manifest: the identity under `config` and `model`, `kind`, and whatever else to record.
            plan: rows of `extremal.storage.schema.PLAN`.

        Raises:
            RunError: the directory cannot be written.
        """
        filesystem, root, uri = _locate(uri)
        identity = {key: manifest[key] for key in IDENTITY}
        full = {
            "schema_version": SCHEMA_VERSION,
            "config_hash": config_hash(identity),
            **_as_stored(manifest),
        }
        try:
            filesystem.create_dir(root, recursive=True)
            for kind in (Kind(manifest["kind"]), Kind.POINTS, Kind.FAILURES):
                filesystem.create_dir(f"{root}/{kind.value}", recursive=True)
                if any(_is_shard(info.base_name) for info in list_files(filesystem, f"{root}/{kind.value}")):
                    raise RunError(
                        f"{root}/{kind.value} holds shards, but {printable(uri)} has no run.json that "
                        "says of what. Restore run.json, or choose another directory."
                    )
            # So that a reader's `failures/*.parquet` finds a file before anything has failed.
            nothing = parquet_bytes(SCHEMAS[Kind.FAILURES].empty_table())
            write_bytes(filesystem, f"{root}/{Kind.FAILURES.value}/empty.parquet", nothing)
            content = parquet_bytes(plan.cast(PLAN), row_group_size=PLAN_ROWS)
            write_bytes(filesystem, f"{root}/plan.parquet", content)
            write_bytes(filesystem, f"{root}/run.json", json.dumps(full, indent=2).encode())
        except OSError as error:
            raise RunError(
                f"Cannot write the run directory {printable(uri)}: {error}. "
                "Check its permissions and free space."
            ) from error
        return cls(uri, filesystem, root, full)

    def check(self, identity: Mapping[str, Any]) -> None:
        """Refuse to continue this run with another identity.

        Raises:
            ConfigMismatch: with one line per differing key.
        """
        lines = diff({key: self.manifest[key] for key in IDENTITY}, _as_stored(identity))
        if lines:
            raise ConfigMismatch(
                f"{self.place()} holds a run with another configuration (stored -> yours):\n  "
                + "\n  ".join(lines)
                + "\nRepeat the stored options to resume it, or choose another --out."
            )

    # ---- shards -------------------------------------------------------------------------------

    @property
    def kind(self) -> Kind:
        """The main kind of result, whose files mark committed shards."""
        return Kind(self.manifest["kind"])

    @property
    def rows_per_pair(self) -> int:
        """Rows of the main kind that a computed pair has: as many as methods were compared on it."""
        return int(self.manifest.get("rows_per_pair", 1))

    def plan(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The plan, one row per pair in order.

        Raises:
            RunError: plan.parquet is missing or damaged.
        """
        return self._read_plan(columns=columns)

    def shard_plan(self, shard: int) -> pa.Table:
        """The pairs of one shard in order; only its rows are kept in memory.

        Raises:
            RunError: plan.parquet is missing or damaged.
        """
        return self._read_plan(filters=[("shard", "=", shard)])

    def plan_of(self, image_ids: Sequence[str]) -> pa.Table:
        """The pairs of some images in order; only their rows are kept in memory.

        Raises:
            RunError: plan.parquet is missing or damaged.
        """
        return self._read_plan(filters=[("image_id", "in", list(image_ids))])

    def _read_plan(self, **selection: Any) -> pa.Table:
        try:
            return pq.read_table(
                f"{self.root}/plan.parquet",
                filesystem=self.filesystem,
                page_checksum_verification=True,
                **selection,
            )
        except _DAMAGE as error:
            raise RunError(
                f"{self.place('plan.parquet')} is not readable ({error}). "
                "If the store itself is well, restore it or start a new run."
            ) from error

    def _shards_of(self, kind: Kind) -> list[int]:
        names = [info.base_name for info in self._list(kind)]
        return sorted(int(name[6:-8]) for name in names if _is_shard(name))

    def _list(self, kind: Kind) -> list[pafs.FileInfo]:
        try:
            return list_files(self.filesystem, f"{self.root}/{kind.value}")
        except OSError as error:
            raise RunError(f"Cannot list the shards of {self.place()}: {error}.") from error

    def committed(self) -> list[int]:
        """Numbers of the committed shards, ascending.

        Raises:
            RunError: the directory cannot be listed.
        """
        return self._shards_of(self.kind)

    def commit(self, shard: int, tables: Mapping[Kind, pa.Table]) -> None:
        """Publish a shard: side tables first, the main kind last.

        Raises:
            ValueError: the main kind is missing (a shard in which every pair failed has an empty one).
            OSError: the store is full or not writable; nothing is committed then.
        """
        if self.kind not in tables:
            raise ValueError(
                f"shard {shard} has no {self.kind.value} table, without which it is not committed"
            )
        order = [Kind.POINTS, Kind.FAILURES, self.kind]
        if self.is_committed(shard):  # done again for its failures, which must not go before the results come
            order = [Kind.POINTS, self.kind, Kind.FAILURES]
        for kind in order:
            table = tables.get(kind, SCHEMAS[kind].empty_table())
            if table.num_rows or kind == self.kind:
                self._write_shard(shard, kind, table.cast(SCHEMAS[kind]))
            else:  # an earlier attempt may have left one
                remove(self.filesystem, self._shard_path(shard, kind))

    def shard_sizes(self) -> dict[int, int]:
        """Pairs of every planned shard, in the plan's order."""
        counts = self.plan(["shard"])["shard"].value_counts()
        return dict(zip(*(part.to_pylist() for part in counts.flatten()), strict=True))

    def missing(self) -> list[int]:
        """Shards of the plan that are not committed, in its order."""
        committed = set(self.committed())
        return [shard for shard in self.shard_sizes() if shard not in committed]

    def with_failures(self) -> list[int]:
        """Committed shards in which pairs failed, ascending."""
        return self._with_rows(Kind.FAILURES)

    def is_committed(self, shard: int) -> bool:
        """Whether a shard is committed now, by whomever."""
        return exists(self.filesystem, self._shard_path(shard, self.kind))

    def sweep(self) -> list[str]:
        """Delete what cannot be used: temporary files over a day old, and shard files without their end.

        A shard whose main file goes is no longer committed; it will be computed again.

        Returns:
            paths of the shard files that were deleted. They were cut off by something else than this
            package, which publishes whole files only; `verify` finds subtler damage.

        Raises:
            RunError: the store fails.
        """
        for kind in (self.kind, Kind.POINTS, Kind.FAILURES):
            sweep_temps(self.filesystem, f"{self.root}/{kind.value}")
        paths = [self._shard_path(shard, self.kind) for shard in self.committed()]
        try:
            with ThreadPoolExecutor(READERS) as pool:
                ends = list(pool.map(self._ends, paths))
            # A second look, since another driver may have written it anew between size and end.
            cut = [p for p, whole in zip(paths, ends, strict=True) if not whole and not self._ends(p)]
            for path in cut:
                remove(self.filesystem, path)
        except OSError as error:
            raise RunError(
                f"The shards of {self.place()} cannot be looked at: {error}. Try again."
            ) from error
        return cut

    def _ends(self, path: str) -> bool:
        """Whether a file ends as a Parquet file; one that is gone by now is none of our concern."""
        try:
            with self.filesystem.open_input_file(path) as file:
                size = file.size()
                return size > len(FOOTER) and bool(file.read_at(len(FOOTER), size - len(FOOTER)) == FOOTER)
        except FileNotFoundError:
            return True

    def verify(self) -> Iterator[str]:
        """Open the footers of all committed shards; yields a line for every file that is damaged.

        A shard must belong to this run and hold every pair of the plan, as a result or as a failure.
        """
        sizes = self.shard_sizes()
        failed = set(self.with_failures())
        points = set(self._shards_of(Kind.POINTS))

        def problem(shard: int) -> str | None:
            kinds = [self.kind]
            kinds += [Kind.FAILURES] * (shard in failed) + [Kind.POINTS] * (shard in points)
            try:
                rows = {kind: self._rows(shard, kind) for kind in kinds}
            except RunError as error:
                return str(error)
            whole, planned = rows[self.kind] / self.rows_per_pair, sizes.get(shard, 0)
            found = whole + rows.get(Kind.FAILURES, 0)
            path = self._shard_path(shard, self.kind)
            if found > planned and rows.get(Kind.FAILURES):
                return f"{path}: a retry was stopped in it; `extremal retry {self.place()}` settles it."
            if found != planned:
                return f"{path} and its failures hold {found:g} of {planned} pairs. {self._fix(shard)}"
            if rows[self.kind] and shard not in points and self.kind != Kind.INVERSION:
                return f"{path} has no points beside it. {self._fix(shard)}"
            return None

        with ThreadPoolExecutor(READERS) as pool:
            yield from filter(None, pool.map(problem, self.committed()))

    def _rows(self, shard: int, kind: Kind) -> int:
        with self._open_shard(shard, kind) as file:
            return int(file.metadata.num_rows)

    def _fix(self, shard: int) -> str:
        # Without its main file the shard is open again; deleting a side table would only lose its rows.
        return f"Delete {self._shard_path(shard, self.kind)} and run the same command again."

    @contextmanager
    def _open_shard(self, shard: int, kind: Kind) -> Iterator[pq.ParquetFile]:
        """A shard's file of a kind.

        Raises:
            RunError: it is damaged, also where the caller's reading shows it, or of another run.
        """
        path = self._shard_path(shard, kind)
        try:
            source = self.filesystem.open_input_file(path)
            with pq.ParquetFile(source, page_checksum_verification=True) as file:
                owner = (file.schema_arrow.metadata or {}).get(b"extremal.config_hash", b"").decode()
                if owner != self.manifest["config_hash"]:
                    raise RunError(f"Shard file {path} belongs to another run. {self._fix(shard)}")
                yield file
        except _DAMAGE as error:
            raise RunError(
                f"Shard file {path} is damaged ({error}), unless the store itself fails. {self._fix(shard)}"
            ) from error

    def _shard_path(self, shard: int, kind: Kind) -> str:
        return f"{self.root}/{kind.value}/{_shard_name(shard)}"

    def _write_shard(self, shard: int, kind: Kind, table: pa.Table) -> None:
        metadata = {
            "extremal.config_hash": self.manifest["config_hash"],
            "extremal.schema_version": str(SCHEMA_VERSION),
            "extremal.shard": str(shard),
            "extremal.rows": str(table.num_rows),
        }
        table = table.replace_schema_metadata(metadata)
        write_bytes(self.filesystem, self._shard_path(shard, kind), parquet_bytes(table))

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
            return SCHEMAS[kind].empty_table()
        return self._read_shard(shard, kind, None)

    def _has(self, shard: int, kind: Kind) -> bool:
        """Whether a committed shard has rows of a kind; asks for one file and lists no folder."""
        return kind == self.kind or exists(self.filesystem, self._shard_path(shard, kind))

    def _with_rows(self, kind: Kind) -> list[int]:
        """Committed shards that have rows of a kind, ascending."""
        committed = self.committed()
        return committed if kind == self.kind else sorted(set(committed) & set(self._shards_of(kind)))

    def _read_shard(self, shard: int, kind: Kind, columns: Sequence[str] | None) -> pa.Table:
        schema = _schema(kind, columns)
        with self._open_shard(shard, kind) as file:
            return file.read(columns=columns).select(schema.names).cast(schema)

    def table(self, kind: Kind, columns: Sequence[str] | None = None) -> pa.Table:
        """All committed rows of a kind in plan order; empty with the right schema if there are none."""
        with ThreadPoolExecutor(READERS) as pool:
            tables = pool.map(lambda shard: self._read_shard(shard, kind, columns), self._with_rows(kind))
            return pa.concat_tables([_schema(kind, columns).empty_table(), *tables])

    # ---- what the driver did ------------------------------------------------------------------

    def commit_times(self) -> dict[int, float]:
        """When each committed shard was written, seconds since the epoch, by the store's clock."""
        return {
            int(info.base_name[6:-8]): info.mtime.timestamp()
            for info in self._list(self.kind)
            if _is_shard(info.base_name)
        }

    def calls(self) -> list[dict[str, Any]]:
        """What the calls of the driver wrote into summary.json, oldest first; [] if it is not readable."""
        try:
            with self.filesystem.open_input_file(f"{self.root}/summary.json") as f:
                calls = json.loads(f.read())["calls"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []

    def write_calls(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Write summary.json.

        Raises:
            OSError: the store is full or not writable.
        """
        text = json.dumps({"run": self.manifest["config_hash"], "calls": list(calls)}, indent=2)
        write_bytes(self.filesystem, f"{self.root}/summary.json", text.encode())

    # ---- aggregates ---------------------------------------------------------------------------

    def write_scores(self, name: str, table: pa.Table, hidden: Sequence[str] = ()) -> str:
        """Write an aggregate as scores/NAME.parquet and scores/NAME.csv (lists joined by spaces).

        Args:
            hidden: columns too long for a CSV that people read.

        Returns:
            the place of the CSV.

        Raises:
            RunError: the directory cannot be written.
        """
        flat = table.drop_columns(list(hidden))
        for i, field in enumerate(flat.schema):
            if pa.types.is_list(field.type):
                joined = [None if v is None else " ".join(map(str, v)) for v in flat[i].to_pylist()]
                flat = flat.set_column(i, field.name, pa.array(joined, pa.string()))
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(flat, sink)
        self.write_score(f"{name}.parquet", parquet_bytes(table))
        return self.write_score(f"{name}.csv", bytes(sink.getvalue()))

    def write_score(self, name: str, content: bytes) -> str:
        """Write a file, such as a picture of an aggregate, as scores/NAME.

        Returns:
            its place.

        Raises:
            RunError: the directory cannot be written.
        """
        folder = f"{self.root}/scores"
        try:
            self.filesystem.create_dir(folder, recursive=True)
            write_bytes(self.filesystem, f"{folder}/{name}", content)
        except OSError as error:
            raise RunError(
                f"Cannot write {folder}/{name}: {error}. Check permissions and free space."
            ) from error
        return self.place(f"scores/{name}")
