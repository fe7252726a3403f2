"""Policies from the command line: `python -m keras_agalite list|play|evaluate|export`.

Training needs a checkout: `python -m training --help`.
"""

import argparse
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from keras_agalite.export.formats import FORMATS


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The words of the command line; those of this process if None.

    Returns:
        The exit code: 2 if what was asked for is impossible, and 1 if it failed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m keras_agalite", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)

    listing = commands.add_parser("list", help="list the policies of the zoo")
    listing.add_argument(
        "--released", action="store_true", help="those with weights alone"
    )
    listing.set_defaults(function=_list)

    play = commands.add_parser("play", help="watch a policy play")
    add_preset(play)
    _add_environment(play)
    play.add_argument("--episodes", type=positive, default=1)
    play.add_argument(
        "--render",
        action="store_true",
        help="in a window, where the environment has one; else steps are printed",
    )
    play.set_defaults(function=_play)

    evaluate = commands.add_parser("evaluate", help="score a policy over episodes")
    add_preset(evaluate)
    _add_environment(evaluate)
    evaluate.add_argument("--episodes", type=positive, default=200)
    add_json(evaluate)
    evaluate.set_defaults(function=_evaluate)

    add_export(commands)

    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options.function(options)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def add_preset(parser: Any) -> None:
    """Adds the argument that names a policy."""
    parser.add_argument(
        "preset", help="the name of a released policy, a folder, or an address"
    )


def add_json(parser: Any) -> None:
    """Adds the argument that names a file for the result."""
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the result"
    )


def write_json(result: Any, file: Path | None) -> None:
    """Writes a result where `--json` names a file."""
    if file:
        file.write_text(json.dumps(result, indent=2) + "\n")


def add_export(commands: Any) -> None:
    """Adds the command `export`."""
    export = commands.add_parser("export", help="write a program that needs no Keras")
    add_preset(export)
    export.add_argument("--format", choices=tuple(FORMATS), default="onnx")
    export.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="default: the policy's or run's name and the format: tmaze_10_onnx",
    )
    export.add_argument(
        "--python",
        metavar="PATH",
        help="the interpreter that exports, of an environment with PyTorch (onnx, pt2)"
        " or TensorFlow (saved_model, litert)",
    )
    export.set_defaults(function=_export)


def positive(text: str) -> int:
    """Parses a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {number}")
    return number


def seed_number(text: str) -> int:
    """Parses a seed: NumPy and JAX take 32 bits."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(
            f"must be from 0 to {2**32 - 1}, received {number}"
        )
    return number


