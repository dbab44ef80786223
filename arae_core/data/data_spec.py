"""What a model must know of its data, whatever its settings. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextSpec:
    """What a model of sentences must know of its data: ids in the vocabulary, and which of them are the marks."""

    vocabulary: int
    pad: int = 0
    start: int = 1
    end: int = 2
    unknown: int = 3
    classes: tuple[str, ...] = ()
    """Names of the values of the attribute y; none where the sentences have no labels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # JSON makes lists of tuples
        assert len(self.classes) != 1 and len(set(self.classes)) == len(self.classes), self.classes


@dataclass(frozen=True)
class ImageSpec:
    """What a model of images must know of its data: pixels high and wide."""

    height: int
    width: int


DataSpec = TextSpec | ImageSpec
