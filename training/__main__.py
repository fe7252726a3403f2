"""The command line: `python -m training train|sweep|evaluate|compare|...`."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from keras_agalite.__main__ import (
    add_export,
    add_preset,
    json_table,
    positive,
    seed_number,
    show,
)
from training.errors import Interrupted, TrainingError
from training.recipe import ENGINES, Recipe, load_recipe, read_values
from training.runs.interrupt import end_with


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a policy; continue a run")
    _add_recipe(train)
    train.add_argument(
        "--wandb", metavar="PROJECT", help="send metrics to Weights & Biases too"
    )
    train.add_argument(
        "--video", action="store_true", help="write episodes.gif after training"
    )
    train.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="several processes train together (engine jax): process 0's address",
    )
    train.add_argument("--processes", type=positive, help="how many they are")
    train.add_argument("--process", type=int, help="which one this is, from 0")
    # The sweep that this run is of.
    train.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    train.set_defaults(function=_train)

    sweep = commands.add_parser("sweep", help="train a recipe with several seeds")
    _add_recipe(sweep)
    sweep.add_argument("--seeds", type=positive, default=3)
    sweep.set_defaults(function=_sweep)

    evaluate = commands.add_parser("evaluate", help="play episodes with a preset")
    add_preset(evaluate)
    evaluate.add_argument("--episodes", type=positive, default=200)
    evaluate.add_argument("--seed", type=seed_number, default=1_000_000)
    evaluate.add_argument("--sampled", action="store_true", help="draw actions")
    evaluate.add_argument("--recipe", help="default: the preset's recipe.toml")
    _add_overrides(evaluate)
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the result")
    evaluate.set_defaults(function=_evaluate)

    video = commands.add_parser("video", help="write a GIF of episodes of a preset")
    add_preset(video)
    video.add_argument("file", type=Path)
    video.add_argument("--episodes", type=positive, default=1)
    video.add_argument("--seed", type=seed_number, default=1_000_000)
    video.add_argument("--sampled", action="store_true", help="draw actions")
    video.add_argument("--first", type=int, help="first frame of an episode shown")
    video.add_argument("--last", type=positive, help="the frame after the last")
    video.add_argument("--scale", type=positive, default=1, help="of each pixel")
    _add_overrides(video)
    video.set_defaults(function=_video)

    compare = commands.add_parser("compare", help="compare finished runs and sweeps")
    _add_runs(compare)
    compare.add_argument("--score", choices=["success_rate", "mean_return"])
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the result")
    compare.add_argument("--plot", type=Path, metavar="FILE", help="draw the result")
    compare.set_defaults(function=_compare)

    trials = commands.add_parser(
        "trials", help="compare returns by episode of a trial: who adapts?"
    )
    _add_runs(trials)
    trials.add_argument("--trials", type=positive, help="default: the recipes'")
    trials.add_argument("--sampled", action="store_true", help="draw actions")
    trials.add_argument("--json", type=Path, metavar="FILE", help="write the result")
    trials.add_argument("--plot", type=Path, metavar="FILE", help="draw the result")
    trials.set_defaults(function=_trials)

    report = commands.add_parser("report", help="write a web page about runs")
    _add_runs(report)
    report.add_argument("--out", type=Path, metavar="FILE.html", required=True)
    report.set_defaults(function=_report)

    record = commands.add_parser("record", help="play episodes and record them")
    record.add_argument("environment", help="a name, as `tmaze_10`, or a gymnasium id")
    record.add_argument("folder", type=Path, help="where to write; empty or new")
    record.add_argument(
        "--player",
        required=True,
        help="teacher (of functional environments), random, a preset, or module:class",
    )
    record.add_argument("--episodes", type=positive, default=1000)
    record.add_argument("--seed", type=seed_number, default=0)
    record.add_argument("--sampled", action="store_true", help="draw actions")
    record.add_argument(
        "--environment-arguments", type=json_table, default={}, metavar="JSON"
    )
    record.add_argument(
        "--num-envs", type=positive, default=16, help="episodes played at a time"
    )
    record.set_defaults(function=_record)

    add_export(commands)

    release = commands.add_parser("release", help="make a folder of zoo/ from a run")
    release.add_argument("run", type=Path, help="a run, or the folder of a sweep")
    release.add_argument("folder", type=Path, help="for example zoo/tmaze_10")
    release.add_argument(
        "--memoryless",
        type=Path,
        metavar="RUN",
        help="the recipe's run without a memory: the card has baselines, and the "
        "weights are released only if the score is above them",
    )
    release.set_defaults(function=_release)

    cards = commands.add_parser(
        "cards", help="write the cards of zoo/ and the tables of docs/ again"
    )
    cards.set_defaults(function=lambda options: _cards())

    options = parser.parse_args(arguments)
    try:
        options.function(options)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _add_recipe(parser: Any) -> None:
    parser.add_argument("recipe", help="a TOML file, see training/recipes/")
    _add_overrides(parser)
    parser.add_argument("--run-dir", type=Path, help="default: runs/<recipe's name>")


def _add_runs(parser: Any) -> None:
    parser.add_argument(
        "runs", type=Path, nargs="+", help="folders of runs or of sweeps"
    )
    parser.add_argument(
        "--by",
        default="memory",
        metavar="KEY",
        help="the recipes' key that separates groups (default: memory)",
    )


def _add_overrides(parser: Any) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a key of the recipe; may be given several times",
    )


def _train(options: Any) -> None:
    if options.parent is not None:
        end_with(options.parent)
    engine = _choose_backend(options)
    if options.coordinator:
        _join(engine, options)
    recipe = load_recipe(options.recipe, options.overrides)
    run_dir = options.run_dir or Path("runs") / recipe.name
    from training.engines import train
    from training.runs.loggers import check_wandb

    check_backend(recipe.engine)
    if options.wandb:
        check_wandb()
    result = train(recipe, run_dir, options.wandb, options.video)
    if result:
        show(result)
        print(f"written to {run_dir}")
    if result and options.video:
        _write_video(run_dir / "preset", run_dir / "episodes.gif", 3)


def _choose_backend(options: Any) -> Any:
    """The engine of a recipe, whose backend Keras reads when it is imported."""
    values = read_values(options.recipe, options.overrides)
    engine = values.get("engine", Recipe.engine)
    if backend := ENGINES.get(engine):
        os.environ.setdefault("KERAS_BACKEND", backend)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return engine


def _sweep(options: Any) -> None:
    _choose_backend(options)
    from training.runs.sweep import sweep

    folder = sweep(options.recipe, options.overrides, options.seeds, options.run_dir)
    print(f"written to {folder}")


def _join(engine: Any, options: Any) -> None:
    """Joins the processes that train together, before JAX looks for devices."""
    count, index = options.processes, options.process
    if engine != "jax" or None in (count, index) or not 0 <= index < count:
        raise ValueError(
            "`--coordinator` needs the engine jax, --processes N, and --process from 0 "
            f"to N - 1. Received: --processes {count} --process {index}, "
            f"engine={engine!r}"
        )
    import jax

    jax.distributed.initialize(options.coordinator, options.processes, options.process)


def check_backend(engine: str) -> None:
    """Raises a ValueError if Keras does not run on the engine's backend."""
    import keras

    if ENGINES[engine] not in (None, keras.backend.backend()):
        raise ValueError(
            f"The engine {engine} trains with KERAS_BACKEND={ENGINES[engine]}. "
            f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
        )


