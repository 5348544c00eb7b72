"""Owns the scenarios: one folder each, named by the question it asks, with a `scenario.toml`
inside.

    name = "frontswap"              what `tmem stress` calls it
    question = "..."                the same question as the folder's name, in words
    workload = "frontswap"          the module of `stress.workloads` that does it
    share = 1.0                     its part of the time when several scenarios run
    workers = 2                     optional: the scenario decides, not --workers
    [arena]                         arguments of `engine.create`
    [each]                          optional: what each guest adds to numbers of [arena]
    [settings]                      what the workload reads; each workload says which

Calls tomllib, and `engine.sizes` to add sizes.
"""
from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.sizes import parse_size

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Scenario:
    name: str
    question: str
    workload: str
    share: float = 1.0
    workers: int = 0
    arena: dict[str, Any] = field(default_factory=dict)
    each: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def arena_for(self, workers: int) -> dict[str, Any]:
        """Arguments of `engine.create` for so many guests."""
        return self.arena | {name: parse_size(name, self.arena[name]) + workers * parse_size(name, more)
                             for name, more in self.each.items()}


def load_all() -> dict[str, Scenario]:
    """Every scenario by name, in the order of their folders."""
    found = {}
    for path in sorted(FOLDER.glob("*/scenario.toml"), key=lambda path: int(path.parent.name.partition("-")[0])):
        with path.open("rb") as file:
            table = tomllib.load(file)
        try:
            scenario = Scenario(**table)
        except TypeError as error:
            raise ValueError(f"{path.parent.name}/scenario.toml: {error}") from None
        found[scenario.name] = scenario
    return found