def output_file(text: str) -> Path:
    """Parses the path of a file to write: what is asked for last is checked first."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"must be a file in a folder that is there, received {text}"
        )
    return path


def json_table(text: str) -> dict[str, Any]:
    """Parses a JSON object."""
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"must be JSON, received {text}") from error
    if not isinstance(table, dict):
        raise argparse.ArgumentTypeError(f"must be an object, received {text}")
    return table


def show(result: dict[str, Any]) -> None:
    """Prints a result, one value a line, without its lists."""
    for key, value in result.items():
        if not isinstance(value, list | dict):
            print(f"{key:>15}: {value}")


def _add_environment(parser: Any) -> None:
    parser.add_argument(
        "--environment",
        metavar="NAME",
        help="default: the one that the policy was evaluated in",
    )
    parser.add_argument(
        "--environment-arguments",
        type=json_table,
        metavar="JSON",
        help="""its arguments, as in '{"corridor_length": 20}'""",
    )
    parser.add_argument("--seed", type=seed_number, default=1_000_000)
    parser.add_argument("--sampled", action="store_true", help="draw actions")


def _environment(options: Any) -> tuple[str, dict[str, Any]]:
    """The environment that the options name, or that the preset is listed with."""
    from keras_agalite.presets import find_preset
    from keras_agalite.zoo import list_policies

    arguments = options.environment_arguments
    if options.environment is not None:
        return options.environment, arguments or {}
    for info in list_policies():
        if info.name == options.preset:
            return info.environment, {**info.environment_arguments, **(arguments or {})}
    file = find_preset(options.preset) / "evaluation.json"
    if not file.is_file():
        raise ValueError(
            "Expected --environment, or a preset with an evaluation.json. Received: "
            f"{options.preset}"
        )
    evaluation = json.loads(file.read_text("utf-8"))
    if not evaluation["environment"]:
        raise ValueError(
            "Expected --environment: the policy learnt from recordings, without an "
            f"environment. Received: {options.preset}"
        )
    kept = evaluation["environment_arguments"]
    return evaluation["environment"], {**kept, **(arguments or {})}


def _list(options: Any) -> None:
    from keras_agalite.zoo import list_policies

    rows = [("policy", "memory", "weights", "environment", "score")]
    for info in list_policies():
        if info.score is None and options.released:
            continue
        arguments = ", ".join(f"{k}={v}" for k, v in info.environment_arguments.items())
        score = ", ".join(
            f"{key.replace('_', ' ')} {value:.2f}"
            for key, value in (info.score or {}).items()
        )
        environment = info.environment + (f" ({arguments})" if arguments else "")
        rows.append(
            (info.name, info.memory, f"{info.num_weights:,}", environment, score)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(n) for cell, n in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _play(options: Any) -> None:
    from keras_agalite import MemoryPolicy, rollout

    policy = MemoryPolicy.from_preset(options.preset)
    name, arguments = _environment(options)
    count = 0

    def follow(step: Any) -> None:
        nonlocal count
        if step.action is not None:
            count += 1
            action, reward = step.action[0].tolist(), float(step.reward[0])
            print(f"step {count:>4}   action {action}   reward {reward:g}")

    with _make(name, arguments, options.render) as env:
        for seed in range(options.seed, options.seed + options.episodes):
            count = 0
            (episode,) = rollout(
                policy,
                env,
                seed=seed,
                deterministic=not options.sampled,
                on_step=None if options.render else follow,
            )
            show({k: v for k, v in episode._asdict().items() if v is not None})


def _make(name: str, arguments: dict[str, Any], in_window: bool) -> Any:
    import gymnasium

    from keras_agalite.environments import make

    try:
        with warnings.catch_warnings():
            # Gymnasium says that it opens the window of those that draw images.
            warnings.simplefilter("ignore")
            env = make(name, render_mode="human" if in_window else None, **arguments)
            if in_window:
                env.reset()  # a machine without a screen refuses it here
            return env
    except (gymnasium.error.Error, TypeError, RuntimeError) as error:
        raise ValueError(
            f"The environment cannot be made. Received: environment={name!r}, "
            f"arguments={arguments}, window={in_window}: {error}"
        ) from error


def _evaluate(options: Any) -> None:
    from keras_agalite import MemoryPolicy, evaluate

    policy = MemoryPolicy.from_preset(options.preset)
    name, arguments = _environment(options)
    result = evaluate(
        policy,
        name,
        options.episodes,
        options.seed,
        deterministic=not options.sampled,
        environment_arguments=arguments,
    )
    show(result)
    write_json(result, options.json)


def _name(preset: str) -> str:
    """What a preset is called: by its address, its run or its folder."""
    if "://" in preset:
        revision = "@" if preset.startswith("hf://") else ".zip#"
        return preset.partition(revision)[0].rpartition("/")[2]
    folder = Path(os.path.normpath(Path.cwd() / preset))
    if folder.name != "preset":
        return folder.name
    run = folder.parent
    is_of_a_sweep = re.fullmatch(r"seed_\d+", run.name)
    return f"{run.parent.name}_{run.name}" if is_of_a_sweep else run.name


def _export(options: Any) -> None:
    from keras_agalite.export import export_policy

    output = options.output or Path(f"{_name(options.preset)}_{options.format}")
    print(
        "written to",
        export_policy(options.preset, output, options.format, options.python),
    )


if __name__ == "__main__":
    sys.exit(main())
