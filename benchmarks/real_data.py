"""Real loan applications through the whole service: `make real-data` (DATA_DIR says where they are).

Starts PostgreSQL and the service in a temporary folder, registers the channels and publishes the policy of
`docs/examples`, imports each book over HTTP, prints what was decided, sends all of it again one by one, and replays the
log. Ends with 1 where a row is unaccounted for, an answer differs or an income that cannot be right was accepted.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from app.cli import demo_data
from app.cli.importing.ledger import Tally
from app.cli.importing.summary import summary
from app.db.bootstrap import LoginUrls, bootstrap
from app.db.embedded import EmbeddedPostgres
from app.db.schema import migrate

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
DEFAULT_DATA_DIR = "../shared/data"

_COMMAND = (sys.executable, "-c", "from app.cli import main; main()")
_START_SECONDS = 60.0
_PAGE = 200
_PIPE_WIDTH = 120
_LEAST_INCOME, _LARGEST_INCOME = Decimal(500), Decimal(50_000)
"""BRL a month. A stated income outside of these is no income that a lender lends on: a slip of the pen, or worse."""
_DOUBT = frozenset({"IN04", "IN05"})
"""The rules of the example policy that doubt an income."""


class CheckError(Exception):
    """The run shows that a promise does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """One book of applications; its examples are named after it. `doubtful` tells a row that must not be accepted."""

    name: str
    title: str
    file: str
    doubtful: Callable[[Mapping[str, str]], str | None]
    """The application id of a row whose income cannot be right."""
    stricter: tuple[tuple[str, str, int], ...]
    """What a stricter draft says otherwise: rule, tier and threshold."""


def _never(_: Mapping[str, str]) -> str | None:
    return None


def _doubtful_lead(row: Mapping[str, str]) -> str | None:
    try:
        income = Decimal(row["monthly_income"])
    except InvalidOperation:
        return f"lead-{row['id']}"
    return None if _LEAST_INCOME <= income <= _LARGEST_INCOME else f"lead-{row['id']}"


