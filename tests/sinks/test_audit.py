"""The audit log: complete, rotated, off the request's path, with content only where wanted."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from demur.detection.cascade import Cascade
from demur.drivers import blocking
from demur.errors import PolicyError
from demur.flow.completion import completion_flow
from demur.flow.plan import Plan
from demur.policy import load_policy
from demur.policy.schema import Audit, Policy
from demur.sinks import AuditSink, sinks_for, to_record
from demur.sinks.lines import rotated
from demur.testing import PhraseDetector
from demur.vocabulary import Attempt, Evidence, Outcome, Signal, Verdict

MODEL = "gpt\r\nforged"


def outcome(model: str = MODEL, text: str | None = None) -> Outcome:
    evidence = () if text is None else (Evidence(text, "no", (Signal("finish_reason", "stop"),)),)
    attempt = Attempt(model, model, "accepted", Verdict("refusal", 0.9, "embedded"))
    kept = Attempt(attempt.target, attempt.model, "accepted", attempt.verdict, evidence=evidence)
    return Outcome("chat", model, "accepted", (kept,), 0, id=model, time=1e9, rule="r")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def written(tmp_path: Path, *outcomes: Outcome, **settings: Any) -> list[dict[str, Any]]:
    """What stands in the file once the sink is closed."""
    path = tmp_path / "audit.jsonl"
    sink = AuditSink(Audit(path=str(path), **settings))
    for one in outcomes:
        sink(one)
    sink.close()
    assert sink.lost == 0
    return read(path)


def test_a_record_a_line(tmp_path: Path) -> None:
    """Each outcome is one JSON object on one line, in order; its file is its owner's alone."""
    rows = written(tmp_path, outcome(), outcome("second"))
    assert rows == [to_record(outcome()), to_record(outcome("second"))]
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_rotation_loses_nothing(tmp_path: Path) -> None:
    """Files stay within their size, the youngest has the lowest number, nothing is torn."""
    path = tmp_path / "audit.jsonl"
    line = len(json.dumps(to_record(outcome("0000")))) + 1
    sink = AuditSink(Audit(path=str(path), max_bytes=5 * line, keep=50))
    for number in range(100):
        sink(outcome(f"{number:04}"))
        sink.flush()
    sink.close()
    files = [rotated(path, n) for n in range(50, 0, -1)] + [path]
    there = [file for file in files if file.exists()]
    assert all(file.stat().st_size <= 5 * line for file in there)
    found = [row["requested_model"] for file in there for row in read(file)]
    assert found == [f"{number:04}" for number in range(100)]


def test_a_rotation_moves_what_is_there(tmp_path: Path) -> None:
    """Its time grows with the files that exist, not with those that may; a gap ends it."""
    path = tmp_path / "audit.jsonl"
    rotated(path, 3).write_text("older than the gap")
    sink = AuditSink(Audit(path=str(path), max_bytes=1, keep=10**12))
    for number in range(3):
        sink(outcome(str(number)))
        sink.flush()
    sink.close()
    assert [read(rotated(path, n))[0]["id"] for n in (2, 1)] == ["0", "1"]
    assert rotated(path, 3).read_text() == "older than the gap"


def test_the_oldest_file_goes(tmp_path: Path) -> None:
    """No more files are kept than the policy says."""
    path = tmp_path / "audit.jsonl"
    sink = AuditSink(Audit(path=str(path), max_bytes=1, keep=2))
    for number in range(6):
        sink(outcome(str(number)))
        sink.flush()
    sink.close()
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert [read(f)[0]["id"] for f in (rotated(path, 2), rotated(path, 1), path)] == ["3", "4", "5"]


PROCESS = """
import sys
from demur.policy.schema import Audit
from demur.sinks import AuditSink
from demur.vocabulary import Outcome
sink = AuditSink(Audit(path=sys.argv[1], max_bytes=20_000, keep=1000))
for number in range(300):
    sink(Outcome("chat", f"{sys.argv[2]}-{number}", "accepted", id="x"))
    if number % 7 == 0:
        sink.flush()
"""


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Several processes that rotate one file under each other lose and tear no record."""
    path = tmp_path / "audit.jsonl"
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(path), str(number)])
        for number in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    rows = [row["requested_model"] for file in tmp_path.iterdir() for row in read(file)]
    assert sorted(rows) == sorted(f"{p}-{n}" for p in range(3) for n in range(300))
    assert len(list(tmp_path.iterdir())) > 5


def test_many_threads(tmp_path: Path) -> None:
    """Records of many threads do not mix."""
    path = tmp_path / "audit.jsonl"
    sink = AuditSink(Audit(path=str(path)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: sink(outcome(str(i))), range(400)))
    sink.close()
    assert sorted(int(row["requested_model"]) for row in read(path)) == list(range(400))


def test_moved_away(tmp_path: Path) -> None:
    """A file that somebody else moved away is begun anew."""
    path = tmp_path / "audit.jsonl"
    sink = AuditSink(Audit(path=str(path)))
    sink(outcome("a"))
    sink.flush()
    path.rename(tmp_path / "away")
    sink(outcome("b"))
    sink.close()
    assert [row["id"] for row in read(path)] == ["b"]


@pytest.mark.parametrize("place", ["", "gone/audit.jsonl"])
def test_paths_that_cannot_work(tmp_path: Path, place: str) -> None:
    """A directory, or a file in a directory that is not there, is told when the policy is used."""
    with pytest.raises(PolicyError, match=r"audit\.path: "):
        sinks_for(Policy(audit=Audit(path=str(tmp_path / place))))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk costs no request anything, is logged once, and what it lost is counted."""
    sink = AuditSink(Audit(path="/dev/full"))
    for _ in range(3):
        sink(outcome())
    sink.close()
    assert sink.lost == 3
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 2
    assert os.strerror(errno.ENOSPC) in told[0]
    assert "3 records were lost" in told[1]


