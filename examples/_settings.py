"""Settings of a training script: a dataclass whose fields are its options, the keys of a recipe, the record of a run.

A value comes from the command line, else from the recipe (``--config FILE.yaml``), else from the dataclass. A resumed
run (``--resume``) takes all values from its own folder; only fields marked ``free``, which do not change the result,
may be given anew.
"""

import argparse
import json
import re
import types
import typing
import warnings
from collections.abc import Sequence
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any

import yaml

import snnkit
from snnkit._suggest import nearest

CONFIGS = Path(__file__).parent / "configs"
OURS = (str(CONFIGS.parent), str(Path(snnkit.__file__).parent))
_FULL_WARNING = warnings.formatwarning

# What a recipe says of itself: without it nobody can tell why a training stays below the paper's number.
ABOUT = ("recipe", "source", "effective_batch", "epochs", "augmentation", "expected", "measured")


def option(default: Any, help: str, choices: Sequence[str] = (), free: bool = False, of: str = "") -> Any:
    """A field of a settings dataclass: its default, its meaning, whether a resumed run may change it, its data sets.

    ``of`` names the data sets that have the option, with commas between; an empty text: all have it.
    """
    help = f"{of}: {help}" if of else help
    return field(default=default, metadata={"help": help, "choices": choices, "free": free, "of": of})


def refuse(problem: object) -> typing.NoReturn:
    """End the program with one line on stderr and exit code 1."""
    raise SystemExit(f"error: {problem}")


def plain_warnings() -> None:
    """Let the warnings of snnkit be one line without the place in the code, which tells a user of a script nothing."""
    warnings.formatwarning = _shown_warning


def _shown_warning(message: Any, category: type[Warning], filename: str, *rest: Any) -> str:
    plain = category is UserWarning and filename.startswith(OURS)
    return f"warning: {message}\n" if plain else _FULL_WARNING(message, category, filename, *rest)


def read_settings(
    kind: type,
    argv: Sequence[str] | None,
    description: str,
    runs: Path = Path("runs"),
) -> tuple[Any, Path | None]:
    """Settings from the command line, and the run folder to go on from (None for a new run).

    Args:
        kind: the settings dataclass; its ``unused(given)`` says what is wrong with options that nothing would use, and
            its attribute ``recipes`` names the folder in configs/ that holds its recipes, if that is not configs/;
            ``fit(given, recipe)``, if it has that, makes what the recipe asks for fit what was given. ``notes`` are
            lines for a new run to say.
        argv: arguments, default ``sys.argv[1:]``.
        description: first lines of ``--help``.
        runs: where ``--resume`` without a folder looks for the newest run.
    """
    parser = _parser(kind, description, runs)
    given, unknown = parser.parse_known_args(argv)
    options = {f"--{name.replace('_', '-')}" for name in _types(kind)} | {"--config", "--resume", "--help"}
    if unknown:
        refuse(f"unknown option {unknown[0]}.{nearest(unknown[0].split('=')[0], options)} All: --help")
    values = vars(given)
    resume, config = values.pop("resume", None), values.pop("config", None)
    if resume is not None:
        folder = _newest(runs) if resume == "" else Path(resume)
        return _resumed(kind, folder, values | ({"config": config} if config else {})), folder
    path = Path(config) if config else _default_recipe(kind, values)
    recipe = read_recipe(kind, path) if path else {}
    if hasattr(kind, "recipe_for"):
        recipe = kind.recipe_for(recipe, values.get("model") or "")
    settings = kind(**recipe | values)
    settings.notes = (f"recipe {path.name}: --config takes another one",) if path else ()
    if hasattr(settings, "fit"):
        settings.fit(values, recipe)
    _refuse_unused(settings, values)
    return settings, None


