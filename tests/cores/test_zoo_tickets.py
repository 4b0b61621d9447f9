"""The tickets generator: a message has one main topic, and authors keep to their ways."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from models.zoo.tickets.generator import Conditions, messages
from models.zoo.tickets.phrases import ASKS, FIRST, LATER, MENTIONS, SLOTS, TEAMS, VAGUE

SEED = 4
CLEAN = Conditions(vague=0.0, misrouted=0.0, typos=0.0)
ONE_TOPIC = replace(CLEAN, second_ask=0.0, mention=0.0)


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def test_every_team_has_asks_and_mentions_and_every_slot_has_words() -> None:
    assert set(ASKS) == set(MENTIONS) == set(TEAMS)
    assert all(set(teams) <= set(TEAMS) for teams, _ in VAGUE)
    written = [text for texts in (*ASKS.values(), *MENTIONS.values()) for text in texts]
    for text in written:
        text.format_map({slot: words[0] for slot, words in SLOTS.items()})


def test_the_same_seed_gives_the_same_messages_whoever_else_writes() -> None:
    alone = messages(range(3, 4), 5, seed=SEED)
    among = messages(range(6), 5, seed=SEED)
    assert alone.texts == among.texts[15:20]
    assert alone.authors.tolist() == [3] * 5
    assert messages(range(3, 4), 5, seed=SEED + 1).texts != alone.texts


def test_a_message_of_one_topic_is_for_the_team_whose_ask_it_is() -> None:
    found = messages(range(40), 10, seed=SEED, conditions=ONE_TOPIC)
    assert set(found.topics.tolist()) == {1}
    for text, label in zip(found.texts, found.labels, strict=True):
        if "password" in text:
            assert TEAMS[label] == "account"
        if "courier" in text or "tracking" in text:
            assert TEAMS[label] == "delivery"


def test_of_two_asks_the_one_said_to_matter_is_the_label() -> None:
    both = replace(CLEAN, second_ask=1.0, mention=0.0)
    found = messages(range(30), 10, seed=SEED, conditions=both)
    first, later = (
        [words.split("{ask}")[0].strip().lower() for words in cues] for cues in (FIRST, LATER)
    )
    checked = 0
    for text, label in zip(found.texts, found.labels, strict=True):
        assert any(cue in text.lower() for cue in first)
        assert any(cue in text.lower() for cue in later)
        asked = next(part for part in text.lower().split(". ") if any(cue in part for cue in first))
        if "password" in asked or "profile" in asked:
            assert TEAMS[label] == "account"
            checked += 1
    assert checked > 3


def test_what_is_only_mentioned_is_not_the_label() -> None:
    found = messages(range(60), 10, seed=SEED, conditions=replace(CLEAN, second_ask=0, mention=1))
    mentioned = [
        TEAMS[label]
        for text, label in zip(found.texts, found.labels, strict=True)
        if "the new password works" in text.lower()
    ]
    assert len(mentioned) > 3
    assert "account" not in mentioned


def test_the_shares_of_topics_are_those_asked_for() -> None:
    found = messages(range(200), 10, seed=SEED)
    usual = Conditions()
    assert (found.topics == 2).mean() == pytest.approx(
        usual.vague + (1 - usual.vague) * (usual.second_ask + usual.mention), abs=0.04
    )


def test_misrouting_changes_labels_and_no_text() -> None:
    clean = messages(range(100), 1, seed=SEED, conditions=replace(ONE_TOPIC))
    noisy = messages(range(100), 1, seed=SEED, conditions=replace(ONE_TOPIC, misrouted=1.0))
    assert (clean.labels != noisy.labels).all()


def test_typos_grow_with_their_knob() -> None:
    def unknown_words(typos: float) -> float:
        right = messages(range(60), 10, seed=SEED, conditions=replace(CLEAN, typos=0.0))
        vocabulary = {word.lower() for text in right.texts for word in text.split()}
        found = messages(range(60), 10, seed=SEED, conditions=replace(CLEAN, typos=typos))
        return share([w.lower() not in vocabulary for text in found.texts for w in text.split()])

    assert unknown_words(0.0) == 0.0
    assert 0.01 < unknown_words(1.0) < 0.06 < unknown_words(4.0)


def test_the_mix_of_teams_follows_its_weights() -> None:
    only = replace(ONE_TOPIC, teams=(0, 0, 1, 0, 0, 3))
    counted = Counter(messages(range(100), 10, seed=SEED, conditions=only).labels.tolist())
    assert set(counted) == {2, 5}
    assert counted[5] / counted[2] == pytest.approx(3, rel=0.25)


def test_an_author_has_favourite_words() -> None:
    found = messages(range(30), 60, seed=SEED, conditions=ONE_TOPIC)
    most = []
    for author in range(30):
        texts = [t for t, a in zip(found.texts, found.authors, strict=True) if a == author]
        used = Counter(word for text in texts for word in SLOTS["parcel"] if word in text.lower())
        if sum(used.values()) >= 8:
            most.append(used.most_common(1)[0][1] / sum(used.values()))
    assert np.mean(most) > 0.5


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        (Conditions(vague=1.5), "vague must lie in 0..1"),
        (Conditions(second_ask=0.7, mention=0.6), "at most 1 in all"),
        (Conditions(teams=(1.0,)), "wanted 6 team weights"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(conditions: Conditions, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        messages(range(1), 1, seed=SEED, conditions=conditions)
    with pytest.raises(ValueError, match="wanted authors and messages"):
        messages(range(0), 1, seed=SEED)
