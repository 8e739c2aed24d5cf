"""`edgedistill cache`: what finished stages take on disk, and a way to be rid of them."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from edgedistill.cli.options import AsJson, help_without_command

app = typer.Typer()


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """See or empty the cache of finished stages."""
    help_without_command(context)


@app.command("info", epilog="Example: edgedistill cache info --json")
def info(as_json: AsJson = False) -> None:
    """Show where the cache is and what each stage takes."""
    from edgedistill.base.store import CACHE_VARIABLE, Store
    from edgedistill.base.units import format_bytes
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        store = Store()
        usage = store.usage()
        total = sum(size for _, size in usage.values())
        if as_json:
            stages = {stage: {"entries": entries, "bytes": size} for stage, (entries, size) in usage.items()}
            render.write_json(json.dumps({"path": str(store.root), "bytes": total, "stages": stages}))
            return
        console = render.results()
        render.line(console, f"{store.root} (moved by {CACHE_VARIABLE})")
        rows = [(stage, str(entries), format_bytes(size)) for stage, (entries, size) in usage.items()]
        table = render.table("stage", "finished", "size", right=("finished", "size"), rows=rows)
        table.add_section()
        table.add_row("all", str(sum(entries for entries, _ in usage.values())), format_bytes(total))
        console.print(table)


@app.command("clear", epilog="Example: edgedistill cache clear --yes")
def clear(
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove every finished stage: the next build starts from nothing."""
    from edgedistill.base.errors import InputError
    from edgedistill.base.store import Store
    from edgedistill.base.units import format_bytes
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        store = Store()
        total = sum(size for _, size in store.usage().values())
        if not yes and total:
            if as_json or not sys.stdin.isatty():
                raise InputError("clearing the cache needs a yes", fix="edgedistill cache clear --yes")
            typer.confirm(f"remove {format_bytes(total)} from {store.root}?", abort=True)
        freed = store.clear()
        if as_json:
            render.write_json(json.dumps({"path": str(store.root), "freed_bytes": freed}))
        else:
            render.line(render.results(), f"freed {format_bytes(freed)} in {store.root}")
