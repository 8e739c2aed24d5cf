"""`edgedistill recipes`: what students can be trained to minimise, and when each helps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from edgedistill.documents.recipes import NamedRecipe

app = typer.Typer()


@app.callback(invoke_without_command=True)
def root(context: typer.Context, as_json: AsJson = False) -> None:
    """List the recipes that students can be trained with, and when each helps."""
    if context.invoked_subcommand is not None:
        return
    from edgedistill.cli import render
    from edgedistill.documents.recipes import RECIPES

    if as_json:
        render.write_json(json.dumps([_document(recipe) for recipe in RECIPES.values()]))
        return
    console = render.results()
    rows = [(recipe.name, recipe.when) for recipe in RECIPES.values()]
    console.print(render.table("recipe", "when it helps", whole=("recipe",), prose=("when it helps",), rows=rows))
    told = 'a build file that names none has "default": the build chooses by its data and teacher'
    render.line(console, told, "one in full: edgedistill recipes show NAME", style="dim")


@app.command("show", epilog="Example: edgedistill recipes show dist")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The recipe.")],
    as_json: AsJson = False,
) -> None:
    """Show a recipe with its source, and its terms as a build file has them."""
    from edgedistill.cli import errors, render
    from edgedistill.documents.recipes import recipe_named

    with errors.answering(as_json=as_json):
        recipe = recipe_named(name)
        if as_json:
            render.write_json(json.dumps(_document(recipe)))
            return
        console = render.results()
        render.line(console, recipe.name, style="bold")
        render.line(console, recipe.when)
        if recipe.source:
            render.line(console, f"source: {recipe.source}", style="dim")
        render.line(console, "", f'[train]\nrecipe = "{recipe.name}"', "", "# the same, to change it:")
        for term in recipe.terms:
            settings = {"loss": term.loss, "weight": term.weight, **term.given}
            render.line(
                console, "[[train.terms]]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())
            )
        if recipe.mix is not None:
            render.line(console, "", f"[augmentation]\nmix = {recipe.mix}")


def _document(recipe: NamedRecipe) -> dict[str, object]:
    terms = [{"loss": t.loss, "weight": t.weight, **t.given} for t in recipe.terms]
    return {"name": recipe.name, "when": recipe.when, "source": recipe.source, "terms": terms, "mix": recipe.mix}
