"""Word one article of the sample corpus from the sentence banks in ``phrases/*.toml``."""

import random
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PHRASES = Path(__file__).resolve().parent / "phrases"
HELD_OUT_STEP = 4  # in a bank of 8 or more, each fourth wording is kept from the training file
SHORT_WORDS = 20  # a short article has at least so many


@dataclass(frozen=True)
class Brief:
    """What an article has to say, before a sentence is written."""

    domain: str
    narratives: tuple[str, ...]
    roles: tuple[str, ...]
    language: str = "en"


@dataclass(frozen=True)
class Bank:
    """The sentences of one language."""

    slots: dict[str, list[str]]
    names: dict[str, list[str]]
    titles: dict[str, list[str]]
    fillers: dict[str, list[str]]
    roles: dict[str, list[str]]
    narratives: dict[str, dict[str, list[str]]]
    said: list[str]
    neutral_mentions: list[str]
    written_names: dict[str, list[str]] = field(default_factory=dict)
    """Names that sentences contain without a slot, by label."""


def load_bank(language: str) -> Bank:
    """Merge the phrase files of a language: ``en-*.toml`` or ``pt.toml``."""
    merged: dict[str, Any] = {}
    for path in sorted(PHRASES.glob(f"{language}*.toml")):
        for section, entries in tomllib.loads(path.read_text("utf-8")).items():
            if isinstance(entries, dict):
                merged.setdefault(section, {}).update(entries)
            else:
                merged[section] = entries
    return Bank(**merged)


