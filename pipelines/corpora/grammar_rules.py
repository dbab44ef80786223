"""Rules and words of the built-in corpus: captions like those of SNLI.

A block of RULES is a symbol and, indented, its right-hand sides with their weights. A letter in brackets stands for
each of its FEATURES in turn, the same one throughout a rule: shared letters express agreement and selection. If a
letter is only on the right, its features share the weight equally. A symbol in lower case is a word.
"""

import itertools
import re
from collections.abc import Iterator

from pipelines.corpora.context_free import Lexicon, Rules

TENSES = ("present", "progressive", "past")
NUMBERS = ("singular", "plural")
SENTIMENTS = ("neutral", "positive", "negative")

FEATURES = {
    "t": TENSES,
    "u": ("present", "past"),  # tense of a relative clause
    "n": NUMBERS,  # number of the subject, or of the only noun
    "m": NUMBERS,  # number of another noun
    "x": SENTIMENTS,
    "s": SENTIMENTS[1:],
    "k": ("person", "animal"),  # kind of being
    "c": ("tool", "food", "vehicle", "clothes"),  # kind of thing, and of the verbs that take it as object
    "v": ("move", "act", "watch", "look", "play", "sniff", "tool", "food", "vehicle", "clothes"),  # kind of verb
    "f": ("feel", "treat"),  # kind of verb that has a sentiment
}

# Sentiment is the third feature of Sentence and the last feature of every symbol that can have one. At least one part
# of a sentence has the sentiment of the sentence, and the others have the same or none. The number of a sentence is
# that of its first noun phrase, its tense that of the main verb. To keep both unambiguous, no form of a verb is both
# present and past, and the parts of a coordinated subject are plain ("a man near a dog and a cat slept": one man).
RULES = """
Text
    1 Sentence[t,n,x]
Sentence[t,n,neutral]
    3 Subject[person,n,neutral] Predicate[person,t,n,neutral] .
    1 Subject[animal,n,neutral] Predicate[animal,t,n,neutral] .
Sentence[t,n,s]
    6 Subject[person,n,neutral] Predicate[person,t,n,s] .
    2 Subject[animal,n,neutral] Predicate[animal,t,n,s] .
    4 Subject[k,n,s] Predicate[k,t,n,neutral] .
    1 Subject[k,n,s] Predicate[k,t,n,s] .
Subject[k,n,x]
    32 Plain[k,n,x]
    3 Plain[k,n,x] Place
    1 Plain[k,n,x] Relative[k,n]
Subject[person,n,x]
    2 Plain[person,n,x] in Item[clothes,neutral]
Subject[person,plural,x]
    2 Plain[person,singular,x] and Plain[person,singular,neutral]
Plain[k,n,neutral]
    6 Determiner[n] Noun[k,n]
    3 Determiner[n] Trait[k] Noun[k,n]
Plain[k,n,s]
    9 Determiner[n] Mood[s] Noun[k,n]
    1 Determiner[n] Mood[s] Trait[k] Noun[k,n]
Determiner[singular]
    5 a
    4 the
    1 this
Determiner[plural]
    3 Amount
    2 the
Relative[k,n]
    3 that Action[k,u,n,neutral]
    2 that Subject[person,m,neutral] Verb[watch,u,m]
    1 that Subject[animal,m,neutral] Verb[watch,u,m]
Predicate[k,t,n,x]
    24 Action[k,t,n,x]
    5 Action[k,t,n,x] Place
    1 Action[k,t,n,x] and Action[k,t,n,neutral]
Predicate[k,t,n,neutral]
    3 Action[k,t,n,neutral] Manner[neutral]
Predicate[k,t,n,s]
    8 Action[k,t,n,neutral] Manner[s]
Action[k,t,n,neutral]
    6 Verb[move,t,n]
    3 Verb[watch,t,n] Being[neutral]
    2 Verb[look,t,n] at Being[neutral]
Action[person,t,n,neutral]
    3 Verb[act,t,n]
    14 Verb[c,t,n] Item[c,neutral]
    1 Verb[play,t,n] with Being[neutral]
    1 Verb[play,t,n] with Item[tool,neutral]
Action[animal,t,n,x]
    2 Verb[sniff,t,n] Item[c,x]
Action[person,t,n,s]
    3 Verb[c,t,n] Item[c,s]
    3 Verb[feel,s,t,n]
    5 Verb[treat,s,t,n] Being[neutral]
Action[k,t,n,s]
    3 Verb[watch,t,n] Being[s]
Verb[v,present,n]
    1 Present[v,n]
Verb[v,progressive,n]
    1 Be[n] Participle[v]
Verb[v,past,n]
    1 Past[v]
Verb[f,s,present,n]
    1 Present[f,s,n]
Verb[f,s,progressive,n]
    1 Be[n] Participle[f,s]
Verb[f,s,past,n]
    1 Past[f,s]
Being[x]
    30 Plain[k,singular,x]
    6 Plain[k,plural,x]
    1 Plain[k,singular,x] Place
Being[neutral]
    1 Plain[k,n,neutral] Relative[k,n]
Item[c,neutral]
    20 Determiner[singular] Noun[c,singular]
    12 Determiner[singular] Look Noun[c,singular]
    3 Determiner[plural] Noun[c,plural]
    1 Determiner[plural] Look Noun[c,plural]
    1 Determiner[n] Noun[c,n] that Plain[person,m,neutral] Verb[c,u,m]
Item[c,s]
    4 Determiner[singular] Quality[s] Noun[c,singular]
    1 Determiner[plural] Quality[s] Noun[c,plural]
Place
    15 in Determiner[singular] Noun[place]
    15 Preposition Determiner[singular] Noun[place]
    1 in Determiner[singular] Noun[place] Place
"""

