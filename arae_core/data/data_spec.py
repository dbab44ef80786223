"""Facts about the data that a model is built for, beside its settings. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextSpec:
    """Facts about sentences: the size of the vocabulary and the ids of the special tokens."""

    vocabulary: int
    pad: int = 0
    start: int = 1
    end: int = 2
    unknown: int = 3
    classes: tuple[str, ...] = ()
    """Names of the values of the attribute y; empty without labels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # JSON turns tuples into lists
        assert len(self.classes) != 1 and len(set(self.classes)) == len(self.classes), self.classes


@dataclass(frozen=True)
class ImageSpec:
    """Facts about images: height and width in pixels."""

    height: int
    width: int


DataSpec = TextSpec | ImageSpec
