"""Golden traces: the losses of the first 50 iterations on a small fixed corpus, committed beside this file.

A change that moves them must explain why and write them anew: `python tests/arae_core/test_golden.py --write`.
"""

import json
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: import from the repository
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import pytest

from arae_core.training.loop import train
from tests.arae_core.small import new_state, settings_of, store_of

GOLDEN = Path(__file__).parent / "golden"
ITERATIONS = 50
MEASURES = ("reconstruction_loss", "distance")


def trace(kind: str) -> dict[str, list[float]]:
    """Measures of each of the first iterations of a small model."""
    changes = {"encoder.word_dropout": 0.2, "code.noise_decay": 0.9} if kind == "text" else {}
    reports = list(train(new_state(settings_of(kind, changes)), store_of(kind), until=ITERATIONS, every=1))
    return {measure: [report.scalars[measure] for report in reports] for measure in MEASURES}


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_first_iterations_equal_the_golden_traces(kind: str) -> None:
    golden, now = json.loads((GOLDEN / f"{kind}.json").read_text()), trace(kind)
    for measure in MEASURES:
        assert len(now[measure]) == ITERATIONS
        for i, (value, expected) in enumerate(zip(now[measure], golden[measure], strict=True)):
            assert value == pytest.approx(expected, rel=1e-6, abs=1e-9), f"{measure} of iteration {i}"


def main(arguments: list[str]) -> int:
    if arguments != ["--write"]:
        print("to write the traces anew: python tests/arae_core/test_golden.py --write", file=sys.stderr)
        return 2
    GOLDEN.mkdir(exist_ok=True)
    for kind in ("text", "image"):
        (GOLDEN / f"{kind}.json").write_text(json.dumps(trace(kind), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
