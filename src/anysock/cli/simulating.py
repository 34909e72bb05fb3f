"""What ``anysock sim`` does, and how it tells of it."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from anysock.cli.sim_progress import progress
from anysock.cli.values import write_file
from anysock.engines import ENGINES
from anysock.engines.sim.fault_kinds import FAULTS, PRESETS
from anysock.engines.sim.tls_chance import NOT_EXACT, generator
from anysock.errors import StartError, UsageError
from anysock.machine.process import sigterm_interrupts
from anysock.options.serve import OPTIONS
from anysock.sim import wall, words
from anysock.sim.cases import default_check
from anysock.sim.confirm import confirmed
from anysock.sim.determinism import differences
from anysock.sim.diagnosis import Diagnosis, diagnose, in_words
from anysock.sim.explore import Asked, Explorer, Tally
from anysock.sim.finding import Finding
from anysock.sim.guards import RealWorld
from anysock.sim.jobs import explored
from anysock.sim.page import history_page, repeats
from anysock.sim.plan import Plan
from anysock.sim.replay import Replay
from anysock.sim.scenario import Outcome
from anysock.sim.story import all_lines, story
from anysock.sim.traced import nearest, write_trace

# More than anybody will wait for.
_NO_LIMIT = 2**52

# Options of a server that say where it listens, or how it is run; or what is never simulated.
_NOT_FOR_PLANS = {
    "bind", "port", "host", "engine", "workers", "admin", "tls_cert", "tls_key", "tls_client_ca",
    "tls_alpn", "proxy_protocol", "proxy_from", "access_log", "log_level", "log_format",
    "log_time", "verbose", "slow_step", "trace", "trace_size", "production",
    "reload_timeout", "seed",
}  # fmt: skip


def explore(handler: str, given: dict[str, Any]) -> int:
    """Returns the exit code."""
    written, plan = given["faults"]
    given["confirm"] = _engines(given["confirm"])
    named = _named_kinds(written)
    faults = {
        kind: parameters
        for kind, parameters in plan.kinds.items()
        # The clients of a plan speak TCP.
        if kind in named or FAULTS[kind].needs != "datagrams"
    }
    histories = given["histories"]
    if histories is None:
        histories = 1000 if given["seconds"] is None else _NO_LIMIT
    asked = Asked(
        handler=handler,
        check=given["check"] or default_check(handler),
        clients=given["clients"],
        messages=given["messages"],
        size=given["size"],
        faults=faults,
        options=_options(given["options"]),
        swarm=given["swarm"],
        tls=given["tls"],
        seed=given["seed"],
        histories=histories,
        keep_going=given["keep_going"],
        real_world=tuple(given["real_world"].split(",")),
    ).check_all()
    sigterm_interrupts()
    if asked.tls and generator() is None:
        click.echo(f"note: {NOT_EXACT}", err=True)
    if given["check_determinism"]:
        with _refusals():
            return _check_determinism(asked, given)
    with _refusals():
        explorer = Explorer(asked)
        run = _Run(asked, given)
        run.explore()
        inert = [kind for kind in named if not run.tally.fired[kind]]
        for line in words.summary(asked, run.tally, run.seconds, inert):
            click.echo(line)
        for seed, finding in run.first_of_each.values():
            _tell(diagnose(explorer, seed, finding), given, explorer)
        if len(run.failures) > len(run.first_of_each):
            click.echo(f"fail: {words.listed(Counter(each.kind for _, each in run.failures))}")
    if run.failures:
        return 1
    if run.interrupted:
        return 128 + signal.SIGINT
    if inert and given["require_faults"]:
        click.echo("fails: faults were asked for, and never struck")
        return 1
    return 0


class _Run:
    """Explores, with a line that says how far it is, until all is done or it is interrupted."""

    def __init__(self, asked: Asked, given: dict[str, Any]) -> None:
        self.asked = asked
        self.tally = Tally()
        self.failures: list[tuple[int, Finding]] = []
        self.interrupted = False
        self.seconds = 0.0
        self._given = given

    @property
    def first_of_each(self) -> dict[str, tuple[int, Finding]]:
        """The first that fails in each way."""
        found: dict[str, tuple[int, Finding]] = {}
        for seed, finding in self.failures:
            found.setdefault(finding.kind, (seed, finding))
        return found

    def explore(self) -> None:
        began = wall.seconds()
        limit = self._given["seconds"]
        with progress(Console(stderr=True), self.asked, self._given, "exploring") as tell:
            try:
                with contextlib.closing(explored(self.asked, self._given["jobs"])) as blocks:
                    for block in blocks:
                        self.tally.merge(block.tally)
                        self.failures += block.failures
                        self.seconds = wall.seconds() - began
                        tell(self.tally, self.seconds)
                        if limit is not None and self.seconds >= limit:
                            break
            except KeyboardInterrupt:
                self.interrupted = True
        self.seconds = wall.seconds() - began


def _check_determinism(asked: Asked, given: dict[str, Any]) -> int:
    """Returns the exit code."""
    tally, limit = Tally(), given["seconds"]
    found = 0
    began = wall.seconds()
    interrupted = False
    with progress(Console(stderr=True), asked, given, "comparing") as tell:
        try:
            with contextlib.closing(differences(asked, tally)) as several:
                for difference in several:
                    seconds = wall.seconds() - began
                    tell(tally, seconds)
                    if difference is not None:
                        found += 1
                        for line in difference.lines():
                            click.echo(line)
                        if not asked.keep_going:
                            break
                    elif limit is not None and seconds >= limit:
                        break
        except KeyboardInterrupt:
            interrupted = True
    equal = "all equal" if not found else f"{words.counted(found, 'difference')}"
    click.echo(
        f"{words.counted(tally.histories, 'history')} of {asked.handler}, each three times, in two "
        f"processes: {equal}"
    )
    return 1 if found else 128 + signal.SIGINT if interrupted else 0


def replay(path: Path, handler: str | None, given: dict[str, Any]) -> int:
    """Returns the exit code."""
    found = Replay.read(path)
    asked = Asked(
        handler=handler or found.handler,
        check=found.check,
        options=found.plan.options,
        real_world=tuple(given["real_world"].split(",")),
    ).check_all()
    with _refusals():
        explorer = Explorer(asked)
        outcome = explorer.run(found.plan)
    if given["trace"]:
        for line in all_lines(outcome.network.trace):
            click.echo(line)
    elif outcome.finding is not None:
        for line in story(outcome.network.trace, outcome.finding):
            click.echo(line)
    click.echo(found.compared(outcome.finding, outcome.trace_hash))
    title, repeat = f"{asked.handler}, {path.name}", repeats(asked.handler, path)
    _write_files(given, found.plan, outcome, explorer, title=title, repeat=repeat)
    if outcome.finding is not None and outcome.finding.kind != found.finding.kind:
        click.echo(f"it is now: {outcome.finding.text}")
    return 0 if outcome.finding is None else 1


def _write_files(
    given: dict[str, Any],
    plan: Plan,
    outcome: Outcome,
    explorer: Explorer,
    *,
    title: str,
    repeat: str,
) -> None:
    """Write the history of `plan` as it was asked for: as a page, and as a trace."""
    trace, finding = outcome.network.trace, outcome.finding
    if given["html_file"] is not None:
        write_file(given["html_file"], history_page(plan, trace, finding, repeat))
    if given["trace_file"] is not None:
        near = None if finding is None else nearest(plan, outcome, explorer.run)
        write_trace(given["trace_file"], title, trace, finding, near)


def _tell(found: Diagnosis, given: dict[str, Any], explorer: Explorer) -> None:
    click.echo(f"\nseed {found.seed} fails: {found.finding.text}")
    if found.outcome is None:
        click.echo(
            "The same history did not fail when it was run again: what this handler does depends "
            "on more than the seed. Try --check-determinism."
        )
        return
    click.echo(
        f"shrunk in {words.counted(found.tries, 'try')}: {in_words(found.drawn, found.plan)}"
    )
    lines = all_lines(found.outcome.network.trace) if given["trace"] else found.story
    for line in lines:
        click.echo(line)
    replay_of = found.replay()
    replay_of.write(found.file)
    repeat = repeats(found.handler, found.file)
    click.echo(f"repeat: {repeat}")
    title = f"{found.handler}, seed {found.seed}"
    _write_files(given, found.plan, found.outcome, explorer, title=title, repeat=repeat)
    if given["trace_file"] is not None:
        click.echo(f"see it: anysock trace view {shlex.quote(str(given['trace_file']))}")
    for engine in given["confirm"]:
        click.echo(confirmed(replay_of, engine))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Code that has touched the real machine is one line."""
    try:
        yield
    except RealWorld as error:
        raise StartError(f"{error} (or let it pass: --real-world)") from None