def _refuse_unused(settings: Any, given: dict[str, Any], where: str = "") -> None:
    """End the program if something was given that this run would not look at; ``settings.unused`` knows the rest."""
    for f in fields(settings):
        of = f.metadata["of"]
        if f.name in given and of and settings.dataset not in of.split(", "):
            name, got = f"--{f.name.replace('_', '-')}", settings.dataset
            first = of.split(", ")[0]
            refuse(f"{where}{name} is an option of --dataset {of}, got {got}. Add --dataset {first}, or leave it out.")
    problem = settings.unused(given)
    if problem:
        refuse(f"{where}{problem}")


def read_recipe(kind: type, path: Path) -> dict[str, Any]:
    """The ``settings`` of a recipe file, with their types checked. An unknown key is refused with its nearest name.

    A file that is not there is looked for in configs/.
    """
    if not path.exists() and (CONFIGS / path).is_file():
        path = CONFIGS / path
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = _recipes(getattr(kind, "recipes", ""))
        where = f"{path.parent.resolve()} and {CONFIGS}"
        refuse(f"no recipe {path} (looked in {where}).{nearest(str(path), there)} In configs: {', '.join(there)}.")
    except yaml.YAMLError as problem:
        refuse(f"{path} is no YAML: {' '.join(str(problem).split())}")
    if isinstance(recipe, dict) and recipe and set(recipe) <= set(_types(kind)):
        refuse(f"{path}: put {', '.join(recipe)} under 'settings:', indented.")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("settings"), dict):
        refuse(f"{path}: expected a mapping 'settings', and beside it, to say what it is, {', '.join(ABOUT)}.")
    for key in recipe:
        if key not in (*ABOUT, "settings"):
            near = nearest(str(key), (*ABOUT, "settings"))
            refuse(f"{path}: unknown key '{key}'.{near} Options of the script go under 'settings'.")
    kinds, values = _types(kind), {}
    choices = {f.name: f.metadata["choices"] for f in fields(kind)}
    for key, value in recipe["settings"].items():
        if key not in kinds:
            refuse(f"{path}: unknown setting '{key}'.{nearest(str(key), kinds)}")
        try:
            values[key] = _convert(value, kinds[key])
        except (TypeError, ValueError):
            refuse(f"{path}: {key} should be {_type_name(kinds[key])}, got {value!r}.")
        if choices[key] and value not in choices[key]:
            refuse(f"{path}: {key} should be one of {', '.join(choices[key])}, got {value!r}.")
    _refuse_unused(kind(**values), values, f"{path}: ")
    return values


def write_settings(settings: Any, path: Path) -> None:
    """Record the settings as JSON, to be read by ``--resume``."""
    write_json(asdict(settings), path)


def write_json(value: Any, path: Path) -> None:
    """Write a value as JSON, a line an entry; a list of numbers, such as a row of a table, is one line."""
    # A string holds no line break in JSON, so nothing within one is taken for a list.
    text = re.sub(r"(?<=\[)\n[\s\w.,+-]+(?=\])", lambda found: " ".join(found[0].split()), json.dumps(value, indent=1))
    path.write_text(text + "\n", encoding="utf-8")


def _resumed(kind: type, folder: Path, given: dict[str, Any]) -> Any:
    path = folder / "settings.json"
    if not path.is_file():
        refuse(f"{folder} holds no run to resume: there is no {path.name} in it.")
    stored, kinds = read_json(path), _types(kind)
    if set(stored) != set(kinds):
        odd = sorted(set(stored) ^ set(kinds))
        begun = folder / "command.json"
        line = read_json(begun).get("command") if begun.is_file() else None
        told = f"It began with: {line}" if line else f"Settings {', '.join(odd[:6])} differ."
        refuse(f"{path} was written by another script or version. {told}")
    free = {f.name for f in fields(kind) if f.metadata.get("free")}
    values = {}
    for key, value in stored.items():
        try:
            values[key] = _convert(value, kinds[key])
        except (TypeError, ValueError):
            refuse(f"{path} is damaged: {key} should be {_type_name(kinds[key])}, got {value!r}. Start a new run.")
    fixed = [key for key, value in given.items() if key not in free and values.get(key) != value]
    if fixed:
        names = ", ".join(f"--{key.replace('_', '-')}" for key in fixed)
        may = ", ".join(sorted(free))
        refuse(f"{names} would make the resumed run another one; give it to a new run. May change: {may}.")
    settings = kind(**values | given)
    _refuse_unused(settings, given)
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a run; a missing and a broken file end the program with one line."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        refuse(f"{path} is missing: the run is not whole. Start a new one.")
    except ValueError as problem:  # JSON's and UTF-8's
        refuse(f"{path} is damaged: {problem}. Start a new run, or put the whole file there.")
    if not isinstance(value, dict):
        refuse(f"{path} is damaged: expected an object in braces, got {type(value).__name__}. Start a new run.")
    return value


