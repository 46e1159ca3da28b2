"""``demur classify --ray``: large files judged by many processes, through Ray Data.

Files are read as without Ray, by the same rules, and give rows in the same order with the same
verdicts. What cannot be read or judged travels as the row that says so, to be told where it stands.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import DemurError, InputError, MissingExtraError
from ..vocabulary import Evidence, Verdict
from .jsonl import ABSENT, Lines, text_in, value_in
from .printing import printable

if TYPE_CHECKING:
    from ..policy.schema import DetectorSettings

BLOCK: Final = 512
"""Rows that travel together."""
CALLERS: Final = 64
"""Texts that a process judges at the same time, where a model takes many in one pass."""
READER: Final = 0.1
"""Of a core, what reading takes; it finds room beside a judge on each of a machine's cores."""
NO_GROUP: Final = "\0"
"""Of a row without the field: no printable word is the same."""
PARQUET: Final = (".parquet", ".pq")

Columns = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: the text in ``field`` of each row, and its ``by`` for the rates."""

    path: str
    field: str
    by: str | None

    def blocks(self) -> Iterator[Columns]:
        """Texts, groups and how much of the file is read; an error ends them."""
        block = _empty()
        try:
            for text, group, done in self._parquet() if self._is_parquet else self._lines():
                for name, value in zip(block, (text, group, done, ""), strict=True):
                    block[name].append(value)
                if len(block["text"]) == BLOCK:
                    yield block
                    block = _empty()
        except InputError as error:
            for name, value in zip(block, ("", "", 0, str(error)), strict=True):
                block[name].append(value)
        if block["text"]:
            yield block

    @property
    def _is_parquet(self) -> bool:
        return self.path.endswith(PARQUET)

    def _lines(self) -> Iterator[tuple[str, str, int]]:
        with Lines(self.path) as lines:
            for number, row in lines:
                yield lines.text(row, self.field, number), group_of(row, self.by), lines.done

    def _parquet(self) -> Iterator[tuple[str, str, int]]:
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                fields = (self.field, self.by or self.field)
                wanted = {*fields, *(field.partition(".")[0] for field in fields)}
                columns = [name for name in file.schema_arrow.names if name in wanted]
                size, total = Path(self.path).stat().st_size, max(1, file.metadata.num_rows)
                number = 0
                for batch in file.iter_batches(BLOCK, columns=columns):
                    for row in batch.to_pylist():
                        number += 1
                        text = text_in(row, self.field, f"{self.path}: row {number}")
                        yield text, group_of(row, self.by), size * number // total
        except (OSError, pyarrow.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.path}: cannot be read as Parquet: {reason}") from error


class Judge:
    """One process's detector."""

    def __init__(self, settings: str) -> None:
        from ..detection.building import build_detector
        from ..policy.schema import DetectorSettings

        self._detector = build_detector(DetectorSettings.model_validate_json(settings))
        self._pool = ThreadPoolExecutor(CALLERS if self._detector.blocking else 1)

    def judged(self, block: Mapping[str, Sequence[Any]]) -> Columns:
        rows = zip(map(_unpacked, block["text"]), block["error"], strict=True)
        verdicts = list(self._pool.map(self._verdict, rows))
        return {
            "group": list(block["group"]),
            "done": list(block["done"]),
            "error": [found if isinstance(found, str) else "" for found in verdicts],
            "verdict": [_written(found) for found in verdicts],
        }

    def _verdict(self, row: tuple[str, str]) -> Verdict | str:
        text, error = row
        if error:
            return error
        try:
            return self._detector.classify(Evidence(text))
        except DemurError as failure:
            return str(failure)


_judge = lru_cache(maxsize=1)(Judge)
"""Kept between blocks: a process that Ray has started judges many."""


def judged_block(block: Mapping[str, Sequence[Any]], settings: str) -> Columns:
    """What a task of Ray does. A detector that cannot be built is told at the first row."""
    try:
        judge = _judge(settings)
    except DemurError as error:
        none = [""] * len(block["text"])
        done = list(block["done"])
        return {"group": none, "done": done, "error": [str(error) for _ in none], "verdict": none}
    return judge.judged(block)


def group_of(row: Mapping[str, Any], by: str | None) -> str:
    """The value of ``by`` as one printable word, or ``NO_GROUP``; dots lead into objects."""
    if by is None:
        return ""
    value, _ = value_in(row, by)
    if value is ABSENT:
        return NO_GROUP
    return printable((value if isinstance(value, str) else json.dumps(value, default=str))[:80])


@contextmanager
def judged(
    source: Source, settings: DetectorSettings, workers: int | None
) -> Iterator[Iterator[tuple[int, str, Verdict]]]:
    """How far the file is read, the group and the verdict of each row, in the file's order.

    Uses the cluster that ``RAY_ADDRESS`` names, else the cores of this machine. Raises
    ``InputError`` where Ray does not start, and at the row that cannot be judged.
    """
    with redirect_stdout(sys.stderr):  # Ray tells its troubles on standard output
        ray = _started()
        try:
            yield _rows(_pipeline(ray, source, settings, workers))
        finally:
            ray.shutdown()


def _pipeline(ray: Any, source: Source, settings: DetectorSettings, workers: int | None) -> Any:
    from ..detection.building import on_threads

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    return ray.data.read_datasource(
        _datasource(source), override_num_blocks=1, num_cpus=READER
    ).map_batches(
        judged_block,
        fn_args=(on_threads(settings, 1).model_dump_json(),),
        batch_size=BLOCK,
        batch_format="numpy",
        compute=ray.data.TaskPoolStrategy(size=count),
        num_cpus=1.0 - READER,
    )


def _rows(dataset: Any) -> Iterator[tuple[int, str, Verdict]]:
    for row in dataset.iter_rows():
        if row["error"]:
            raise InputError(row["error"])
        yield row["done"], row["group"], Verdict(**json.loads(row["verdict"]))


def _started() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(error.name or "ray", "serve", "demur classify --ray") from error
    import logging

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    try:
        # Without an address Ray takes the cluster that was last started on this machine, and waits
        # minutes for one that has ended since.
        ray.init(
            address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            include_dashboard=None if address else False,
        )
    except Exception as error:  # Ray raises plain exceptions, and others than it documents
        where = f"RAY_ADDRESS is {address}" if address else "RAY_ADDRESS names no cluster"
        said = printable(" ".join(str(error).split())[:300])
        raise InputError(
            f"--ray: Ray did not start ({where}): {said}; see to its cluster, or leave --ray out"
        ) from error
    return ray


def _datasource(source: Source) -> Any:
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Texts(Datasource):  # type: ignore[misc]
        """One file, read by one task: lines have to be counted from its beginning."""

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
            metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
            return [ReadTask(lambda: map(_table, source.blocks()), metadata)]

    return Texts()


def _table(block: Columns) -> Any:
    """Texts as bytes: JSON may hold half of a surrogate pair, which no column of texts can."""
    import pyarrow

    texts = [text.encode("utf-8", "surrogatepass") for text in block["text"]]
    return pyarrow.table({**block, "text": texts})


def _unpacked(text: str | bytes) -> str:
    return text.decode("utf-8", "surrogatepass") if isinstance(text, bytes) else text


def _empty() -> Columns:
    return {"text": [], "group": [], "done": [], "error": []}


def _written(found: Verdict | str) -> str:
    if isinstance(found, str):
        return ""
    fields = ("label", "score", "stage", "threshold", "kind", "degraded")
    return json.dumps({name: getattr(found, name) for name in fields})
