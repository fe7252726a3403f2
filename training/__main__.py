"""The command line: `python -m training train|sweep|evaluate|compare|...`."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from keras_agalite.__main__ import (
    add_export,
    add_json,
    add_preset,
    json_table,
    output_file,
    positive,
    seed_number,
    show,
    write_json,
)
from training.errors import Interrupted, TrainingError
from training.recipe import ENGINES, Recipe, load_recipe, read_values
from training.runs.interrupt import end_with
from training.runs.join import join, leave
from training.runs.launch import (
    PORT,
    RESTARTS,
    check_recipe,
    launch,
    read_hosts,
    ssh_lines,
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a policy; continue a run")
    _add_recipe(train)
    _add_outputs(train)
    train.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="several processes train together (engine jax): process 0's address",
    )
    train.add_argument("--processes", type=positive, help="how many they are")
    train.add_argument("--process", type=int, help="which one this is, from 0")
    # The sweep or the launcher that began this run.
    train.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    train.set_defaults(function=_train)

    together = commands.add_parser(
        "launch", help="train in several processes (engine jax)"
    )
    _add_recipe(together)
    _add_outputs(together)
    together.add_argument("--processes", type=positive, help="how many")
    together.add_argument(
        "--restarts",
        type=_not_negative,
        help=f"after one was killed, start all again; default: {RESTARTS} times",
    )
    together.add_argument(
        "--hosts",
        type=Path,
        metavar="FILE",
        help="start nothing; print a line with ssh for each host of the file",
    )
    together.add_argument(
        "--port", type=positive, help=f"with --hosts: of the first; default: {PORT}"
    )
    together.set_defaults(function=_launch)

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
    add_json(evaluate)
    evaluate.set_defaults(function=_evaluate)

    video = commands.add_parser("video", help="write a GIF of episodes of a preset")
    add_preset(video)
    video.add_argument("file", type=output_file)
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
    _add_outcome(compare)
    compare.set_defaults(function=_compare)

    trials = commands.add_parser(
        "trials", help="compare returns by episode of a trial: who adapts?"
    )
    _add_runs(trials)
    trials.add_argument("--trials", type=positive, help="default: the recipes'")
    trials.add_argument("--sampled", action="store_true", help="draw actions")
    _add_outcome(trials)
    trials.set_defaults(function=_trials)

    report = commands.add_parser("report", help="write a web page about runs")
    _add_runs(report)
    report.add_argument("--out", type=output_file, metavar="FILE.html", required=True)
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    code = 1
    try:
        code = _exit_code(options)
    finally:
        leave(code)
    return code


def _exit_code(options: Any) -> int:
    """Runs a command; says what went wrong."""
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


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, received {number}")
    return number


def _add_recipe(parser: Any) -> None:
    parser.add_argument("recipe", help="a TOML file, see training/recipes/")
    _add_overrides(parser)
    parser.add_argument("--run-dir", type=Path, help="default: runs/<recipe's name>")


def _add_outputs(parser: Any) -> None:
    parser.add_argument(
        "--wandb", metavar="PROJECT", help="send metrics to Weights & Biases too"
    )
    parser.add_argument(
        "--video", action="store_true", help="write episodes.gif after training"
    )


def _add_outcome(parser: Any) -> None:
    add_json(parser)
    parser.add_argument(
        "--plot", type=output_file, metavar="FILE", help="draw the result"
    )


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
    join(
        _choose_backend(options),
        options.coordinator,
        options.processes,
        options.process,
    )
    recipe = load_recipe(options.recipe, options.overrides)
    run_dir = options.run_dir or Path("runs") / recipe.name
    from training.engines import train
    from training.runs.loggers import check_wandb

    check_backend(recipe.engine)
    if options.wandb:
        check_wandb()
    _leave_out_tensorflow(recipe.seed)
    result = train(recipe, run_dir, options.wandb, options.video)
    if result:
        show(result)
        print(f"written to {run_dir}")
    if result and options.video:
        _write_video(run_dir / "preset", run_dir / "episodes.gif", 3)


def _leave_out_tensorflow(seed: int) -> None:
    """Sets Keras's seed while TensorFlow cannot be imported, if it was not before.

    On any backend Keras asks once whether it is installed, and imports it if so, which
    takes seconds. Others may import it afterwards.
    """
    import keras

    if "tensorflow" in sys.modules:
        return
    sys.modules["tensorflow"] = None  # an import of it fails
    try:
        keras.utils.set_random_seed(seed)
    finally:
        del sys.modules["tensorflow"]


def _choose_backend(options: Any) -> Any:
    """The engine of a recipe, whose backend Keras reads when it is imported."""
    values = read_values(options.recipe, options.overrides)
    engine = values.get("engine", Recipe.engine)
    if backend := ENGINES.get(engine):
        os.environ.setdefault("KERAS_BACKEND", backend)
    return engine


def _sweep(options: Any) -> None:
    _choose_backend(options)
    from training.runs.sweep import sweep

    folder = sweep(options.recipe, options.overrides, options.seeds, options.run_dir)
    print(f"written to {folder}")


def _launch(options: Any) -> None:
    hosts = read_hosts(options.hosts) if options.hosts else []
    processes = options.processes or len(hosts)
    if not processes or (hosts and processes != len(hosts)):
        raise ValueError(
            "`launch` needs --processes N, or --hosts FILE with one host a process. "
            f"Received: --processes {options.processes}, {len(hosts)} hosts"
        )
    if hosts and options.restarts is not None:
        raise ValueError(
            "--restarts is for processes on this machine: with --hosts nothing is "
            f"started. Received: --restarts {options.restarts} --hosts {options.hosts}"
        )
    if options.port is not None and not hosts:
        raise ValueError(
            "--port is for --hosts: on this machine a free one is taken. Received: "
            f"--port {options.port}"
        )
    check_recipe(options.recipe, options.overrides, processes)
    train = [options.recipe]
    for text in options.overrides:
        train += ["--set", text]
    for name in ("run_dir", "wandb"):
        if (value := getattr(options, name)) is not None:
            train += [f"--{name.replace('_', '-')}", str(value)]
    train += ["--video"] * options.video
    if hosts:
        print("\n".join(ssh_lines(train, hosts, options.port or PORT)))
    else:
        restarts = RESTARTS if options.restarts is None else options.restarts
        launch(train, processes, restarts)


def check_backend(engine: str) -> None:
    """Raises a ValueError if Keras does not run on the engine's backend."""
    import keras

    if ENGINES[engine] not in (None, keras.backend.backend()):
        raise ValueError(
            f"The engine {engine} trains with KERAS_BACKEND={ENGINES[engine]}. "
            f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
        )


