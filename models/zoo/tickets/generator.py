"""Makes support messages to route to a team: made-up customers, each with a way of writing.

No person wrote any of them. What holds by construction:

1. A message has one main topic, and its label is the team for it. Nearly half of the messages touch
   a second topic: as a *mention* that asks for nothing, or as a second ask, and then the message
   says which of the two comes first (`FIRST`, `LATER` in `phrases`).
2. `Conditions.vague` of the messages could go to either of two teams; chance says which.
3. `Conditions.misrouted` of the labels are another team's, in every part, test included.
4. An author keeps to a way of writing: favourite synonyms, greetings, order, and how often a word
   is misspelt. All messages of an author are in one part of the data.
5. The same seed, authors and conditions give the same messages.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.zoo.tickets.phrases import (
    ASKS,
    CLOSINGS,
    FILLERS,
    FIRST,
    GREETINGS,
    LATER,
    LINKS,
    MENTIONS,
    SLOTS,
    TEAMS,
    VAGUE,
)

Whole = npt.NDArray[np.int64]

_SLOT = re.compile(r"\{(\w+)\}")
_NEIGHBOURS = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wertyuioopsdfghjkllxcvbnmn", strict=True))
_FAVOURITE = 0.6


@dataclass(frozen=True)
class Conditions:
    """What is written and how; every field is a knob to make a drift with."""

    second_ask: float = 0.14
    """Share of messages with two asks, one of them said to matter less."""
    mention: float = 0.32
    """Share of messages that mention a topic and ask nothing of it."""
    vague: float = 0.03
    misrouted: float = 0.01
    typos: float = 1.0
    """Factor on every author's share of misspelt words."""
    teams: tuple[float, ...] = (1.0, 1.4, 1.0, 0.9, 1.0, 0.7)
    """How often each team is the main topic; only the ratios count."""


@dataclass(frozen=True)
class Messages:
    """Texts, the team each is labelled with, and who wrote them."""

    texts: tuple[str, ...]
    labels: Whole
    """Of `TEAMS`."""
    authors: Whole
    topics: Whole
    """How many topics each message touches; not part of the text."""


@dataclass(frozen=True)
class _Author:
    typos: float
    lower: bool
    greets: float
    closes: float
    fills: float
    main_first: float
    favourites: dict[str, str]


def messages(
    authors: range, each: int, *, seed: int, conditions: Conditions | None = None
) -> Messages:
    """`each` messages of every author, author by author.

    Raises:
        ValueError: no authors, no messages, or a share outside 0..1.
    """
    world = conditions or Conditions()
    if len(authors) == 0 or each < 1:
        raise ValueError(f"wanted authors and messages, not {authors} and {each}")
    for name in ("second_ask", "mention", "vague", "misrouted"):
        if not 0 <= getattr(world, name) <= 1:
            raise ValueError(f"{name} must lie in 0..1, not {getattr(world, name)}")
    if world.second_ask + world.mention > 1:
        raise ValueError("second_ask and mention are shares of the same messages: at most 1 in all")
    if len(world.teams) != len(TEAMS) or min(world.teams) < 0 or world.typos < 0:
        raise ValueError(f"wanted {len(TEAMS)} team weights and a factor of typos, none negative")
    written = [
        _message(chance, author, world)
        for chance, author in (_author(seed, number) for number in authors)
        for _ in range(each)
    ]
    texts, labels, topics = zip(*written, strict=True)
    return Messages(
        texts,
        np.array(labels, dtype=np.int64),
        np.repeat(np.array(authors, dtype=np.int64), each),
        np.array(topics, dtype=np.int64),
    )


def _author(seed: int, number: int) -> tuple[random.Random, _Author]:
    chance = random.Random(seed * 1_000_003 + number)
    return chance, _Author(
        typos=chance.choice((0.0, 0.01, 0.02, 0.04, 0.08)),
        lower=chance.random() < 0.3,
        greets=chance.random(),
        closes=chance.random(),
        fills=0.6 * chance.random(),
        main_first=chance.uniform(0.25, 0.75),
        favourites={slot: chance.choice(words) for slot, words in SLOTS.items()},
    )


def _message(chance: random.Random, author: _Author, world: Conditions) -> tuple[str, int, int]:
    team, other = _two_teams(chance, world)
    kind = chance.random()
    if chance.random() < world.vague:
        teams, text = chance.choice(VAGUE)
        team, parts, topics = chance.choice(teams), [text], 2
    elif kind < world.second_ask:
        first = chance.choice(FIRST).replace("{ask}", chance.choice(ASKS[team]))
        later = chance.choice(LATER).replace("{ask}", chance.choice(ASKS[other]))
        parts, topics = [first, later], 2
    elif kind < world.second_ask + world.mention:
        mention = chance.choice(LINKS).replace("{text}", chance.choice(MENTIONS[other]))
        parts, topics = [chance.choice(ASKS[team]), mention], 2
    else:
        parts, topics = [chance.choice(ASKS[team])], 1
    if len(parts) == 2 and chance.random() > author.main_first:
        parts.reverse()
    if chance.random() < author.fills:
        parts.insert(chance.randrange(len(parts) + 1), chance.choice(FILLERS))
    if chance.random() < world.misrouted:
        team = chance.choice([one for one in TEAMS if one != team])
    return _written(chance, author, parts, world.typos), TEAMS.index(team), topics


def _two_teams(chance: random.Random, world: Conditions) -> tuple[str, str]:
    team = chance.choices(TEAMS, weights=world.teams)[0]
    return team, chance.choice([one for one in TEAMS if one != team])


def _written(chance: random.Random, author: _Author, parts: list[str], typos: float) -> str:
    """The sentences in the author's hand."""

    def word_for(slot: re.Match[str]) -> str:
        favourite = author.favourites[slot[1]]
        return favourite if chance.random() < _FAVOURITE else chance.choice(SLOTS[slot[1]])

    sentences = [_SLOT.sub(word_for, part) for part in parts]
    text = ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences) + "."
    if chance.random() < author.greets:
        text = f"{chance.choice(GREETINGS).capitalize()}, {text}"
    if chance.random() < author.closes:
        text = f"{text} {chance.choice(CLOSINGS).capitalize()}."
    share = min(1.0, author.typos * typos)
    text = " ".join(
        _misspelt(chance, word) if chance.random() < share else word for word in text.split(" ")
    )
    return text.lower() if author.lower else text


def _misspelt(chance: random.Random, word: str) -> str:
    """One slip of the fingers: two letters swapped, one left out, doubled, or its neighbour hit."""
    if len(word) < 3:
        return word
    at = chance.randrange(len(word) - 1)
    match chance.randrange(4):
        case 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case 1:
            return word[:at] + word[at + 1 :]
        case 2:
            return word[: at + 1] + word[at:]
        case _:
            hit = _NEIGHBOURS.get(word[at].lower(), word[at])
            return word[:at] + hit + word[at + 1 :]
