"""What Locust's web UI has beside its own: the reports of all runs, and a start form that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request, send_from_directory
from locust.env import Environment
from locust.util.timespan import parse_timespan

from loadtest.options import read_options
from loadtest.runs import RunInfo, find_run, list_runs, zipped

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; }
.pass { color: #15803d; } .fail, .invalid { color: #b91c1c; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } a { color: #8ab4f8; } }
"""
HOST = "the stack"
"""What stands in the form's field for an address, which Locust insists on."""
LINK = (
    '<a id="reports" href="./reports" style="position:fixed;left:1rem;bottom:1rem;z-index:9;padding:.6rem 1.2rem;'
    'border-radius:1.5rem;background:#15803d;color:#fff;font:500 15px system-ui;text-decoration:none">Reports</a>'
)
"""On every page of the UI: its own program draws elsewhere, and knows no links of others before a test has begun."""


def install(environment: Environment, runs: Path, busy: Callable[[], str]) -> None:
    """Into the master's web UI. `busy` tells why no run can be started now, or nothing."""
    ui = environment.web_ui
    assert ui is not None
    assert ui.app is not None
    pages = Blueprint("loadtest", __name__)
    guarded: Callable[[Any], Any] = ui.auth_required_if_enabled

    @pages.route("/health")
    def health() -> str:
        return "ok"

    @pages.route("/reports")
    @guarded
    def reports() -> str:
        return page(list_runs(runs))

    @pages.route("/reports/<name>.zip")
    @guarded
    def archive(name: str) -> Response:
        run = find_run(runs, name) or abort(404)
        headers = {"Content-Disposition": f'attachment; filename="{run.name}.zip"'}
        return Response(zipped(run), mimetype="application/zip", headers=headers)

    @pages.route("/reports/<name>/<file>")
    @guarded
    def report(name: str, file: str) -> Response:
        run = find_run(runs, name) or abort(404)
        return send_from_directory(
            run.resolve(), file, as_attachment="download" in request.args, download_name=f"{run.name}-{file}"
        )

    @ui.app.before_request
    def check_start() -> Response | None:
        if request.endpoint != "locust.swarm":
            return None
        why = busy() or what_is_wrong(environment, request.form.to_dict())
        return jsonify({"success": False, "message": why, "host": environment.host}) if why else None

    @ui.app.after_request
    def add_link(response: Response) -> Response:
        if request.endpoint == "locust.index" and response.mimetype == "text/html":
            response.set_data(response.get_data(as_text=True).replace("</body>", f"{LINK}</body>"))
        return response

    ui.app.register_blueprint(pages)
    # The form shows its fields in the order in which `options` adds them.
    ui.app.jinja_env.policies["json.dumps_kwargs"] = {"sort_keys": False}
    ui.template_args["extended_csv_files"] = [{"href": "./reports", "title": "Reports of all runs"}]


def what_is_wrong(environment: Environment, form: dict[str, str]) -> str:
    """Why a run can't be as the start form says; nothing where it can."""
    if form.get("host", HOST) != HOST:
        return "the stack's addresses are settings: LOADTEST_ASR_URL, LOADTEST_TTS_URL"
    chosen: dict[str, Any] = vars(environment.parsed_options) | form
    chosen["num_users"] = form.get("user_count", chosen["num_users"])
    try:
        if form.get("run_time"):
            chosen["run_time"] = parse_timespan(form["run_time"])
        else:
            chosen["run_time"] = vars(environment.parsed_options)["run_time"]
        read_options(chosen)
    except ValueError as error:
        return str(error)
    return ""


def page(runs: list[RunInfo]) -> str:
    """All runs, the newest first."""
    rows = "".join(_row(run) for run in runs) or '<tr><td colspan="4">There is none yet.</td></tr>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Chorus load test: reports</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        '<p><a href="./">Load test</a></p><h1>Reports</h1>'
        "<table><tr><th>Run (UTC)</th><th>Outcome</th><th>View</th><th>Download</th></tr>"
        f"{rows}</table></body></html>"
    )


def _row(run: RunInfo) -> str:
    name = escape(run.name, quote=True)
    pages = [file for file in run.files if file.endswith(".html")]
    view = "".join(f'<a href="./reports/{name}/{file}">report</a>' for file in pages)
    files = [f'<a href="./reports/{name}/{file}?download">{file.rpartition(".")[2]}</a>' for file in run.files]
    if view:
        files.append(f'<a href="./reports/{name}.zip">zip</a>')
    note = f"<br>{escape(run.note)}" if run.note else ""
    return (
        f'<tr><td>{name}</td><td class="{run.outcome}">{run.outcome}{note}</td><td>{view}</td>'
        f"<td>{' · '.join(files)}</td></tr>"
    )
