"""The command line without a session: init, validate, jobs, messages and exit codes in both languages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from causal_spark import cli, job
from causal_spark.errors import CausalSparkError, GateError
from causal_spark.methods.findings import Findings
from causal_spark.words import LANGUAGES, catalogue, say
from tests.run import ROOT


def test_init_writes_a_configuration_that_validates(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "experiment"]) == 0
    assert cli.main(["validate", "experiment.yml"]) == 0
    assert capsys.readouterr().out.split() == ["experiment.yml", "ok"]
    assert cli.main(["init", "experiment"]) == 2
    assert "experiment.yml exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", job.JOBS)
def test_the_repository_holds_the_configuration_that_init_writes(name: str) -> None:
    path = ROOT / "conf" / f"{name}.yml"
    assert not path.is_symlink()  # `databricks bundle deploy` leaves links out
    assert path.read_text(encoding="utf-8") == cli.template(name)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("method.alhpa=0.1", "alpha"),
        ("method.alpha=high", "a number"),
        ("method.alpha=2", "between 0 and 1"),
        ("method.metrics.0.kind=average", "revenue"),
        ("method.metrics.9.kind=mean", "9"),
        ("input.events.format=xml", "parquet"),
        ("output.path=data/events/out", "inside the other"),
        ("tracking.urll=x", "uri"),
        ("method.shares={control: 0.5, treatment: 0.6}", "1.1"),
        ("method.control=ctrl", "treatment"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(tmp_path, monkeypatch, capsys, change, named) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["init", "experiment"])
    for language in LANGUAGES:
        monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
        capsys.readouterr()
        assert cli.main(["validate", "experiment.yml", "--set", change]) == 2
        message = capsys.readouterr().err
        assert len(message.strip().splitlines()) == 1
        assert language == "zh" or named in message


def test_an_unknown_job_names_the_jobs(capsys) -> None:
    assert cli.main(["init", "experimnt"]) == 2
    assert "experiment" in capsys.readouterr().err


def test_validating_needs_no_engine(tmp_path) -> None:
    code = (
        "import sys; sys.modules['pyspark'] = None; sys.modules['mlflow'] = None\n"
        "from causal_spark import cli\n"
        "cli.main(['init', 'experiment', '--path', sys.argv[1]]); sys.exit(cli.main(['validate', sys.argv[1]]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.yml")], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_both_languages_say_the_same_with_the_same_placeholders() -> None:
    import string

    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    for key, sentence in english.items():
        placeholders = [
            {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
            for text in (sentence, chinese[key])
        ]
        assert placeholders[0] == placeholders[1], key


def test_an_error_speaks_both_languages() -> None:
    error = CausalSparkError("missing_key", where="method", key="unit")
    assert "unit" in str(error)
    assert "unit" in error.text("zh")
    assert str(error) != error.text("zh")


def test_a_stage_may_name_what_it_works_on(capsys) -> None:
    """Several treatments are compressed one after the other."""
    with cli._progress("en") as progress:
        progress("compress")
        progress("compress mail")
    first, second = capsys.readouterr().err.splitlines()
    assert second == f"{first}: mail"


def test_what_the_gate_found_is_said_in_either_language() -> None:
    """Also where the findings themselves are kept in the language of the report."""
    found = Findings("en")
    found.add("NULL_KEY", "stop", "units", "user_id", count=3, share=0.01)
    with pytest.raises(GateError) as caught:
        found.refuse()
    for language in LANGUAGES:
        sentence = say("check_null_key", language, table="units", column="user_id", count="3", share="1.0%")
        assert f"NULL_KEY: {sentence}" in caught.value.text(language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_errors_speak_the_language_of_the_report(language: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", "en" if language == "zh" else "zh")
    file = tmp_path / "budget.yml"
    file.write_text(f"job: budget\nreport: {{language: {language}}}\ninput: {{history: {{table: {tmp_path}/none}}}}\n"
                    f"method: {{risk: -1}}\noutput: {{path: {tmp_path}/out}}\n", encoding="utf-8")  # fmt: skip
    for command in ("run", "validate"):
        assert cli.main([command, str(file)]) == 2
        told = capsys.readouterr().err
        assert ("应为" in told) == (language == "zh") and ("expected" in told) == (language == "en"), command