# Words, the most frequent first. No word that "a" can precede begins with a vowel.
WORDS = {
    "Amount": "two some three several many",
    "Be[singular]": "is",
    "Be[plural]": "are",
    "Preposition": "near behind beside inside outside",
    "Noun[place]": "park street garden kitchen station market forest school library store barn museum church village "
    "theater hotel tent restaurant",
    "Trait[person]": "young little tall strong blond short",
    "Trait[animal]": "big brown black wild spotted hungry",
    "Look": "red small blue large green white wooden yellow",
    "Mood[positive]": "happy friendly cheerful kind gentle proud joyful",
    "Mood[negative]": "sad rude grumpy nasty cruel miserable lonely",
    "Quality[positive]": "beautiful lovely wonderful great perfect",
    "Quality[negative]": "broken horrible filthy terrible rotten",
    "Manner[neutral]": "quickly slowly quietly today again",
    "Manner[positive]": "happily calmly cheerfully gladly gracefully",
    "Manner[negative]": "sadly badly nervously bitterly miserably",
}
NOUNS = {
    "person": "man woman girl boy child player worker lady teacher singer farmer student doctor",
    "animal": "dog cat horse bird puppy goat rabbit monkey",
    "tool": "ball book bag box camera bottle chair lamp rope",
    "food": "sandwich cake pizza cookie banana salad",
    "vehicle": "car bicycle truck boat bus van",
    "clothes": "hat shirt jacket coat dress scarf",
}
VERBS = {
    "move": "walk run jump sleep rest wait",
    "act": "dance sing work sit",
    "watch": "watch follow chase find",
    "look": "look stare",
    "play": "play travel",
    "sniff": "sniff guard",
    "tool": "hold carry throw lift clean",
    "food": "eat cook buy share",
    "vehicle": "drive repair push",
    "clothes": "wear fold",
    "feel,positive": "smile laugh celebrate",
    "feel,negative": "cry frown complain",
    "treat,positive": "help hug praise",
    "treat,negative": "scare mock insult",
}
PLURALS = {"man": "men", "woman": "women", "child": "children", "scarf": "scarves"}
PASTS = {
    "run": "ran", "sleep": "slept", "sing": "sang", "sit": "sat", "find": "found", "hold": "held", "throw": "threw",
    "eat": "ate", "buy": "bought", "drive": "drove", "wear": "wore", "hug": "hugged",
}  # fmt: skip
DOUBLED = ("run", "sit", "hug")  # verbs that double the last letter before -ing
TAGS = {
    **dict.fromkeys(("a", "the", "this", "Amount"), "DT"),
    **dict.fromkeys(("Trait", "Look", "Mood", "Quality"), "JJ"),
    **dict.fromkeys(("in", "at", "with", "Preposition"), "IN"),
    **dict.fromkeys(("Be", "Present"), "VBZ"),
    **dict.fromkeys(("Be plural", "Present plural"), "VBP"),
    **{"Past": "VBD", "Participle": "VBG", "Noun": "NN", "Noun plural": "NNS", "Manner": "RB"},
    **{"that": "WDT", "and": "CC", ".": "."},
}
LETTER = re.compile(r"(?<=[\[,])\w(?=[\],])")


