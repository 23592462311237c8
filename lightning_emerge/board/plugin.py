"""The plugin: routes, and what is checked of a request before anything is looked up."""

from __future__ import annotations

import json
import mimetypes
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from tensorboard.plugins.base_plugin import FrontendMetadata, TBContext, TBPlugin
from tensorboard.util import tb_logging
from werkzeug import Request, Response

from lightning_emerge.board import views
from lightning_emerge.board.lanes import Lanes
from lightning_emerge.board.refusal import RefusedError
from lightning_emerge.board.runs import Runs
from lightning_emerge.board.store import Records
from lightning_emerge.sinks.names import BOARD as NAME
from lightning_emerge.store.places import is_url

_WEB = Path(__file__).parent / "web"
_SLOW = ("/run", "/series", "/points")
_LONGEST_QUERY, _LONGEST_NAME = 4096, 1024
_THREADS, _PATIENCE = 8, 5.0
_QUICK_LIMIT, _SLOW_LIMIT = 10.0, 20.0
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_logger = tb_logging.get_logger()
_Query = Mapping[str, str]


class EmergePlugin(TBPlugin):
    """The Emerge tab.

    Args:
        context: of TensorBoard, with its flags.
    """

    plugin_name = NAME

    def __init__(self, context: TBContext) -> None:
        super().__init__(context)
        self._runs = Runs(find_folders(context.logdir or "", getattr(context.flags, "logdir_spec", "") or ""))
        self._lanes = Lanes(_THREADS)
        self._lock = Lock()
        self._scan: Future[list[str]] | None = None
        self._looks: dict[str, Future[dict[str, Any]]] = {}

    def is_active(self) -> bool:
        """Whether the log directory has runs with records; not while it does not answer."""
        found = self._lanes.submit(None, self._runs.any)
        if self._lanes.wait([found], _PATIENCE):
            return found.result()
        self._lanes.drop(None, found)
        return False

    def frontend_metadata(self) -> FrontendMetadata:
        """Where TensorBoard finds the tab's script."""
        return FrontendMetadata(es_module_path="/index.js", tab_name="Emerge", disable_reload=False)

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """By route, what answers it; every other path is looked for among the tab's own files."""
        routes: dict[str, tuple[Callable[[_Query], Response], set[str]]] = {
            "/run": (self._run, {"run"}),
            "/stamp": (self._stamp, {"run"}),
            "/sprite": (self._sprite, {"run"}),
            "/values": (self._values, {"run", "measure", "step", "first"}),
            "/frame": (self._frame, {"run", "measure", "step", "first"}),
            "/series": (self._series, {"run", "measure", "filter"}),
            "/points": (self._points, {"run", "measure", "first"}),
        }
        apps = {route: _guard(self._queue(route, answer), known) for route, (answer, known) in routes.items()}
        return {"/index": _guard(self._index, set()), **apps, "/*": _guard_file()}

    def _queue(self, route: str, answer: Callable[[_Query], Response]) -> Callable[[_Query], Response]:
        """Has a run's answers given one after the other; a slider does not wait for what takes seconds."""

        def ask(query: _Query) -> Response:
            limit, lane = _SLOW_LIMIT if route in _SLOW else _QUICK_LIMIT, (query.get("run", ""), route in _SLOW)
            found = self._lanes.submit(lane, lambda: answer(query))
            if not self._lanes.wait([found], limit):
                self._lanes.drop(lane, found)
                raise _too_slow("the records of this run take", limit)
            return found.result()

        return ask

    def _index(self, query: _Query) -> Response:
        del query
        names = self._names()
        with self._lock:
            begin = monotonic()
            begun = {name: look for name, look in self._looks.items() if not look.done()}
            self._looks = looks = {}
            for name in names:
                looks[name] = begun[name] if name in begun else self._begin_look(name)
                if name not in begun:  # one thread opens them all if that goes quickly, and several do if it does not
                    self._lanes.wait([looks[name]], max(0, begin + _PATIENCE / 5 - monotonic()))
        self._lanes.wait(looks.values(), max(0, begin + _PATIENCE - monotonic()))
        return _json({"runs": [one.result() if one.done() else _tell_slow(name) for name, one in looks.items()]})

    def _names(self) -> list[str]:
        """Looks for runs; what takes longer than a request may is shown to a later one."""
        with self._lock:
            scan = self._scan = self._scan or self._lanes.submit(None, self._runs.scan)
        if not self._lanes.wait([scan], _QUICK_LIMIT):
            raise _too_slow("the log directory takes", _QUICK_LIMIT)
        with self._lock:
            self._scan = None if self._scan is scan else self._scan
        return scan.result()

    def _begin_look(self, name: str) -> Future[dict[str, Any]]:
        return self._lanes.submit((name, False), lambda: self._look(name))

    def _look(self, name: str) -> dict[str, Any]:
        try:
            store = self._runs.open(name)
            return {"run": name, "steps": store.looks, "last": store.last, "trouble": None}
        except RefusedError as refusal:
            return _tell(name, refusal.sentence)
        except Exception as error:  # one run's trouble is its own
            _logger.exception("The Emerge tab could not open %s", name)
            return _tell(name, f"The records of this run cannot be read: {type(error).__name__}.")

    def _run(self, query: _Query) -> Response:
        name, store = self._open(query)
        events = self._runs.events(name)
        rest = {"has_images": self._runs.has_sprite(name), "events": events}
        return _json({"run": name, **views.describe(store, events), **rest})

    def _stamp(self, query: _Query) -> Response:
        _, store = self._open(query)
        return _json({"steps": store.looks, "last": store.last})

    def _sprite(self, query: _Query) -> Response:
        picture, size = self._runs.sprite(_text(query, "run"))
        return _respond(picture, "image/png", {"X-Sprite": ",".join(map(str, size))})

    def _values(self, query: _Query) -> Response:
        store, measure = self._find(query)
        return _numbers(views.values(store, measure, _whole(_text(query, "step")), _first(query)))

    def _frame(self, query: _Query) -> Response:
        store, measure = self._find(query)
        return _numbers(views.frame(store, measure, _whole(_text(query, "step")), _first(query)))

    def _series(self, query: _Query) -> Response:
        store, measure = self._find(query)
        places = query["filter"].split(",") if "filter" in query else []
        if len(places) not in (0, 2):
            raise RefusedError(400, "filter= names a layer and a filter by their positions, such as 3,17.")
        of = (_whole(places[0]), _whole(places[1])) if places else None
        return _numbers(views.series(store, measure, of))

    def _points(self, query: _Query) -> Response:
        store, measure = self._find(query)
        return _numbers(views.points(store, measure, _first(query)))

    def _open(self, query: _Query) -> tuple[str, Records]:
        name = _text(query, "run")
        return name, self._runs.open(name)

    def _find(self, query: _Query) -> tuple[Records, str]:
        _, store = self._open(query)
        measure = _text(query, "measure")
        if measure not in store.measures:
            raise RefusedError(404, "This run has no such measure.")
        return store, measure