def _evaluate(options: Any) -> None:
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
    write_json(result, options.json)


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
    from training.analysis.compare import compare
    from training.analysis.results import finished_runs
    from training.analysis.views import plot, text

    result = compare(finished_runs(options.runs), options.by, options.score)
    print(text(result))
    write_json(result, options.json)
    if options.plot:
        plot(result, options.plot)


def _trials(options: Any) -> None:
    from training.analysis.results import finished_runs
    from training.analysis.trials import compare_trials, episode_returns, plot, text

    tasks: dict[str, list[Any]] = {}
    for run in finished_runs(options.runs):
        tasks.setdefault(run.task, []).append(run)
    for runs in tasks.values():  # what has no trials is refused before all play
        episode_returns(None, runs[0].recipe, 1)
    results = [
        compare_trials(runs, options.by, options.trials, options.sampled)
        for runs in tasks.values()
    ]
    for result in results:
        print(f"{result['task']}\n\n{text(result)}\n")
    write_json(results, options.json)
    if options.plot:
        plot(results, options.plot)


def _report(options: Any) -> None:
    from training.analysis.report import write_report
    from training.analysis.results import finished_runs

    write_report(finished_runs(options.runs), options.by, options.out)
    print(f"written to {options.out}")


def _record(options: Any) -> None:
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
