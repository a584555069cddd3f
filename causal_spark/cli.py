"""The command ``causal-spark`` and the entry of ``spark-submit jobs/<job>.py``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from causal_spark import __version__, job, storage
from causal_spark.config import convert, load, override, parse
from causal_spark.errors import CausalSparkError, ConfigError, printable, scrub
from causal_spark.outputs import read_manifest
from causal_spark.results import Estimate
from causal_spark.words import LANGUAGES, say

STAGES = ("read", "gate", "prepare", "compress", "solve", "report", "track")
DEMO = {
    "job": "experiment",
    "input": {"exposures": {"table": "exposures"}, "events": {"table": "events"}},
    "tracking": {"uri": "sqlite:///mlflow.db", "experiment": "shop-demo"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed while running, 2 configuration or usage, 3 the data gate refused."""
    arguments = _parser().parse_args(argv)
    language = _language(arguments)
    try:
        return int(arguments.do(arguments, language))
    except CausalSparkError as error:
        print(error.text(_language(arguments)), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("CAUSAL_SPARK_TRACEBACK"):
            raise
        reason = printable(scrub(" ".join(str(error).split())[:300]))
        print(say("unexpected", _language(arguments), kind=type(error).__name__, reason=reason), file=sys.stderr)
        return 1


def console() -> None:
    """The console script. It raises for any code but 0: a wheel task of Databricks ignores what is returned."""
    code = main()
    if code:
        sys.exit(code)


def submit(name: str, argv: Sequence[str]) -> int:
    """``spark-submit jobs/<name>.py --config ...``: the run of one job."""
    return main(["run", "--job", name, *argv])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="causal-spark", description="What really moved the number?")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="run a job on a configuration")
    run.add_argument("file", nargs="?", help="the configuration (YAML)")
    run.add_argument("--config", help="the configuration (YAML)")
    run.add_argument("--job", help="the job, if the configuration does not name it")
    run.add_argument("--engine", choices=("spark", "sail"), help="force an engine")
    _add_set(run)
    run.set_defaults(do=_run)

    jobs = commands.add_parser("jobs", help="list the jobs")
    jobs.set_defaults(do=_jobs)

    init = commands.add_parser("init", help="write a commented configuration")
    init.add_argument("job")
    init.add_argument("--path", help="where to write it (default: <job>.yml)")
    init.set_defaults(do=_init)

    validate = commands.add_parser("validate", help="check a configuration without running it")
    validate.add_argument("file")
    _add_set(validate)
    validate.set_defaults(do=_validate)

    resolve = commands.add_parser("resolve", help="solve a finished run again, without its table")
    resolve.add_argument("path", help="the output folder of the run")
    _add_set(resolve)
    resolve.set_defaults(do=_resolve)

    demo = commands.add_parser("demo", help="simulate a shop experiment and analyse it")
    demo.add_argument("--folder", default="out/demo", help="where data and results go")
    demo.add_argument("--units", type=int, default=250_000)
    demo.add_argument("--engine", choices=("spark", "sail"))
    demo.add_argument("--language", choices=LANGUAGES)
    demo.set_defaults(do=_demo)
    return parser


def _add_set(parser: argparse.ArgumentParser) -> None:
    text = "override a setting, as in method.alpha=0.01"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def _language(arguments: argparse.Namespace) -> str:
    """The language of messages: that of the report or --language, CAUSAL_SPARK_LANGUAGE, else that of the locale."""
    for name in (getattr(arguments, "language", None), os.environ.get("CAUSAL_SPARK_LANGUAGE")):
        if name in LANGUAGES:
            return str(name)
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"


def _jobs(arguments: argparse.Namespace, language: str) -> int:
    for name in job.JOBS:
        print(f"{name}: {(job.family(name).__doc__ or '').strip()}")
    return 0


def _init(arguments: argparse.Namespace, language: str) -> int:
    job.family(arguments.job)
    path = Path(arguments.path or f"{arguments.job}.yml")
    if path.exists():
        raise ConfigError("file_exists", path=path)
    path.write_text(template(arguments.job), encoding="utf-8")
    print(path)
    return 0


def template(name: str) -> str:
    """The commented configuration of a job."""
    return files("causal_spark.templates").joinpath(f"{name}.yml").read_text(encoding="utf-8")


def _validate(arguments: argparse.Namespace, language: str) -> int:
    data = load(arguments.file, arguments.set)
    arguments.language = _data_language(data, language)
    job.validate(data, str(data.get("job", "")))
    print("ok")
    return 0


def _run(arguments: argparse.Namespace, language: str) -> int:
    path = arguments.config or arguments.file
    if path is None:
        raise ConfigError("missing_key", where="causal-spark run", key="--config")
    data = load(path, arguments.set)
    name = str(data.get("job") or arguments.job or "")
    if arguments.job and name != arguments.job:
        raise ConfigError("other_job", got=name, job=arguments.job)
    arguments.language = _data_language(data, language)
    return _report(data, name, arguments.engine, arguments.language)


def _data_language(data: Mapping[str, Any], language: str) -> str:
    """The report's language is that of the messages, where it is set."""
    report = data.get("report")
    chosen = report.get("language") if isinstance(report, Mapping) else None
    return str(chosen) if chosen in LANGUAGES else language


def _report(data: Mapping[str, Any], name: str, engine: str | None, language: str) -> int:
    with _progress(language) as progress:
        outcome = job.run(data, name, engine, progress)
    return show(outcome, data, language)