def test_short_write_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was cut off is taken back, and written whole once there is room again."""
    monkeypatch.setattr("demur.sinks.background.RETRY_SECONDS", 0.01)
    path = tmp_path / "audit.jsonl"
    write, cuts = os.write, [0]

    def short(file: int, data: bytes) -> int:
        if data.startswith(b'{"schema"') and cuts[0] < 2:
            cuts[0] += 1
            return write(file, data[:10])
        return write(file, data)

    monkeypatch.setattr(os, "write", short)
    sink = AuditSink(Audit(path=str(path)))
    sink(outcome("a"))
    assert sink.flush()
    assert (cuts, [row["id"] for row in read(path)], sink.lost) == ([2], ["a"], 0)
    sink.close()


def test_no_content_by_default(tmp_path: Path) -> None:
    """Even where evidence came along, content ``none`` writes none of it."""
    (row,) = written(tmp_path, outcome(text="the secret words"))
    assert "secret" not in json.dumps(row)


def test_full_content(tmp_path: Path) -> None:
    """``full`` writes what a detector was shown, enough to ask it again."""
    (row,) = written(tmp_path, outcome(text="all of it 123"), content="full")
    signal = {"name": "finish_reason", "value": "stop", "kind": None, "refuses": True}
    choice = {"text": "all of it 123", "refusal": "no", "non_text": False, "signals": [signal]}
    assert row["attempts"][0]["content"] == [choice]


SECRETS = [
    "sk-abcdEFGH1234abcdT3BlbkFJabcdEFGH1234abcd",
    "ghp_1234567890abcdefghijklmnopqrstuvwxyz",
    "AKIAIOSFODNN7EXAMPLE",
    "joe.bloggs+x@example.co.uk",
    "4111 1111 1111 1111",
    "+44 20 7946-0958",
    "192.168.13.7",
    "xoxb-123456789012-1234567890123-abcdefghijklmnopqrstuvwx",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "word " * 50, "word " * 4000])
def test_redacted_content(tmp_path: Path, secret: str, before: str) -> None:
    """``redacted`` keeps a short passage about the refusal, its secrets and numbers masked."""
    text = f"{before}I'm sorry, but I can't send {secret} to anybody. {'More. ' * 900}"
    (row,) = written(tmp_path, outcome(text=text), content="redacted")
    shown = row["attempts"][0]["content"][0]["text"]
    assert "I'm sorry, but I can't send" in shown
    assert len(shown) <= 242
    assert not any(part in shown for part in secret.split())


def served_by_a_flow(tmp_path: Path, content: str, text: str) -> Outcome:
    """A real request, judged by a real detector, whose port answers with ``text``."""
    policy = load_policy(
        {"version": 1, "audit": {"path": str(tmp_path / "audit.jsonl"), "content": content}}
    )
    plan = Plan.of(policy, api="chat", model="m", stream=False, metadata={}, id="req")
    assert plan is not None
    sinks = sinks_for(policy)

    class Port:
        def usable(self, targets: Any) -> Any:
            return targets

        def call(self, *_: object) -> Any:
            from demur.vocabulary import Completion

            return Completion((Evidence(text),), native=text)

        def emit(self, record: Outcome) -> None:
            sinks(record)

    served = blocking.run_completion(
        completion_flow(plan),
        Port(),
        Cascade([PhraseDetector()]),  # type: ignore[arg-type]
    )
    for sink in sinks._sinks:
        if isinstance(sink, AuditSink):
            sink.close()
    return served.outcome


@pytest.mark.parametrize(("content", "kept"), [("none", False), ("full", True)])
def test_content_travels_only_if_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, kept: bool
) -> None:
    """A flow keeps what was judged only where the audit asks for it; logs never show it."""
    caplog.set_level(logging.DEBUG)
    found = served_by_a_flow(tmp_path, content, "I'm sorry, no plutonium.")
    assert bool(found.attempts[0].evidence) is kept
    assert ("plutonium" in (tmp_path / "audit.jsonl").read_text()) is kept
    assert "plutonium" not in caplog.text + repr(found)
    (row,) = read(tmp_path / "audit.jsonl")
    assert (row["id"], row["policy"]) == ("req", found.policy)


def test_long_texts_are_kept_in_part(tmp_path: Path) -> None:
    """Of a text of any length the ends are kept: memory stays bounded."""
    found = served_by_a_flow(tmp_path, "full", "a" * 1_000_000 + "z")
    (kept,) = found.attempts[0].evidence
    assert len(kept.text) < 20_000
    assert kept.text.startswith("a")
    assert kept.text.endswith("z")


def rows_in(url: str) -> list[dict[str, Any]]:
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.connect() as connection:
        query = text("SELECT id, ending, label, record FROM demur_audit ORDER BY number")
        found = [dict(row) for row in connection.execute(query).mappings()]
    engine.dispose()
    return found


def check_database(url: str, audit: Audit) -> None:
    sink = AuditSink(audit)
    for number in range(1000):
        sink(outcome(str(number), text="nul \x00 and \ud800"))
    sink.close()
    assert sink.lost == 0
    rows = rows_in(url)
    assert [row["id"] for row in rows] == [str(number) for number in range(1000)]
    assert (rows[0]["ending"], rows[0]["label"]) == ("accepted", "refusal")
    record = json.loads(rows[0]["record"])
    assert record["attempts"][0]["content"][0]["text"] == "nul \x00 and \ud800"


def test_sqlite(tmp_path: Path) -> None:
    """A database URL: the table is made, and every record is a row."""
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    check_database(url, Audit(dsn=url, content="full"))


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """A server of its own, as an unprivileged user; its URL."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL's server is not installed")
    folder = Path("/tmp") / f"demur-pg-{os.getpid()}"
    folder.mkdir(mode=0o700)
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:
        shutil.chown(folder, "nobody")
        as_user = {"user": "nobody", "extra_groups": [], "env": {**os.environ, "HOME": "/tmp"}}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **as_user
        )

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "demur", "-A", "trust", "--no-sync")
    options = f"-p {port} -k {folder} -c fsync=off"
    log = str(folder / "log")
    run("pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")
    try:
        yield f"postgresql+psycopg://demur@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_postgresql(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on PostgreSQL, with the URL out of the environment."""
    monkeypatch.setenv("DEMUR_AUDIT", postgres)
    check_database(postgres, Audit(dsn_env="DEMUR_AUDIT", content="full"))