@dataclass
class Writer:
    """Writes one article; remembers the wordings it has used so that none comes twice."""

    rng: random.Random
    bank: Bank
    brief: Brief
    held_out: bool
    entity: str = ""
    rival: str = ""
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Name the target entity and, differently, its rival."""
        self.entity = self.invent_name()
        while not self.rival or self.rival == self.entity:
            self.rival = self.invent_name()

    def invent_name(self) -> str:
        """Make up a person or pick an invented organisation."""
        names = self.bank.names
        if self.rng.random() < 0.45:
            return self.rng.choice(names["organisation"])
        return f"{self.rng.choice(names['first'])} {self.rng.choice(names['last'])}"

    def pick(self, wordings: Sequence[str]) -> str:
        """Choose an unused wording; the training file never sees the held-out ones."""
        open_to_split = [
            wording
            for index, wording in enumerate(wordings)
            if self.held_out or len(wordings) < 8 or index % HELD_OUT_STEP != HELD_OUT_STEP - 1
        ]
        fresh = [wording for wording in open_to_split if wording not in self.used]
        wording = self.rng.choice(fresh or open_to_split)
        self.used.add(wording)
        return wording

    def fill(self, wording: str, entity: str = "", rival: str = "") -> str:
        """Resolve [alternatives], then {slots}, and start with a capital letter."""

        def slot_value(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot == "entity":
                return entity or self.entity
            if slot == "rival":
                return rival or self.rival
            if slot != "person":
                return self.rng.choice(self.bank.slots[slot])
            names = self.bank.names
            person = self.entity
            while person in (self.entity, self.rival):
                person = f"{self.rng.choice(names['first'])} {self.rng.choice(names['last'])}"
            return person

        plain = re.sub(r"\[([^\]]*)\]", lambda m: self.rng.choice(m[1].split("|")), wording)
        sentence = re.sub(r"\{(\w+)\}", slot_value, plain)
        return sentence[0].upper() + sentence[1:]

    def narrative_block(self, narrative: str, sentences: int) -> list[str]:
        """Assert a narrative; now and then a speaker is named for it."""
        block = []
        for _ in range(sentences):
            wording = self.pick(self.bank.narratives[narrative]["sentences"])
            if self.rng.random() < 0.2:
                wording = f"{wording.removesuffix('.')}, {self.rng.choice(self.bank.said)}."
            block.append(self.fill(wording))
        return block

    def role_block(self, roles: Sequence[str], sentences: int) -> list[str]:
        """Show the target entity in each of its gold roles, and perhaps neutrally."""
        cast = [roles[index % len(roles)] for index in range(sentences)]
        block = [self.fill(self.pick(self.bank.roles[role])) for role in cast]
        if self.rng.random() < 0.25:
            block.append(self.fill(self.pick(self.bank.neutral_mentions)))
        self.rng.shuffle(block)
        return block

    def rival_block(self, sentences: int) -> list[str]:
        """Show another entity in a role that the target entity does not have."""
        role = self.rng.choice(sorted(set(self.bank.roles) - set(self.brief.roles)))
        wordings = [self.pick(self.bank.roles[role]) for _ in range(sentences)]
        return [self.fill(wording, self.rival, self.entity) for wording in wordings]

    def distractor(self) -> list[str]:
        """Use the words of an absent narrative of this domain without asserting it."""
        absent = [
            parts["distractors"]
            for name, parts in self.bank.narratives.items()
            if name.startswith(self.brief.domain) and name not in self.brief.narratives
        ]
        return [self.fill(self.pick(self.rng.choice(absent)))]

    def title(self) -> str:
        """Write a headline: that of a narrative or one that gives nothing away."""
        wordings = self.bank.titles[self.brief.domain]
        if self.brief.narratives and self.rng.random() < 0.4:
            narrative = self.bank.narratives[self.rng.choice(self.brief.narratives)]
            wordings = narrative.get("titles", wordings)
        return self.fill(self.rng.choice(wordings))

    def short_body(self) -> str:
        """Write a text of two or three sentences."""
        brief = self.brief
        blocks = [self.narrative_block(name, 1) for name in brief.narratives]
        blocks.append([self.fill(self.pick(self.bank.roles[brief.roles[0]]))])
        while count_words(blocks) < SHORT_WORDS:
            blocks.append([self.fill(self.pick(self.bank.fillers["any"]))])
        return lay_out(self.rng, blocks)

    def body(self) -> str:
        """Write the text: blocks in random order, filled up to the length wanted."""
        rng, brief = self.rng, self.brief
        english, narratives = brief.language == "en", brief.narratives
        simple = english and len(narratives) <= 1 and len(brief.roles) == 1
        if simple and rng.random() < 0.03:
            return self.short_body()
        long = english and rng.random() < 0.015
        likely = (1, 1, 2) if len(narratives) < 2 else (1,)
        blocks = [
            self.narrative_block(name, 3 if long else rng.choice(likely)) for name in narratives
        ]
        role_block = self.role_block(brief.roles, 4 if long else len(brief.roles))
        together = rng.random() < 0.6
        blocks += [role_block] if together else [[sentence] for sentence in role_block]
        if rng.random() < 0.7:
            blocks.append(self.rival_block(1))
        if english and rng.random() < 0.3:
            blocks.append(self.distractor())
        target_words = 250 if long else rng.triangular(30, 60, 40)
        fillers = [*self.bank.fillers["any"], *self.bank.fillers[brief.domain]]
        rng.shuffle(fillers)
        while fillers and count_words(blocks) < target_words - 6:
            blocks.append([self.fill(fillers.pop())])
        return lay_out(rng, blocks)


def count_words(blocks: Iterable[Iterable[str]]) -> int:
    """Count the words of all sentences."""
    return sum(len(sentence.split()) for block in blocks for sentence in block)


def lay_out(rng: random.Random, blocks: list[list[str]]) -> str:
    """Shuffle blocks and cut the sentences into paragraphs of two to four."""
    rng.shuffle(blocks)
    sentences = [sentence for block in blocks for sentence in block]
    paragraphs = []
    while sentences:
        size = rng.randint(2, 4)
        paragraphs.append(" ".join(sentences[:size]))
        sentences = sentences[size:]
    return "\n\n".join(paragraphs)