def rules() -> Rules:
    """Return symbol -> right-hand sides with weights: RULES with every letter filled in."""
    filled: dict[str, list[tuple[float, tuple[str, ...]]]] = {}
    left = ""
    for line in filter(None, RULES.splitlines()):
        if not line.startswith(" "):
            left = line
            continue
        weight, right = line.split(maxsplit=1)
        for chosen in _choices(left):
            sides = [_filled(right, chosen | more).split() for more in _choices(_filled(right, chosen))]
            filled.setdefault(_filled(left, chosen), []).extend((float(weight) / len(sides), tuple(s)) for s in sides)
    return filled


def lexicon() -> Lexicon:
    """Return part of speech -> words with weights. The r-th word of a list, from 0, has weight 1 / (r + 2)."""
    classes = {part: words.split() for part, words in WORDS.items()}
    for kind, nouns in NOUNS.items():
        classes[f"Noun[{kind},singular]"] = nouns.split()
        classes[f"Noun[{kind},plural]"] = [PLURALS.get(noun) or _with_s(noun) for noun in nouns.split()]
    for kind, verbs in VERBS.items():
        classes[f"Present[{kind},plural]"] = verbs.split()
        classes[f"Present[{kind},singular]"] = [_with_s(verb) for verb in verbs.split()]
        classes[f"Past[{kind}]"] = [PASTS.get(verb) or _past(verb) for verb in verbs.split()]
        classes[f"Participle[{kind}]"] = [_participle(verb) for verb in verbs.split()]
    return {part: {word: 1 / (r + 2) for r, word in enumerate(words)} for part, words in classes.items()}


def tag(part: str) -> str:
    """Return the Penn Treebank tag of a part of speech: number and verb form, without meaning and sentiment."""
    name, _, features = part.partition("[")
    return TAGS[name + " plural" if features.endswith("plural]") else name]


def _choices(template: str) -> Iterator[dict[str, str]]:
    letters = sorted(set(LETTER.findall(template)))
    for values in itertools.product(*(FEATURES[letter] for letter in letters)):
        yield dict(zip(letters, values, strict=True))


def _filled(template: str, chosen: dict[str, str]) -> str:
    return LETTER.sub(lambda letter: chosen.get(letter[0], letter[0]), template)


def _with_s(word: str) -> str:
    stem = _before_ending(word)
    return stem + ("es" if re.search(r"(i|s|x|ch|sh)$", stem) else "s")


def _past(verb: str) -> str:
    return _before_ending(verb) + ("d" if verb.endswith("e") else "ed")


def _participle(verb: str) -> str:
    return (verb + verb[-1] if verb in DOUBLED else verb.removesuffix("e")) + "ing"


def _before_ending(word: str) -> str:
    return re.sub(r"(?<![aeiou])y$", "i", word)
