"""Mistakes on the command lines of train, tune and classify are reported before Ray starts: one line, exit status 2."""

from pathlib import Path
from types import ModuleType

import pytest

from pipelines import classify, train, tune
from pipelines.runtime import cluster

BATCH = ["--workers", "3000", "--batch-size", "3000"]


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch: pytest.MonkeyPatch, ray_stays_off: None) -> None:
    monkeypatch.setattr(cluster, "this_machine", lambda: cluster.Room(2, 0, 2, 0, attached=False))


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        *(
            (program, [flag, value], message)
            for program in (train, tune, classify)
            for flag, value, message in (
                ("--storage", "/dev/null/here", "--storage /dev/null/here"),
                ("--run-name", "a/b", "--run-name must be"),
                ("--tracking-uri", "http://127.0.0.1:1", "no MLflow server answers"),
            )
        ),
        (train, BATCH, "workers must be <= "),
        (train, ["--run-name", ".."], "--run-name must be"),
        (train, ["--run-name", "\u00fcber"], "got '\u00fcber'"),
        (train, ["--tracking-uri", "sqlite://"], "--tracking-uri must be sqlite:///FILE"),
        (train, ["--storage", "s3://bucket/runs"], "--storage must be a folder"),
        (train, ["--critic.step", "3"], "did you mean --critic.steps"),
        (train, ["--batch-size", "9999"], "batch_size must be <= "),
        (train, ["--device", "cuda"], "device must be cpu or auto"),
        # the file is looked for before the server is asked
        (train, ["--data.source", "gramar.txt", "--tracking-uri", "http://127.0.0.1:1"], "'gramar.txt'"),
        (train, ["--config", "snli-entailment"], "config snli-entailment is for classify.py"),
        (tune, ["--config", "snli-entailment"], "config snli-entailment is for classify.py"),
        (tune, BATCH, "workers must be <= "),
        (tune, ["--space", "stabilty"], "--space must be one of critic_objective, learning_rates, stability"),
        (tune, ["--scheduler", "ash"], "scheduler must be one of asha, pbt, none"),
        (tune, ["--trials", "0"], "--trials must be >= 1"),
        (tune, ["--max-concurrent", "-1"], "--max-concurrent must be >= 0, got -1"),
        (tune, ["--scheduler", "pbt", "--trials", "1"], "--trials must be >= 2 with --scheduler pbt"),
        (tune, ["--scheduler", "pbt", "--max-concurrent", "2"], "--max-concurrent must be 0 with --scheduler pbt"),
        (tune, ["--scheduler", "pbt", "--search", "optuna"], "--search must be random with --scheduler pbt"),
        (tune, ["--gpus-per-trial", "nan"], "--gpus-per-trial must be >= 0, got nan"),
        (tune, ["--gpus-per-trial", "-1"], "--gpus-per-trial must be >= 0, got -1"),
        (tune, ["--gpus-per-trial", "64"], "workers must be <= 0 here"),
        (tune, ["--resume", "yesterday"], "--resume yesterday"),
        (classify, ["--methods", "arae,bert"], "--methods must be among supervised, ae, arae, got 'bert'"),
        (classify, ["--methods", "ae,ae"], "each once"),
        (classify, ["--labels", "3,x"], "labels must be an integer, or several separated by commas, got '3,x'"),
        (classify, ["--labels", "5,5"], "--labels must be different whole numbers >= 0"),
        (classify, ["--labels", "2"], "--labels must be from 3 to "),
        (classify, ["--labels", "100000"], "got 100000"),
        (classify, ["--seeds", "0"], "--seeds must be from 1 to 100, got 0"),
        (classify, ["--seed", str(2**32 - 1), "--seeds", "2"], "seed must be <= 4294967294 with --seeds 2"),
        (classify, ["--head.start", "0.96", "--iterations", "10"], "head.start must leave at least one of the 10 iter"),
        (classify, ["--critic.objective", "none"], "--methods supervised,ae leaves it out"),
        (classify, ["--config", "digits"], "kind must be text for classification, got 'image'"),
        (classify, ["--config", "grammar"], "data.label must be the column with the class"),
        (classify, ["--config", "grammar", "--data.label", "colour"], "data.label must be one of tense, number, sent"),
        (classify, ["--workers", "2"], "workers must be 1"),
        (classify, ["--head.dropout", "1"], "head.dropout must be"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, ModuleType) else "",
)
def test_a_mistake_is_reported_before_ray_starts(
    program: ModuleType,
    words: list[str],
    message: str,
    tmp_path: Path,
    tracking_uri: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = ["--storage", str(tmp_path), "--tracking-uri", tracking_uri, "--data.size", "600"]
    assert program.main([*shared, *words]) == 2
    *warnings, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and message in error
    assert all(line.startswith("warning: ") for line in warnings)
