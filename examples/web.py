"""Owns a web service of several processes that share one cache and one rate limit, without a server
beside them.

    pip install 'tmem[limits]' flask flask-limiter gunicorn
    gunicorn --chdir examples --workers 4 web:app

Any worker may be killed at any time: the others go on, and nobody counts anew.
"""
import os
import time

from flask import Flask, jsonify
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

import tmem
import tmem.limits  # noqa: F401  (it makes tmem:// known)

ARENA = os.environ.get("TMEM_ARENA", "shop")

app = Flask(__name__)
cache = tmem.Cache(ARENA, ttl=60)       # opened by each worker at its first call
limiter = Limiter(get_remote_address, app=app, storage_uri=f"tmem://{ARENA}", strategy="moving-window")


@app.get("/visits")
def visits():
    """Exact, in however many workers."""
    return jsonify(visits=cache.incr("visits"))


def report():
    """Something that takes long to compute."""
    cache.set("who computes", os.getpid())
    time.sleep(float(os.environ.get("REPORT_SECONDS", "1")))
    return {"number": cache.incr("reports"), "by": os.getpid()}


@app.get("/report")
def show_report():
    """However many ask at once, in whichever workers, one computes it and the others wait. If that
    worker is killed, the next one computes."""
    return jsonify(cache.get_or_compute("report", report))


@app.get("/login")
@limiter.limit("20/minute")
def login():
    """Twenty a minute in all, not in each worker."""
    return jsonify(worker=os.getpid())