def _engines(text: str) -> list[str]:
    """The engines under which what fails is tried."""
    if text == "none":
        return []
    names = text.split(",")
    for name in names:
        entry = ENGINES.get(name)
        if entry is None:
            raise UsageError(f"--confirm: unknown engine {name!r}: choose of {', '.join(ENGINES)}")
        if not entry.concurrent:
            raise UsageError(f"--confirm: the engine {name!r} serves one client at a time")
        if why_not := entry.why_not():
            raise UsageError(f"--confirm: the engine {name!r} {why_not}")
    return names


def _named_kinds(text: str) -> list[str]:
    """The kinds of faults that were asked for by name."""
    names = (part.strip().partition(":")[0].partition("=")[0] for part in text.split(","))
    return [name for name in dict.fromkeys(names) if name in FAULTS and name not in PRESETS]


def _options(given: tuple[str, ...]) -> dict[str, Any]:
    options = {}
    for each in given:
        written, is_set, value = each.partition("=")
        name = written.strip().removeprefix("--").replace("-", "_")
        if not is_set:
            raise UsageError(f"--option: expected NAME=VALUE, not {each!r}")
        if name not in OPTIONS:
            raise UsageError(f"--option: a server has no option {written!r}")
        if name in _NOT_FOR_PLANS:
            raise UsageError(f"--option: {written} has no place in a simulated network")
        options[name] = value
    return options