def _evaluate(options: Any) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_agalite import MemoryPolicy
    from training.evaluation.evaluate import evaluate_recipe, preset_recipe

    policy = MemoryPolicy.from_preset(options.preset)
    recipe = load_recipe(
        options.recipe or preset_recipe(options.preset), options.overrides
    )
    result = evaluate_recipe(
        policy, recipe, options.episodes, options.seed, options.sampled
    )
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def _video(options: Any) -> None:
    _write_video(
        options.preset,
        options.file,
        options.episodes,
        options.seed,
        options.overrides,
        sampled=options.sampled,
        frames_kept=slice(options.first, options.last),
        scale=options.scale,
    )


def _write_video(
    preset: Any,
    file: Path,
    episodes: int,
    seed: int | None = None,
    overrides: Any = None,
    **how: Any,
) -> None:
    from keras_agalite import MemoryPolicy
    from training.evaluation.evaluate import preset_recipe
    from training.evaluation.video import write_video

    policy = MemoryPolicy.from_preset(preset)
    recipe = load_recipe(preset_recipe(preset), overrides)
    seed = recipe.evaluation_seed if seed is None else seed
    write_video(policy, recipe, file, episodes, seed, **how)


def _compare(options: Any) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.analysis.compare import compare
    from training.analysis.results import finished_runs
    from training.analysis.views import plot, text

    result = compare(finished_runs(options.runs), options.by, options.score)
    print(text(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.plot:
        plot(result, options.plot)


def _trials(options: Any) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.analysis.results import finished_runs
    from training.analysis.trials import compare_trials, plot, text

    tasks: dict[str, list[Any]] = {}
    for run in finished_runs(options.runs):
        tasks.setdefault(run.task, []).append(run)
    results = [
        compare_trials(runs, options.by, options.trials, options.sampled)
        for runs in tasks.values()
    ]
    for result in results:
        print(f"{result['task']}\n\n{text(result)}\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    if options.plot:
        plot(results, options.plot)


def _report(options: Any) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.analysis.report import write_report
    from training.analysis.results import finished_runs

    write_report(finished_runs(options.runs), options.by, options.out)
    print(f"written to {options.out}")


def _record(options: Any) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.recordings.record import record

    arguments = vars(options)
    names = (
        "environment folder player episodes seed environment_arguments num_envs sampled"
    )
    show(record(**{name: arguments[name] for name in names.split()}))
    print(f"written to {options.folder}")


def _release(options: Any) -> None:
    from training.release.release import release

    release(options.run, options.folder, options.memoryless)


def _cards() -> None:
    from training.release.cards import write_cards
    from training.release.tables import write_tables

    write_cards(Path("zoo"))
    write_tables()


if __name__ == "__main__":
    sys.exit(main())
