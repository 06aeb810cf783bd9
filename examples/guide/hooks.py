"""What the site makes of the code when it is built: the reference of the command line, the pages of the experiments, and links to files
outside of the guide."""

import os
import re
from pathlib import Path
from posixpath import relpath
from typing import Any

import typer
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parents[1]
RESULTS = {page.parent.name: f"results/{page.parent.name}.md" for page in sorted(EXAMPLES.glob("*/README.md"))}
FOLDERS = "|".join(sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
REPOSITORY = re.compile(rf"\]\((?:\.\./)+(?P<path>(?:{FOLDERS})/[^)]*)\)")
README = re.compile(rf"\]\((?:\.\./)+(?P<folder>{'|'.join(RESULTS)})/README\.md(?P<anchor>#[^)]*)?\)")
CLI = "reference/cli.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the command line, made from the help texts themselves, and a page of each experiment, which is its README."""
    files.append(File.generated(config, CLI, content=cli_reference()))
    for folder, page in RESULTS.items():
        files.append(File.generated(config, page, abs_src_path=str(EXAMPLES / folder / "README.md")))
        for picture in sorted((EXAMPLES / folder).glob("*.png")):
            files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def cli_reference() -> str:
    """Every verb with its arguments and options, by the panels of `--help`."""
    from mmtool.cli.main import app

    pages = ["# Command line\n\nMade from `mmtool --help`. Options with the same name mean the same in every verb.\n"]
    verbs: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    pages += [_verb(name, verb) for name, verb in verbs.items() if not verb.hidden]
    return "\n".join(pages)


def _verb(name: str, verb: Any) -> str:
    lines = [f"## mmtool {name}\n", _plain(verb.help or "") + "\n"]
    panels: dict[str, list[str]] = {}
    for parameter in verb.params:
        panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if parameter.param_type_name == "argument" else "Options")
        panels.setdefault(panel, []).append(_parameter(parameter, typer.Context(verb)))
    for panel, rows in panels.items():
        lines += [f"**{panel}**\n", "| option | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _parameter(parameter: Any, context: typer.Context) -> str:
    flag = getattr(parameter, "is_flag", False)
    names = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    metavar = "" if flag or parameter.param_type_name == "argument" else f" {_cell(_metavar(parameter, context))}"
    default = getattr(parameter, "show_default", None)
    usual = f" Default: {default}." if isinstance(default, str) else f" Default: {parameter.default}." if _has_default(parameter) else ""
    return f"| {names}{metavar} | {_cell(_plain(getattr(parameter, 'help', None) or ''))}{_cell(usual)} |"


def _metavar(parameter: Any, context: typer.Context) -> str:
    return str(parameter.metavar or parameter.display_type(context)).strip("<>")


def _has_default(parameter: Any) -> bool:
    return not getattr(parameter, "is_flag", False) and isinstance(parameter.default, (int, float, str)) and parameter.default != ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _plain(text: str) -> str:
    return re.sub(r"\[/?[a-z ]+\]", "", text.replace("\f", "").replace("\b", "")).strip()


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to READMEs of experiments into links to their pages, and those to other files of the examples into links to the
    repository, where there is one (`GUIDE_REPOSITORY`), else into plain names."""
    here = str(Path(page.file.src_uri).parent)

    def of_page(match: re.Match[str]) -> str:
        return f"]({relpath(RESULTS[match['folder']], here)}{match['anchor'] or ''})"

    markdown, base = README.sub(of_page, markdown), os.environ.get("GUIDE_REPOSITORY", "")
    if base:
        return REPOSITORY.sub(lambda match: f"]({base}/examples/{match['path']})", markdown)
    return re.sub(r"\[([^\]]+)" + REPOSITORY.pattern, lambda match: f"{match[1]} (`examples/{match['path']}`)", markdown)
