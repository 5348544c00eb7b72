"""Owns running `spin` on a model of this folder: from #defines to the number of states and the
first error; and which searches are left to `make test-all`."""
import os
import random
import re
import shutil
import subprocess

import pytest

LONG = bool(os.environ.get("MODELS_LONG"))
SAFETY = ("-DSAFETY",)
SMALL = (*SAFETY, "-DCOLLAPSE")                # slower, in less memory
BACKWARDS = ("-DSAFETY", "-DREVERSE", "-DT_REVERSE")    # who comes last goes first
FAIR = ("-DNP", "-DNFAIR=5")                   # progress: no fair run goes round for ever

# The functions of pan.c in which a search spends its time: how states are kept and found again.
HOT = re.compile(r"^(?=(?:int|void)\n(?:compress|h_store|d_sfh)\()", re.MULTILINE)
CHEAP = ("-O0", "-fno-asynchronous-unwind-tables", "-fcf-protection=none")

needs_spin = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="needs spin and gcc: apt-get install spin gcc"
)


def chosen(names, part, seed):
    """Parameters: of these names one in `part` is searched, chosen by seed, and all with
    MODELS_LONG in the environment. What a search finds changes with the model alone."""
    names = list(names)
    searched = names if LONG else random.Random(seed).sample(names, -(-len(names) // part))
    left_out = pytest.mark.skip(reason="a choice by seed, all: make test-all")
    return [pytest.param(name, marks=() if name in searched else left_out) for name in names]


def search(folder, model, defines, how, optimise=CHEAP):
    """Run spin on the model. (states, the first error or None), the search being complete if there
    is none. Most of the time goes into compiling what the model's steps have become, so only the
    hot functions are optimised; a search of minutes is worth -O2 everywhere."""
    text = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    (folder / "run.pml").write_text(text + model.read_text())

    def run(*command):
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    run("spin", "-a", "run.pml")
    pan = folder / "pan.c"
    pan.write_text(HOT.sub('__attribute__((optimize("O2"))) ', pan.read_text()))
    run("gcc", *optimise, "-w", "-DMEMLIM=5000", *how, "-o", "pan", "pan.c")
    out = run("./pan", "-m100000", *(["-l", "-f"] if how is FAIR else []))
    error = re.search(r"^pan:\d+: (.*)", out, re.MULTILINE)
    states = re.search(r"(\d+(?:\.\d+e\+\d+)?) states, stored", out)
    assert states, out
    if error is None:
        assert "errors: 0" in out and "Search not completed" not in out and "max search depth too small" not in out, out
    return int(float(states[1])), error and error[1]