BOOKS = (
    Book(
        name="moneylion",
        title="MoneyLion applications",
        file="moneylion_applications.csv.gz",
        doubtful=_never,
        stricter=(("AP03", "general", 600), ("AP03", "risk", 500)),
    ),
    Book(
        name="creditas",
        title="Creditas leads",
        file="creditas_leads.csv.gz",
        doubtful=_doubtful_lead,
        stricter=(("LV01", "general", 90), ("LV01", "risk", 80), ("DT04", "prime", 30)),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The running service, and how its commands reach it."""

    url: str
    keys: Mapping[str, str]
    environment: Mapping[str, str]
    folder: Path

    def client(self, role: str) -> httpx.Client:
        """A client with the key of a role."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.keys[role]}"}, timeout=60, trust_env=False
        )

    def command(self, *arguments: str) -> dict[str, Any]:
        """What a command of `channel-gate` prints as JSON; progress goes to this process's standard error."""
        environment = {**self.environment, "CHANNEL_GATE_KEY": self.keys["origination"], "CHANNEL_GATE_URL": self.url}
        done = subprocess.run([*_COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise CheckError(f"channel-gate {arguments[0]} ended with {done.returncode}: {done.stdout.decode()[:2000]}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def main() -> int:
    """Run every book that is there; 0 where all promises hold or there is no data."""
    folder = Path(os.environ.get("DATA_DIR") or DEFAULT_DATA_DIR)
    books = [book for book in BOOKS if (folder / book.file).is_file()]
    if not books:
        print(f"real-data: skipped, because {folder} holds none of {', '.join(book.file for book in BOOKS)}")
        return 0
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    with tempfile.TemporaryDirectory(prefix="channel-gate-real-data-") as temporary:
        Path(temporary).chmod(0o755)  # the database's own user must reach its folder
        try:
            with _service(Path(temporary)) as service:
                for book in books:
                    _run(book, folder / book.file, service, console)
        except CheckError as error:
            console.print(f"FAILED: {error}", style="bold red", markup=False)
            return 1
    return 0


def _run(book: Book, file: Path, service: Service, console: Console) -> None:
    console.rule(book.title)
    version = _arrange(book, service)
    rows = _rows(file)
    started = time.perf_counter()
    tally = _import(book, file, service, "in batches")
    seconds = time.perf_counter() - started
    console.print(summary(tally, f"{book.title}: decided by policy version {version}"))
    console.print(
        f"imported in {seconds:.1f} s, {tally.rows / seconds:,.0f} rows a second, the importer's start included"
    )
    _check_accounts(tally, rows, service.folder / f"{book.name} in batches.rejects")

    started = time.perf_counter()
    again = _import(book, file, service, "one by one", "--batch", "1", "--concurrency", "16")
    _check(again.document() == tally.document(), "the same rows one by one were answered otherwise")
    seconds = time.perf_counter() - started
    console.print(f"sent again one by one in {seconds:.1f} s: the same answers, no new decision")

    decisions = _decisions(service, version)
    _check(len(decisions) == tally.decided, f"the log holds {len(decisions)} decisions, not {tally.decided}")
    doubtful = [found for row in _csv(file) if (found := book.doubtful(row)) is not None]
    if doubtful:
        _check_doubtful(doubtful, decisions, console)

    report = service.command("replay", "--json")
    _check(report["total"] == report["identical"] >= tally.decided, f"replay: {report}")
    console.print(f"replay of the whole log: {report['identical']:,} of {report['total']:,} decisions identical")
    _what_if(book, tally.decided, service, console)


def _what_if(book: Book, decided: int, service: Service, console: Console) -> None:
    """Decide the book's log again under a stricter draft, and print the matrix; no outcome may become milder."""
    draft: Any = yaml.safe_load((EXAMPLES / f"{book.name}.policy.yaml").read_text(encoding="utf-8"))
    for code, tier, threshold in book.stricter:
        (rule,) = [rule for rule in draft["rules"] if rule["code"] == code]
        rule["thresholds"][tier] = threshold
    file, output = service.folder / f"{book.name} draft.yaml", service.folder / f"{book.name} what-if.json"
    file.write_text(yaml.safe_dump(draft, allow_unicode=True), encoding="utf-8")
    listed = yaml.safe_load((EXAMPLES / f"{book.name}.channels.yaml").read_text(encoding="utf-8"))["channels"]
    chosen = [option for channel in listed for option in ("--channel", channel["code"])]
    changes = ", ".join(f"{code} for {tier} {threshold}" for code, tier, threshold in book.stricter)
    console.print(f"what if: {changes}")
    places = ("--extract", str(service.folder / "extract"), "--output", str(output))
    arguments = ("whatif", str(file), "--against", "log", *chosen, *places)
    done = subprocess.run([*_COMMAND, *arguments], env=service.environment, check=False)
    _check(done.returncode == 0, f"channel-gate whatif ended with {done.returncode}")
    report: Any = json.loads(output.read_bytes())
    _check(report["decisions"] == decided, f"{report['decisions']} of {decided} decisions were decided again")
    order = ("accept", "escalate", "reject")
    milder = [each for each in report["totals"] if order.index(each["after"]) < order.index(each["before"])]
    _check(not milder, f"a stricter draft made outcomes milder: {milder}")


def _arrange(book: Book, service: Service) -> int:
    """Publish the book's policy and register its channels with their tiers. The version that is then active."""
    with service.client("policy-author") as author:
        policy = (EXAMPLES / f"{book.name}.policy.yaml").read_bytes()
        headers = {"Content-Type": "application/yaml"}
        version: int = _ok(author.post("/v1/policies?wait=10", content=policy, headers=headers))["version"]
    listed = yaml.safe_load((EXAMPLES / f"{book.name}.channels.yaml").read_text(encoding="utf-8"))
    with service.client("admin") as admin:
        for channel in listed["channels"]:
            tier = channel.pop("tier", None)
            _ok(admin.post("/v1/channels", json={"owner": listed["owner"], **channel}))
            if tier is not None:
                body = {"tier": tier, "cause": "initial", "reason": "First judgement of the source."}
                _ok(admin.post(f"/v1/channels/{channel['code']}/tiers", json=body))
    _wait(service.url, "/readyz")
    return version


def _import(book: Book, file: Path, service: Service, way: str, *options: str) -> Tally:
    stem = service.folder / f"{book.name} {way}"
    mapping = str(EXAMPLES / f"{book.name}.mapping.yaml")
    paths = ("--state", f"{stem}.state", "--rejects", f"{stem}.rejects")
    return Tally.from_document(service.command("import", str(file), "--mapping", mapping, *paths, "--json", *options))


def _check_accounts(tally: Tally, rows: int, rejects: Path) -> None:
    _check(tally.rows == rows, f"{tally.rows} of {rows} rows are accounted for")
    _check(tally.decided + tally.rejected == rows, "a row has neither a decision nor a line in the rejects file")
    _check(tally.failed == 0, f"the service failed on {tally.failed} rows")
    lines = [json.loads(line) for line in rejects.read_bytes().splitlines()]
    _check(len(lines) == tally.rejected, "the rejects file does not hold every rejected row")
    _check(all(problem["detail"] for line in lines for problem in line["problems"]), "a reject says no reason")
    _check(all(line["problems"] for line in lines), "a reject says no reason")


def _check_doubtful(doubtful: list[str], decisions: Mapping[str, dict[str, Any]], console: Console) -> None:
    """None is accepted, and each decision names the doubt, also where another rule rejected."""
    decided = [decision for each in doubtful if (decision := decisions.get(each)) is not None]
    outcomes = Counter(decision["outcome"] for decision in decided)
    _check(not outcomes["accept"], f"{outcomes['accept']} doubtful incomes were accepted")
    unnamed = sum(_DOUBT.isdisjoint(decision["reason_codes"]) for decision in decided)
    _check(not unnamed, f"{unnamed} doubtful incomes were decided without a word about them")
    console.print(
        f"{len(doubtful)} incomes that cannot be right: none accepted, {outcomes['escalate']} escalated for it, "
        f"{outcomes['reject']} rejected for other reasons beside it, {len(doubtful) - len(decided)} in the rejects file"
    )


def _decisions(service: Service, version: int) -> dict[str, dict[str, Any]]:
    """Every decision under the version as analysts list it, by application."""
    found: dict[str, dict[str, Any]] = {}
    query: dict[str, str | int] = {"policy_version": version, "limit": _PAGE}
    with service.client("analyst") as analyst:
        while True:
            page = _ok(analyst.get("/v1/decisions", params=query))
            found.update((item["application_id"], item) for item in page["items"])
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]


@contextmanager
def _service(folder: Path) -> Iterator[Service]:
    """PostgreSQL and the service, both ended with the block."""
    with EmbeddedPostgres(folder / "postgres") as postgres:
        urls: LoginUrls = asyncio.run(bootstrap(postgres.url()))
        migrate(urls.owner)
        keys = asyncio.run(demo_data.demo_keys(urls.governance, folder / "keys.json"))
        port = _free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GATE_")},
            **urls.environment(),
            "PORT": str(port),
            "GATE_RATE_LIMIT_PER_SECOND": "0",
        }
        log = folder / "service.log"
        with log.open("wb") as output:
            process = subprocess.Popen([*_COMMAND, "serve"], env=environment, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, "/livez", process)
            yield Service(url=url, keys=keys, environment=environment, folder=folder)
        except BaseException:
            print(log.read_text(encoding="utf-8", errors="replace")[-4000:], file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_START_SECONDS)


def _wait(url: str, path: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise CheckError(f"the service ended with {process.returncode}")
        try:
            if httpx.get(url + path, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise CheckError(f"{path} does not answer within {_START_SECONDS:g} s")


def _ok(response: httpx.Response) -> dict[str, Any]:
    if not response.is_success:
        raise CheckError(
            f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}"
        )
    document: dict[str, Any] = response.json()
    return document


def _csv(file: Path) -> Iterator[Mapping[str, str]]:
    """Read apart from the importer, so that both can be compared."""
    with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _rows(file: Path) -> int:
    return sum(1 for _ in _csv(file))


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckError(otherwise)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
