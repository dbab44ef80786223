"""transfer as it is typed, and generate with an attribute."""

from pathlib import Path

import pytest

from arae_core.model import Model
from pipelines import generate, transfer
from tests.pipelines.test_model_commands import Typed, result, typed

__all__ = ["typed"]

LINES = ["a dog runs .", "", "the cat sleeps ."]


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(LINES) + "\n")
    (tmp_path / "dogs.txt").write_text("a dog runs .\n\nthe dog eats .\n")
    (tmp_path / "men.txt").write_text("a man runs .\nthe man eats .\n")


def test_a_line_out_for_each_line_in(typed: Typed, labelled_checkpoint: Path) -> None:
    words = ("--model", labelled_checkpoint, "--to", "human", "--input", "in.txt")
    status, out, err = typed(transfer, *words, "--json")
    first, second = Model.load(labelled_checkpoint).transfer([LINES[0], LINES[2]], "human")
    assert status == 0 and "1 of 3 lines are empty" in err
    assert out.splitlines()[:-1] == [first, "", second]
    figures = result(out)["metrics"]
    assert figures["sentences"] == 2 and figures["changed"] == ((LINES[0] != first) + (LINES[2] != second)) / 2
    status, out, _ = typed(transfer, *words, "--pairs", "--output", "out.txt")
    assert status == 0 and not out
    assert Path("out.txt").read_text().splitlines()[0] == f"{LINES[0]}\t{first}"


def test_contrast(typed: Typed, labelled_checkpoint: Path) -> None:
    status, out, _ = typed(
        transfer, "--model", labelled_checkpoint, "--to", "human", "--input", "in.txt", "--contrast", 9
    )
    expected = Model.load(labelled_checkpoint).transfer([LINES[0], LINES[2]], "human", contrast=9.0)
    assert (status, out.splitlines()[::2]) == (0, expected)


def test_by_the_difference_of_two_files(typed: Typed, text_checkpoint: Path) -> None:
    """No labels in training: the mean code of one file minus the mean code of the other."""
    model = Model.load(text_checkpoint)
    dogs, men = (model.encode([f"a {who} runs .", f"the {who} eats ."]).mean(0) for who in ("dog", "man"))
    expected = model.shift([LINES[0], LINES[2]], 2.0 * (men - dogs))
    words = ("--from-like", "dogs.txt", "--to-like", "men.txt", "--input", "in.txt")
    status, out, _ = typed(transfer, "--model", text_checkpoint, *words, "--strength", 2)
    assert (status, out.splitlines()) == (0, [expected[0], "", expected[1]])
    _, out, _ = typed(transfer, "--model", text_checkpoint, *words, "--strength", 0)
    assert out.splitlines()[::2] == model.reconstruct([LINES[0], LINES[2]])


def test_flags_without_effect_are_told(typed: Typed, labelled_checkpoint: Path) -> None:
    words = ("--model", labelled_checkpoint, "--input", "in.txt")
    _, out, err = typed(transfer, *words, "--to", "human", "--strength", 3)
    assert "warning: --strength has no effect with --to\n" in err
    assert out == typed(transfer, *words, "--to", "human")[1]
    sides = ("--from-like", "dogs.txt", "--to-like", "men.txt")
    assert "warning: --contrast has no effect without --to\n" in typed(transfer, *words, *sides, "--contrast", 0.3)[2]
    for flags in (("--to", "human", "--contrast", 0.3), (*sides, "--strength", 3)):
        assert "has no effect" not in typed(transfer, *words, *flags)[2]


def test_pairs_are_two_columns_whatever_a_line_holds(typed: Typed, labelled_checkpoint: Path) -> None:
    Path("tabs.txt").write_text("a\tdog\truns .\n")
    _, out, _ = typed(transfer, "--model", labelled_checkpoint, "--to", "human", "--input", "tabs.txt", "--pairs")
    assert out.startswith("a dog runs .\t") and out.count("\t") == 1


def test_generate_of_one_class(typed: Typed, labelled_checkpoint: Path) -> None:
    status, out, _ = typed(generate, "--model", labelled_checkpoint, "--count", 3, "--attribute", "animal")
    assert (status, out.splitlines()) == (0, Model.load(labelled_checkpoint).generate(3, attribute="animal"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "human", "--contrast", "-1"), "--contrast must be from 0 to 1e+06, got -1.0"),
        (("--to", "human", "--contrast", "1e300"), "--contrast must be from 0 to 1e+06, got 1e+300"),
        (("--to", "robot"), "--to must be one of animal, human, got 'robot'"),
        ((), "give either --to CLASS, or both --from-like FILE and --to-like FILE"),
        (("--to", "human", "--from-like", "dogs.txt", "--to-like", "men.txt"), "give either --to CLASS, or both"),
        (("--from-like", "dogs.txt"), "give either --to CLASS, or both"),
        (
            ("--from-like", "dogs.txt", "--to-like", "men.txt", "--strength", "nan"),
            "--strength must be a finite number",
        ),
        (("--from-like", "dogs.txt", "--to-like", "none.txt"), "--to-like none.txt cannot be read"),
    ],
)
def test_mistakes(typed: Typed, labelled_checkpoint: Path, words: tuple[str, ...], message: str) -> None:
    status, out, err = typed(transfer, "--model", labelled_checkpoint, "--input", "in.txt", *words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_models_that_cannot(typed: Typed, text_checkpoint: Path, image_checkpoint: Path) -> None:
    status, _, err = typed(transfer, "--model", text_checkpoint, "--input", "in.txt", "--to", "human")
    assert status == 2 and "this model has no attribute; train one with --data.label" in err
    status, _, err = typed(generate, "--model", text_checkpoint, "--attribute", "human")
    assert status == 2 and "--attribute human: this model has no attribute" in err
    status, _, err = typed(transfer, "--model", image_checkpoint, "--input", "in.txt", "--to", "human")
    assert status == 2 and "is a model of images" in err