def test_database_that_is_away(tmp_path: Path) -> None:
    """A database nobody answers at delays no start and no request; what is lost is counted."""
    sink = AuditSink(Audit(dsn="postgresql+psycopg://demur@127.0.0.1:1/x"))
    sink(outcome())
    sink.close()
    assert sink.lost == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dsn": "sqlite://"} | {"path": "x"}, "one of path"),
        ({}, "one of path"),
        ({"dsn": "postgresql://demur:hunter2@db/x"}, "dsn_env"),
        ({"dsn": "postgresql://demur:hun/hunter2@db/x"}, "dsn_env"),
        ({"dsn": "postgresql://demur@db/x?password=hunter2"}, "dsn_env"),
        ({"dsn": "postgresql://demur@db/x?sslmode=require&SSL%50assword=hunter2"}, "dsn_env"),
        ({"dsn": "mssql+pyodbc:///?odbc_connect=UID%3Da%3BPWD%3Dhunter2"}, "dsn_env"),
        ({"dsn": "no url"}, "sqlite:///audit.db"),
    ],
)
def test_places_that_make_no_sense(settings: dict[str, Any], told: str) -> None:
    """No place, two places or a password in the policy are told, and the password is not."""
    with pytest.raises(PolicyError, match=told) as caught:
        load_policy({"version": 1, "audit": settings})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "sqlite:///C:/logs/a@b.db",
        "postgresql://demur@db:5432/x?passfile=/run/pgpass&password=",
    ],
)
def test_urls_without_a_password(dsn: str) -> None:
    """A file that holds one may be named."""
    assert Audit(dsn=dsn).dsn == dsn


@pytest.mark.parametrize("audit", [Audit(dsn="nosuch://x"), Audit(dsn_env="DEMUR_NOT_SET")])
def test_databases_that_cannot_work(audit: Audit) -> None:
    """A URL that means nothing here, or a variable that is not set, is told at the start."""
    with pytest.raises(PolicyError):
        AuditSink(audit)
