"""Tell the class of sentences, or of pairs, by a classifier that classify.py has trained: one line out for each in.

    python pipelines/predict.py --model runs/classifications/NAME/classifiers/BEST < examples.txt

The two sentences of a pair stand on one line, with a tab between.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.cli.model_commands import INPUT, OUTPUT, check_output, check_sentences, lines_and, show

OPTIONS = (
    Option("model", Path, None, "Folder of a classifier, as classify.py names it at its end.", required=True),
    INPUT,
    Option("pairs", bool, False, "Put each example and a tab before its class."),
    OUTPUT,
)
SHOWN = 60
"""Characters of a wrong line that its error repeats."""


def predict(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "Tell the class of sentences.", OPTIONS)
    check_output(options.output)
    from arae_core.classification import SentenceClassifier

    lines, classifier = lines_and(lambda: SentenceClassifier.load(options.model), options.input)
    per = classifier.head.sentences
    examples = [line.split("\t") for line in lines]
    for i, example in enumerate(examples, 1):
        if len(example) != per or not all(text.strip() for text in example):
            wanted = "a sentence" if per == 1 else f"{per} sentences with a tab between"
            shown = lines[i - 1] if len(lines[i - 1]) <= SHOWN else f"{lines[i - 1][:SHOWN]}..."
            name = "stdin" if options.input is None else f"--input {options.input}"
            raise ValueError(f"{name}: line {i} must hold {wanted}, got {shown!r}")
    sentences = [text for example in examples for text in example]
    check_sentences(classifier, sentences, "words past the {longest}th are not read")
    found = classifier.classify(examples)
    pairs = [f"{line}\t{label}" for line, label in zip(lines, found, strict=True)]
    output = show(pairs if options.pairs else found, options.output, picture="")
    if options.json:
        emit_json({"model": str(options.model), "classes": found, "output": output})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(predict, arguments)


if __name__ == "__main__":
    sys.exit(main())