def _tell(name: str, trouble: str) -> dict[str, Any]:
    return {"run": name, "steps": 0, "last": None, "trouble": trouble}


def _tell_slow(name: str) -> dict[str, Any]:
    sentence = f"Opening the records of this run takes more than {_PATIENCE:.0f} s and continues; reload to see them."
    return _tell(name, sentence)


def _too_slow(what: str, limit: float) -> RefusedError:
    return RefusedError(503, f"An answer is given within {limit:.0f} s; {what} longer to be read. Reload to ask again.")


def find_folders(logdir: str, spec: str) -> dict[str, str]:
    """Reads where TensorBoard looks for runs: a log directory, or `name:folder` parts with commas between.

    Returns:
        Folders by the beginning of the names of their runs.
    """
    if logdir:
        return {"": _expand(logdir)}
    folders: dict[str, str] = {}
    for part in filter(None, spec.split(",")):
        name, colon, folder = part.partition(":")
        named = colon and not folder.startswith("//") and "/" not in name
        folders[name if named else part.strip("/")] = _expand(folder if named else part)
    return folders


def _expand(folder: str) -> str:
    return folder if is_url(folder) else os.path.expanduser(folder)  # as TensorBoard does


def _guard(answer: Callable[[_Query], Response], known: set[str]) -> Callable[..., Any]:
    """Answers a refusal, or whatever goes wrong, in JSON, and nothing but GET."""

    def respond(request: Request) -> Response:
        try:
            if request.method not in ("GET", "HEAD"):
                return _refuse(405, "Records are only read here: use GET.")
            return answer(_query(request, known))
        except RefusedError as refusal:
            return _refuse(refusal.status, refusal.sentence)
        except Exception:
            _logger.exception("The Emerge tab could not answer %s", request.path)
            return _refuse(500, "The records could not be read; TensorBoard's log says why.")

    return Request.application(respond)


def _guard_file() -> Callable[..., Any]:
    """Answers with a file of the tab."""

    def respond(request: Request) -> Response:
        name = request.path.rpartition(f"/{NAME}/")[2]
        files = {path.relative_to(_WEB).as_posix(): path for path in sorted(_WEB.rglob("*")) if path.is_file()}
        if name not in files:
            return _refuse(404, "The Emerge tab has no such file.")
        kind = mimetypes.guess_type(name)[0] if not name.endswith(".js") else "text/javascript"
        return _respond(files[name].read_bytes(), kind or "application/octet-stream", {"Cache-Control": "no-cache"})

    return Request.application(respond)


def _query(request: Request, known: set[str]) -> _Query:
    if len(request.query_string) > _LONGEST_QUERY:
        raise RefusedError(400, f"A query has {_LONGEST_QUERY} characters at most.")
    for name, values in request.args.lists():
        if name not in known or len(values) != 1:
            raise RefusedError(400, f"A query has each of {', '.join(sorted(known)) or 'nothing'} once at most.")
    return request.args


def _text(query: _Query, name: str) -> str:
    value = query.get(name, "")
    if not 0 < len(value) <= _LONGEST_NAME:
        raise RefusedError(400, f"A query has {name}=, with 1 to {_LONGEST_NAME} characters.")
    return value


def _whole(value: str) -> int:
    if not _WHOLE.fullmatch(value):
        raise RefusedError(400, "Steps and positions are whole numbers from 0.")
    return int(value)


def _first(query: _Query) -> int | None:
    return _whole(query["first"]) if "first" in query else None


def _numbers(answer: views.Answer) -> Response:
    headers = {"X-Shape": ",".join(map(str, answer.shape))}
    if answer.steps:
        headers["X-Steps"] = ",".join(map(str, answer.steps))
    if answer.damaged:
        headers["X-Damaged"] = ",".join(map(str, answer.damaged))
    if answer.range is not None:
        headers["X-Range"] = f"{answer.range[0]!r},{answer.range[1]!r}"
    return _respond(answer.body, "application/octet-stream", headers)


def _json(content: Any, status: int = 200) -> Response:
    return _respond(json.dumps(content, allow_nan=False).encode(), "application/json", status=status)


def _refuse(status: int, sentence: str) -> Response:
    return _json({"error": sentence}, status)


def _respond(body: Any, kind: str, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    safe = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(body, status, {**safe, **(headers or {})}, content_type=kind)
