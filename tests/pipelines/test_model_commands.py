"""generate, interpolate, reconstruct and promote as they are typed, in this process (and --help in one of its own)."""

import gzip
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import normalizers

from arae_core.model import Model
from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
from pipelines import generate, interpolate, predict, promote, reconstruct, transfer
from pipelines.evaluation.drawing import tiled
from pipelines.tracking import promotion, runs

ROOT = Path(__file__).resolve().parents[2]
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking_uri: str
) -> Typed:
    """Run a command in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(command: Any, *words: object) -> tuple[int, str, str]:
        status = command.main([*map(str, words), "--tracking-uri", tracking_uri])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def result(out: str) -> Any:
    return json.loads(out.splitlines()[-1])


def test_generate_prints_one_sentence_a_line(typed: Typed, text_checkpoint: Path) -> None:
    expected = Model.load(text_checkpoint).generate(4, seed=3, temperature=0.5)
    words = ("--model", text_checkpoint, "--count", 4, "--seed", 3, "--temperature", 0.5)
    assert typed(generate, *words) == (0, "\n".join(expected) + "\n", "")
    status, out, _ = typed(generate, *words, "--json")
    assert (status, result(out)["sentences"]) == (0, expected)
    assert out.splitlines()[:-1] == expected


def test_generate_draws_as_the_model_was_chosen_by(typed: Typed, text_checkpoint: Path, tmp_path: Path) -> None:
    state, vocabulary, _ = load_checkpoint(text_checkpoint)
    state.settings = replace(state.settings, temperature=1.0)
    warm = save_checkpoint(tmp_path / "warm", state, vocabulary)
    drawn = Model.load(text_checkpoint).generate(9, seed=3, temperature=1.0)
    assert typed(generate, "--model", warm, "--count", 9, "--seed", 3)[1].splitlines() == drawn
    greedy = Model.load(text_checkpoint).generate(9, seed=3, temperature=0.0)
    assert typed(generate, "--model", warm, "--count", 9, "--seed", 3, "--temperature", 0)[1].splitlines() == greedy
    assert drawn != greedy


def test_links_and_pipes_are_written_to_and_not_replaced(typed: Typed, text_checkpoint: Path, tmp_path: Path) -> None:
    words = ("--model", text_checkpoint, "--count", 3, "--output")
    (tmp_path / "link.txt").symlink_to("target.txt")
    assert typed(generate, *words, "link.txt")[0] == 0
    expected = Model.load(text_checkpoint).generate(3)
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "target.txt").read_text().splitlines() == expected
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True) as reader:
        assert typed(generate, *words, "pipe")[0] == 0
        assert reader.communicate(timeout=60)[0].splitlines() == expected
    assert (tmp_path / "pipe").is_fifo()


def test_generate_writes_a_file_whole(typed: Typed, text_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "samples.txt").write_text("what was there before\n" * 100)
    status, out, _ = typed(generate, "--model", text_checkpoint, "--count", 3, "--output", "samples.txt", "--json")
    expected = Model.load(text_checkpoint).generate(3)
    assert status == 0
    assert (tmp_path / "samples.txt").read_text(encoding="utf-8").splitlines() == expected
    assert result(out)["output"] == "samples.txt"
    assert len(out.splitlines()) == 1
    assert not list(tmp_path.glob(".writing-*"))


@pytest.mark.parametrize(
    ("command", "words", "name", "shape"),
    [
        (generate, ["--count", "5"], "generated.png", (2 * 7 + 1, 3 * 6 + 1)),
        (interpolate, ["--steps", "4"], "interpolation.png", (8, 4 * 6 + 1)),
        (interpolate, ["--steps", "4", "--between", "3", "9"], "interpolation.png", (8, 4 * 6 + 1)),
        (generate, ["--count", "1", "--output", "one.png"], "one.png", (8, 7)),
    ],
)
def test_images_become_a_picture(
    command: Any, words: list[str], name: str, shape: tuple[int, int], typed: Typed, image_checkpoint: Path
) -> None:
    from matplotlib.image import imread

    status, _, err = typed(command, "--model", image_checkpoint, *words)
    assert status == 0
    assert name in err
    height, width = imread(name).shape[:2]
    assert (height / shape[0], width / shape[1]) == (112 // 6, 112 // 6)


def test_tiles_are_the_images() -> None:
    images = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2) % 2
    picture = tiled(images, 2)
    assert picture.shape == (7, 7)
    assert (picture[1:3, 4:6] == 255 * images[1]).all()
    assert (picture[4:6, 1:3] == 255 * images[2]).all()
    assert (picture[0] == 128).all()


def test_interpolate_between_sentences_and_between_noise(typed: Typed, text_checkpoint: Path) -> None:
    model, ends = Model.load(text_checkpoint), ("a man sleeps .", "two dog runs .")
    status, out, err = typed(interpolate, "--model", text_checkpoint, "--between", *ends, "--steps", 5)
    assert (status, out.splitlines(), err) == (0, model.interpolate(*ends, 5), "")
    status, out, _ = typed(interpolate, "--model", text_checkpoint, "--seed", 4)
    assert (status, out.splitlines()) == (0, model.interpolate_noise(7, seed=4))


def test_reconstruct_gives_a_line_for_each_line(typed: Typed, text_checkpoint: Path, tmp_path: Path) -> None:
    """Windows line ends, an empty line, an unknown word, a sentence past the limit, no newline at the end."""
    lines = ["a man sleeps .", "", "the zebra runs .", "a dog " + "runs " * 9 + ".", "two cat eats ."]
    (tmp_path / "in.txt").write_bytes("\r\n".join(lines).encode())
    status, out, err = typed(reconstruct, "--model", text_checkpoint, "--input", "in.txt", "--json")
    back = out.splitlines()[:-1]
    assert status == 0
    assert len(back) == len(lines)
    assert back[1] == ""
    assert back[0::4] == Model.load(text_checkpoint).reconstruct([lines[0], lines[4]])
    assert "1 of 5 lines are empty" in err
    assert "1 of 24 tokens are not in the model's vocabulary" in err
    assert "1 of 4 sentences have more than 6 tokens" in err
    figures = result(out)["metrics"]
    assert (figures["unknown_tokens"], figures["too_long"], figures["empty_lines"]) == (1, 1, 1)
    split = [(old.split(), new.split()) for old, new in zip(lines, back, strict=True)]
    right = sum(a == b for old, new in split for a, b in zip(old, new, strict=False))
    assert figures["token_accuracy"] == pytest.approx(right / 24)


@pytest.mark.parametrize("others", [[], ["a man sleeps ."]])
def test_text_without_tokens_stays_empty(
    others: list[str], typed: Typed, tmp_path: Path, text_checkpoint: Path, labelled_checkpoint: Path
) -> None:
    """A tokenizer may drop characters, such as the zero-width space."""
    for source, name in ((text_checkpoint, "plain"), (labelled_checkpoint, "labelled")):
        state, vocabulary, _ = load_checkpoint(source)
        assert vocabulary is not None
        dropping: Any = [normalizers.Replace("\u200b", ""), normalizers.Lowercase()]
        vocabulary.tokenizer.normalizer = normalizers.Sequence(dropping)
        save_checkpoint(tmp_path / name, state, vocabulary)
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in [*others, "\u200b"]))
    status, out, err = typed(reconstruct, "--model", "plain", "--input", "in.txt", "--json")
    lines = out.split("\n")[: len(others) + 1]
    assert status == 0 and lines == [*Model.load(text_checkpoint).reconstruct(others), ""]
    assert f"1 of {len(lines)} lines are empty or have no tokens, and stay empty" in err
    assert result(out)["metrics"]["sentences"] == len(others)
    status, out, _ = typed(transfer, "--model", "labelled", "--to", "human", "--input", "in.txt")
    assert status == 0 and out.split("\n")[len(others)] == ""
    status, _, err = typed(interpolate, "--model", "plain", "--between", "a man .", "\u200b")
    assert status == 2 and "--between must be two sentences, got one that is empty or has no tokens" in err
    model = Model.load(tmp_path / "labelled")
    assert model.transfer(["\u200b", "a man ."], "human")[0] == "" == model.reconstruct(["\u200b"])[0]
    for refused in (lambda: model.encode(["a man .", "\u200b"]), lambda: model.interpolate("a man .", "", 3)):
        with pytest.raises(ValueError, match="sentence 2 of 2 has no tokens"):
            refused()


def test_reconstruct_reads_stdin_and_shows_pairs(
    typed: Typed, text_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a man sleeps .\nthe boy runs .\n")))
    status, out, _ = typed(reconstruct, "--model", text_checkpoint, "--pairs")
    first, second = Model.load(text_checkpoint).reconstruct(["a man sleeps .", "the boy runs ."])
    assert (status, out) == (0, f"a man sleeps .\t{first}\nthe boy runs .\t{second}\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [(reconstruct, ()), (transfer, ("--to", "positive")), (predict, ())],
    ids=("reconstruct", "transfer", "predict"),
)
def test_nobody_types_for_a_model_that_is_not_there(
    typed: Typed, command: Any, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"a man sleeps .\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    status, out, err = typed(command, "--model", "none", *words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert stdin.buffer.read() == b"a man sleeps .\n"


def test_reconstruct_reads_images_as_lines_of_pixels(typed: Typed, image_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("01" * 15 + "\n" + " ".join("1" * 30) + "\n")
    status, out, _ = typed(reconstruct, "--model", image_checkpoint, "--input", "in.txt", "--pairs", "--json")
    images = np.array([[0, 1] * 15, [1] * 30], np.uint8).reshape(2, 6, 5)
    back = Model.load(image_checkpoint).reconstruct(images)
    assert status == 0
    assert result(out)["metrics"]["pixel_accuracy"] == pytest.approx((images == back).mean())
    assert (tmp_path / "reconstruction.png").is_file()


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (generate, [], "--model is required"),
        (promote, ["--alias", "best"], "--alias best needs --model"),
        (promote, ["--model", "models:/arae-x/1", "--alias", 300 * "x"], "such as champion, of at most 255 characters"),
        (generate, ["--model", "TEXT", "--count", "0"], "--count must be >= 1, got 0"),
        (generate, ["--model", "TEXT", "--count", str(10**12)], "got 1000000000000: the codes would not fit into"),
        (generate, ["--model", "IMAGE", "--count", str(10**30)], "--count must be <= "),
        (interpolate, ["--model", "TEXT", "--steps", str(10**12)], "--steps must be <= "),
        (generate, ["--model", "TEXT", "--seed", "-1"], "--seed must be in [0, 2**32), got -1"),
        (generate, ["--model", "TEXT", "--temperature", "nan"], "--temperature must be >= 0 and finite, got nan"),
        (generate, ["--model", "TEXT", "--cuont", "3"], "did you mean --count?"),
        (generate, ["--model", "TEXT", "--output", "missing/out.txt"], "the folder missing does not exist"),
        (generate, ["--model", "TEXT", "--output", "."], "is a folder"),
        (generate, ["--model", "nowhere"], "--model nowhere: this folder does not exist"),
        (generate, ["--model", "models:/arae-x/1"], "registered: none yet"),
        (interpolate, ["--model", "TEXT", "--steps", "1"], "--steps must be >= 2, got 1"),
        (interpolate, ["--model", "TEXT", "--between", "a man .", " "], "--between must be two sentences"),
        (interpolate, ["--model", "IMAGE", "--between", "a man .", "a dog ."], "--between must be two seeds"),
        (reconstruct, ["--model", "TEXT", "--input", "missing.txt"], "cannot be read (No such file or directory)"),
        (reconstruct, ["--model", "TEXT", "--input", "empty.txt"], "is empty"),
        (
            reconstruct,
            ["--model", "TEXT", "--input", "latin.txt"],
            "latin.txt, line 2 is not UTF-8 (byte 0xe9); ",
        ),
        (reconstruct, ["--model", "TEXT", "--input", "zipped.txt"], "is not text, it is compressed with gzip"),
        (reconstruct, ["--model", "IMAGE", "--input", "text.txt"], "--input text.txt: line 1 must be 6 x 5 pixels"),
        (generate, ["--model", ""], "--model is empty: this folder is not a checkpoint"),
        (promote, ["--model", "models:/arae-x/1"], "no model 'arae-x' is registered"),
        (promote, ["--model", "./folder"], "--model must be models:/NAME/VERSION"),
    ],
)
def test_a_mistake_is_one_clear_line(
    command: Any,
    words: list[str],
    message: str,
    typed: Typed,
    text_checkpoint: Path,
    image_checkpoint: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty.txt").write_bytes(b"\n\n")
    (tmp_path / "latin.txt").write_bytes("a man .\nun café .\n".encode("latin-1"))
    (tmp_path / "text.txt").write_text("a man .\n")
    (tmp_path / "zipped.txt").write_bytes(gzip.compress(b"a man .\n"))
    models = {"TEXT": str(text_checkpoint), "IMAGE": str(image_checkpoint)}
    status, out, err = typed(command, *(models.get(word, word) for word in words))
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_checkpoint_with_a_pickle_in_it_is_not_read(typed: Typed, text_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(text_checkpoint, tmp_path / "checkpoint")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04.")
    status, _, err = typed(generate, "--model", folder)
    assert status == 2
    assert "optimizer.pt" in err


def test_promote_lists_and_moves_an_alias(typed: Typed, text_checkpoint: Path, tracking_uri: str) -> None:
    assert "no models are registered" in typed(promote)[1]
    run_id = runs.start_parent(tracking_uri, "arae-tiny", "run", params={})
    for value in (3.0, 2.0):
        promotion.register(
            tracking_uri,
            text_checkpoint,
            "tiny",
            run_id,
            metric="generation_perplexity",
            value=value,
            data_fingerprint="0123456789abcdef",
            samples=9,
        )
    status, out, _ = typed(promote, "--model", "models:/arae-tiny/1", "--alias", "champion", "--json")
    assert (status, out.splitlines()[0]) == (0, "champion of arae-tiny: version 1 (before: none)")
    status, out, _ = typed(promote, "--model", "models:/arae-tiny/2", "--list", "--json")
    assert out.splitlines()[0] == "champion of arae-tiny: version 2 (before: version 1)"
    assert result(out)["before"] == 1
    assert [row["aliases"] for row in result(out)["models"]] == [["champion"], []]
    _, table, _ = typed(promote)
    lines = [line.replace("┃", "│") for line in table.splitlines() if line.startswith(("┃", "│"))]
    header, newest, oldest = ([cell.strip() for cell in line.split("│")[1:]] for line in lines)
    assert header[:7] == ["model", "version", "aliases", "metric", "value", "data", "step"]
    assert newest[:6] == ["arae-tiny", "2", "champion", "generation_perplexity", "2", "0123456789ab"]
    assert (oldest[1], oldest[2]) == ("1", "")
    status, out, _ = typed(generate, "--model", "models:/arae-tiny@champion", "--count", 2)
    assert (status, out.splitlines()) == (0, Model.load(text_checkpoint).generate(2))


def test_a_server_that_is_down_is_said_at_once(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert promote.main(["--tracking-uri", "http://127.0.0.1:9"]) == 2
    assert "no MLflow server answers there" in capsys.readouterr().err
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["generate", "interpolate", "reconstruct", "promote"])
def test_help_as_a_script_is_quick_and_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "pipelines" / f"{name}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--model" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "arae_core.settings" in imported
    assert not imported & {"torch", "mlflow", "ray", "pandas", "tokenizers", "datasets", "matplotlib"}
