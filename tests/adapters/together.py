"""Owns processes in the tests of adapters: many that do the same at once, one that is killed at a
known point, and one that shares nothing with its parent."""
import os
import pickle
import signal
import subprocess
import sys
import traceback

from tests.support import child_env


def _child(function, ready, result):
    """The whole life of a forked child."""
    try:
        os.read(ready, 1)
        answer = (True, function())
    except BaseException:
        answer = (False, traceback.format_exc())
    with os.fdopen(result, "wb") as file:
        pickle.dump(answer, file)
    os._exit(0)


def together(count, function):
    """What function(n) returns in so many forked children, which begin at the same moment."""
    ready, begin = os.pipe()
    children = []
    for n in range(count):
        source, result = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(begin)
            _child(lambda n=n: function(n), ready, result)
        os.close(result)
        children.append((pid, source))
    os.close(ready)
    os.close(begin)
    answers = []
    for pid, source in children:
        with os.fdopen(source, "rb") as file:
            answers.append(pickle.load(file))
        os.waitpid(pid, 0)
    wrong = [answer for fine, answer in answers if not fine]
    assert not wrong, wrong[0]
    return [answer for _, answer in answers]


def killed_after(function):
    """Run a function in a forked child, and kill the child when it has returned."""
    source, result = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os.write(result, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(result)
    with os.fdopen(source, "rb") as file:
        done = file.read(1)
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert done, "the child has failed"


def in_new_process(code):
    """What a program prints that a new interpreter runs."""
    done = subprocess.run([sys.executable, "-c", code], env=child_env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