def _resolve(arguments: argparse.Namespace, language: str) -> int:
    changes = override({}, arguments.set)
    arguments.language = str(read_manifest(arguments.path).get("language"))
    for key in changes:
        if key not in ("method", "output"):
            raise ConfigError("unknown_key", where="resolve --set", key=key, hint="method, output")
    method, output = (convert(Mapping[str, Any], changes.get(key, {}), key) for key in ("method", "output"))
    for key in output:
        if key != "path":
            raise ConfigError("unknown_key", where="output", key=key, hint="path")
    path = convert(str | None, output.get("path"), "output.path")
    outcome = job.resolve(arguments.path, method, path)
    return show(outcome, {"output": {"path": outcome.manifest["path"]}}, _language(arguments))


def _demo(arguments: argparse.Namespace, language: str) -> int:
    from causal_spark import simulate

    folder = storage.check(arguments.folder)
    data_folder = storage.join(folder, f"data-{arguments.units}")
    if not storage.exists(storage.join(data_folder, "events")):
        simulate.write(simulate.shop_experiment(arguments.units), Path(storage.local(data_folder)))
    data: dict[str, Any] = parse(template("demo"), "demo")
    data["input"] = {role: {"table": storage.join(data_folder, role)} for role in ("exposures", "events")}
    data["output"] = {"path": storage.join(folder, f"result-{language}")}
    data["report"] = {**data.get("report", {}), "language": language}
    return _report(data, "experiment", arguments.engine, language)


@contextmanager
def _progress(language: str) -> Iterator[job.Progress]:
    """A bar over the stages on a terminal, a line for each elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage: print(_told(stage, language), file=sys.stderr, flush=True)
        return
    bar = Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console)
    with bar:
        task = bar.add_task("", total=len(STAGES))

        def advance(stage: str) -> None:
            done = STAGES.index(stage.partition(" ")[0])
            bar.update(task, completed=done, description=_told(stage, language))

        yield advance
        bar.update(task, completed=len(STAGES))


def _told(stage: str, language: str) -> str:
    """A stage in words; it may name what it works on: "compress mail"."""
    name, _, detail = stage.partition(" ")
    text = say(f"stage_{name}", language)
    return f"{text}: {detail}" if detail else text


def show(outcome: job.Outcome, data: Mapping[str, Any], language: str) -> int:
    """Print the estimates and where everything is. Exit code 1 if only the tracking failed."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    manifest, path = outcome.manifest, (data.get("output") or {}).get("path") or ""
    if outcome.result is not None:
        console.print(_table(outcome.result.estimates))
    elif path:
        console.print(_table(storage.read_frame(storage.join(path, "estimates"))))
    for line in _decisions(outcome, path, language):
        console.print(line, soft_wrap=True)
    for note in manifest["notes"]:
        console.print(f"• {escape(printable(note))}")
    if not manifest["trusted"]:
        why = next(iter(manifest["notes"]), "")
        console.print(f"[bold red]{escape(say('done_untrusted', language, why=printable(why)))}[/]")
    for line in _endings(outcome, data, path, language):
        console.print(escape(line), soft_wrap=True)
    if outcome.tracking_error is not None:
        print(outcome.tracking_error.text(language), file=sys.stderr)
        return outcome.tracking_error.exit_code
    return 0


def _decisions(outcome: job.Outcome, path: str, language: str) -> Iterator[str]:
    """What to do about each contrast of an experiment, where a rule was declared."""
    manifest, table = outcome.manifest, None
    if manifest.get("job") == "experiment" and "decision" in manifest["tables"]:
        kept = outcome.result.diagnostics if outcome.result is not None else {}
        table = kept["decision"] if kept else storage.read_frame(storage.join(path, "decision")) if path else None
    for row in [] if table is None else table.to_dict("records"):
        verdict = escape(say(f"decision_{row['verdict']}", language))
        yield f"{escape(printable(str(row['contrast'])))}: [bold]{verdict}[/] {escape(printable(str(row['sentence'])))}"


def _endings(outcome: job.Outcome, data: Mapping[str, Any], path: str, language: str) -> Iterator[str]:
    """What was read, and where report and MLflow run are."""
    manifest = outcome.manifest
    if outcome.repeated:
        yield say("done_noop", language, path=path or manifest["run_key"])
    counted = {"rows": f"{manifest.get('rows') or 0:,}", "seconds": manifest.get("seconds")}
    yield say("done_seconds", language, **counted, engine=manifest.get("engine"))
    if path:
        yield say("done_report", language, path=storage.join(path, "report.html"))
    if manifest.get("mlflow_run"):
        given = (data.get("tracking") or {}).get("uri") or os.environ.get("MLFLOW_TRACKING_URI")
        uri = scrub(given or "sqlite:///mlflow.db")
        command = f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite") else uri
        yield say("done_tracking", language, run=manifest["mlflow_run"], command=command)


def _table(estimates: pd.DataFrame) -> Table:
    """The estimates over all units, for a terminal."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("outcome", "contrast", "term", "method", "estimate", "interval", "p_value", "p_adjusted", "n"):
        table.add_column(name, justify="left" if name in ("outcome", "contrast", "term", "method") else "right")
    for values in estimates[estimates["segment"] == "all"].to_dict("records"):
        row = Estimate(**{str(name): value for name, value in values.items()})
        percent = row.term.endswith("lift")
        ends = [_number(end, percent) for end in (row.conf_low, row.conf_high)]
        interval = "–" if ends == ["–", "–"] else f"[{ends[0]}, {ends[1]}]"
        cells = [row.outcome, row.contrast, row.term, row.method, _number(row.estimate, percent), interval,
                 _p(row.p_value), _p(row.p_adjusted), f"{row.n:,.0f}" if row.n == row.n else "–"]  # fmt: skip
        table.add_row(*(escape(printable(cell)) for cell in cells))
    return table


def _number(value: float, percent: bool) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if percent:
        return f"{value:+.2%}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< 1e-300" if value < 1e-300 else f"{value:.3g}"


if __name__ == "__main__":
    console()
