import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.experiment.environment import python
from pipelines.tracking import package, promotion
from pipelines.tracking.promotion import promote, promote_if_better
from pipelines.tracking.registry import list_versions
from pipelines.tracking.store import connect


def aliases(tracking_uri: str) -> dict[str, int]:
    return {a: int(v) for a, v in connect(tracking_uri).get_registered_model("arae-tiny").aliases.items()}


def test_only_a_better_model_becomes_champion(register: Callable[..., int], tracking_uri: str) -> None:
    verdicts = [promote_if_better(tracking_uri, "arae-tiny", register(value)) for value in (3.0, 3.5, 2.0, 2.0)]
    assert [verdict for verdict, _ in verdicts] == ["champion", "candidate", "champion", "candidate"]
    assert verdicts[1][1] == "generation_perplexity 3.5 does not beat 3 of the champion, version 1"
    assert aliases(tracking_uri) == {"champion": 3, "candidate": 4}


def test_more_is_better_for_images(register: Callable[..., int], tracking_uri: str, image_checkpoint: Path) -> None:
    for value, expected in ((0.5, "champion"), (0.4, "candidate"), (0.6, "champion")):
        version = register(value, metric="generation_f1", checkpoint=image_checkpoint)
        assert promote_if_better(tracking_uri, "arae-tiny", version)[0] == expected


@pytest.mark.parametrize(
    "other",
    [{"data_fingerprint": "data-b"}, {"metric": "forward_perplexity"}, {"samples": 50}],
    ids=lambda o: next(iter(o)),
)
def test_a_champion_on_other_data_or_metric_is_not_beaten(
    other: dict[str, object], register: Callable[..., int], tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no `python` to type
    promote_if_better(tracking_uri, "arae-tiny", register(3.0))
    verdict, why = promote_if_better(tracking_uri, "arae-tiny", register(1.0, **other))
    assert verdict == "candidate"
    assert f"version 1 ({next(iter(other))} " in why
    assert f": {python()} pipelines/promote.py --model models:/arae-tiny/2 --alias champion" in why
    assert aliases(tracking_uri)["champion"] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_without_a_figure_is_no_champion(value: float, register: Callable[..., int], tracking_uri: str) -> None:
    assert promote_if_better(tracking_uri, "arae-tiny", register(value))[0] == "candidate"
    assert promote_if_better(tracking_uri, "arae-tiny", register(5.0))[0] == "champion"


def test_tags_that_another_program_wrote_are_no_figures(register: Callable[..., int], tracking_uri: str) -> None:
    promote_if_better(tracking_uri, "arae-tiny", register(3.0))
    for tag in ("value", "samples", "step"):
        connect(tracking_uri).set_model_version_tag("arae-tiny", "1", tag, "good")
    (row,) = list_versions(tracking_uri)
    assert (row["value"], row["samples"], row["step"]) == (None, None, None)
    second = register(2.0)
    connect(tracking_uri).set_model_version_tag(
        "arae-tiny", "1", "samples", str(list_versions(tracking_uri)[0]["samples"])
    )
    verdict, why = promote_if_better(tracking_uri, "arae-tiny", second)
    assert verdict == "candidate" and "whose value was not recorded by this program" in why


def test_crowning_again_changes_nothing(register: Callable[..., int], tracking_uri: str) -> None:
    version = register(3.0)
    for _ in range(2):
        assert promote_if_better(tracking_uri, "arae-tiny", version)[0] == "champion"
    assert aliases(tracking_uri) == {"champion": 1}


def test_a_candidate_that_wins_after_all_is_not_both(register: Callable[..., int], tracking_uri: str) -> None:
    promote_if_better(tracking_uri, "arae-tiny", register(3.0))
    promote_if_better(tracking_uri, "arae-tiny", register(4.0))
    connect(tracking_uri).delete_registered_model_alias("arae-tiny", "champion")
    assert promote_if_better(tracking_uri, "arae-tiny", 2)[0] == "champion"
    assert aliases(tracking_uri) == {"champion": 2}


def test_of_two_crowned_at_once_the_better_one_stays(
    register: Callable[..., int], tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have won against the champion of before when the better one is set, and then the worse one."""
    promote_if_better(tracking_uri, "arae-tiny", register(3.0))
    better, worse = register(1.0), register(2.0)
    client, compared, verdicts = connect(tracking_uri), threading.Barrier(2), dict[int, str]()
    first, both, waited = threading.Event(), threading.Event(), list[float]()
    set_alias = client.set_registered_model_alias

    def slow(name: str, alias: str, version: str) -> None:
        if not first.is_set():
            compared.wait(60)
        if version == str(worse):
            first.wait(60)
        set_alias(name, alias, version)
        (both if first.is_set() else first).set()

    def flush_with_retry(seconds: float) -> None:
        """Wait until the other one has set its alias too, however long that takes on a busy machine."""
        waited.append(seconds)
        assert both.wait(60)

    monkeypatch.setattr(client, "set_registered_model_alias", slow)
    monkeypatch.setattr(promotion, "time", SimpleNamespace(sleep=flush_with_retry))

    def crowned(version: int) -> None:
        verdicts[version] = promote_if_better(tracking_uri, "arae-tiny", version)[0]

    threads = [threading.Thread(target=crowned, args=(version,)) for version in (better, worse)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert aliases(tracking_uri)["champion"] == better and verdicts[better] == "champion"
    assert set(waited) == {promotion.SECONDS_TO_SETTLE}


def test_promote_tells_what_was_there_before(register: Callable[..., int], tracking_uri: str) -> None:
    register(), register()
    assert promote(tracking_uri, "models:/arae-tiny/1", "champion") == ("arae-tiny", 1, None)
    assert promote(tracking_uri, "models:/arae-tiny/2", "champion") == ("arae-tiny", 2, 1)
    assert aliases(tracking_uri) == {"champion": 2}


@pytest.mark.parametrize("alias", ["", "v3", "latest", "two words", "3"])
def test_an_alias_that_mlflow_would_misread(alias: str, register: Callable[..., int], tracking_uri: str) -> None:
    register()
    with pytest.raises(ValueError, match="--alias must be a word such as champion"):
        promote(tracking_uri, "models:/arae-tiny/1", alias)


def test_a_bad_checkpoint_is_not_registered(register: Callable[..., int], tracking_uri: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint folder"):
        register(checkpoint=tmp_path / "missing")
    assert list_versions(tracking_uri) == []


def test_what_could_not_be_packaged_is_no_model_that_is_ready(
    register: Callable[..., int], tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(package, "write_package", full)
        with pytest.raises(OSError, match="No space left"):
            register()
    register()
    client = connect(tracking_uri)
    experiment = client.get_experiment_by_name("arae-tiny")
    assert experiment is not None
    found = client.search_logged_models([experiment.experiment_id], order_by=[{"field_name": "creation_timestamp"}])
    assert [str(model.status) for model in found] in (["READY", "FAILED"], ["FAILED", "READY"])
    assert [row["version"] for row in list_versions(tracking_uri)] == [1]