def _parser(kind: type, description: str, runs: Path) -> argparse.ArgumentParser:
    # No abbreviations: '--epoch 5' is a misspelling, not an option whose meaning changes when another one is added.
    parser = argparse.ArgumentParser(
        description=description,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.error = refuse  # type: ignore[method-assign]  # one line, without a page of usage before it
    parser.add_argument("--config", metavar="FILE.yaml", help="a recipe: settings with their source")
    resume = f"continue the run in this folder (default: the newest in {runs}/)"
    parser.add_argument("--resume", metavar="RUN", nargs="?", const="", help=resume)
    for f in fields(kind):
        name, value_type = f"--{f.name.replace('_', '-')}", _types(kind)[f.name]
        text = (f.metadata["help"] + _shown(f.default)).replace("%", "%%")
        inner = _inner(value_type)
        if inner is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, help=text)
        elif typing.get_origin(inner) is tuple:
            element = typing.get_args(inner)[0]
            metavar = element.__name__.upper()
            parser.add_argument(name, nargs="+", type=element, metavar=metavar, action=_AsTuple, help=text)
        else:
            choices = f.metadata["choices"] or None
            metavar = None if choices else inner.__name__.upper()
            parser.add_argument(name, type=inner, choices=choices, metavar=metavar, help=text)
    return parser


class _AsTuple(argparse.Action):
    """Keep several values as a tuple, as the dataclass has them."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, tuple(values))


def _types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _inner(value_type: Any) -> Any:
    """``int`` of ``int | None``; other types as they are."""
    if isinstance(value_type, types.UnionType):
        return next(t for t in typing.get_args(value_type) if t is not type(None))
    return value_type


def _convert(value: Any, value_type: Any) -> Any:
    inner = _inner(value_type)
    if value is None and inner is not value_type:
        return None
    if typing.get_origin(inner) is tuple:
        return tuple(_convert(v, typing.get_args(inner)[0]) for v in value)
    if inner is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return float(value)  # YAML 1.1 reads 1e-3 as a word
    if type(value) is not inner:
        raise TypeError(f"{value!r} is not {inner}")
    return value


def _type_name(value_type: Any) -> str:
    inner = _inner(value_type)
    if typing.get_origin(inner) is tuple:
        return f"a list of {typing.get_args(inner)[0].__name__}"
    return inner.__name__


def _shown(default: Any) -> str:
    if default is None or default in ("", ()):
        return ""  # the text says what happens then
    return f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"


def _default_recipe(kind: type, given: dict[str, Any]) -> Path | None:
    """The recipe named as the folder of the data, else as the data set; None if there is neither."""
    folder = Path(given["root"]).resolve().name if given.get("root") else ""
    names = (folder, given.get("dataset", kind.dataset))  # type: ignore[attr-defined]
    recipes = CONFIGS / getattr(kind, "recipes", "")
    return next((recipes / f"{name}.yaml" for name in names if (recipes / f"{name}.yaml").exists()), None)


def _recipes(folder: str) -> list[str]:
    return sorted(path.relative_to(CONFIGS).as_posix() for path in (CONFIGS / folder).rglob("*.yaml"))


def _newest(runs: Path) -> Path:
    found = sorted(runs.glob("*/settings.json"), key=lambda path: path.parent.stat().st_mtime)
    if not found:
        refuse(f"no run to resume in {runs.resolve()}. Give its folder: --resume RUN")
    return found[-1].parent
