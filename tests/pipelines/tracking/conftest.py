from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.tracking import promotion, runs

Register = Callable[..., int]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to a database in a file take milliseconds."""
    monkeypatch.setattr(promotion, "SECONDS_TO_SETTLE", 0.2, raising=False)


@pytest.fixture
def register(tracking_uri: str, text_checkpoint: Path) -> Register:
    """Register the tiny text model as arae-tiny, with a run of its own; its version."""

    def one(
        value: float = 3.0,
        *,
        metric: str = "generation_perplexity",
        data_fingerprint: str = "data-a",
        samples: int = 100,
        checkpoint: Path = text_checkpoint,
        config: str = "tiny",
    ) -> int:
        run_id = runs.start_parent(tracking_uri, "arae-tiny", "run", params={"critic.steps": 5})
        return promotion.register(
            tracking_uri,
            checkpoint,
            config,
            run_id,
            metric=metric,
            value=value,
            data_fingerprint=data_fingerprint,
            samples=samples,
        )

    return one
