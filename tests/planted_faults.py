"""Plants known faults, one at a time, and asks the tests to find them.

    python -m tests.planted_faults            # all, in a copy of this checkout
    python -m tests.planted_faults start_is_forgotten reward_is_late
    python -m tests.planted_faults --list     # the table, without running anything
    python -m tests.planted_faults --root DIR # in a copy of another checkout

Each named test has to pass as the tree is, and to fail with the fault. A fault is a
line of the source and what takes its place, so moving the line to another file is
fine; a line that is gone, or there twice, is reported.
"""

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

# Interpreters of the backends that this one may lack (see the Makefile).
PYTHONS = {
    "jax": sys.executable,
    "tensorflow": os.environ.get("EXPORT_PYTHON_TENSORFLOW") or sys.executable,
    "torch": os.environ.get("EXPORT_PYTHON_TORCH") or sys.executable,
}
SOURCES = ("keras_agalite", "training")
EVERY, ONCE, PROCESS = "backend", "once", "process"


class Fault(NamedTuple):
    """One line for another, and the test that finds it.

    Attributes:
        kind: What is broken.
        old: A line, or a part of one, that the source holds once.
        new: What takes its place.
        test: The test that fails.
        ring: The ring of that test.
        backend: The backend on which it runs here.
    """

    kind: str
    old: str
    new: str
    test: str
    ring: str = EVERY
    backend: str = "jax"


OPS = "tests/ops/test_gated_linear_attention.py"
LAYER = "tests/layers/test_memory_rnn.py"
LOADING = "tests/zoo/test_loading.py"
FAULTS = {
    "middle_oscillator_counts_twice": Fault(
        "ops",
        "weights[-1] = 1.0",
        "weights[-1] = 2.0",
        f"{OPS}::test_matches_the_oracle",
    ),
    "rest_of_a_sequence_is_not_carried": Fault(
        "ops",
        "carry, ys = run(carry, [x[whole:] for x in xs])",
        "_, ys = run(carry, [x[whole:] for x in xs])",
        f"{OPS}::test_matches_the_oracle",
    ),
    "window_is_one_too_short": Fault(
        "ops",
        "seen = ops.logical_and(seen, distance <= memory_length)",
        "seen = ops.logical_and(seen, distance < memory_length)",
        "tests/ops/test_relative_attention.py::test_matches_the_oracle",
    ),
    "gate_is_not_biased": Fault(
        "ops",
        "z = ops.sigmoid(from_update[1] + from_stream[1] - bias)",
        "z = ops.sigmoid(from_update[1] + from_stream[1])",
        "tests/layers/test_gru_gate.py::test_matches_the_formula",
    ),
    "clock_counts_beyond_its_dtype": Fault(
        "state",
        "ops.cast(total % clock_modulus(r, state_dtype), dtype)",
        "ops.cast(total, dtype)",
        f"{OPS}::test_clock_wraps_where_float32_would_stop_counting",
    ),
    "clock_never_restarts": Fault(
        "start",
        "restart = start if restart_clock else None",
        "restart = None",
        f"{OPS}::test_a_clock_that_restarts_matches_the_oracle",
    ),
    "state_is_in_half_precision": Fault(
        "state",
        "state = tree.map_structure(lambda s: ops.cast(s, self.state_dtype), state)",
        "state = tree.map_structure(lambda s: ops.cast(s, self.compute_dtype), state)",
        f"{LAYER}::test_state_is_float32_in_half_precision",
    ),
    "start_leaves_the_keys": Fault(
        "start",
        "carry = empty_at_start(carry, flags[0])",
        "carry = [carry[0], *empty_at_start(carry, flags[0])[1:]]",
        f"{OPS}::test_matches_the_oracle",
    ),
    "start_leaves_a_chunk_full": Fault(
        "start",
        "decays, updates = _empty(later_starts, decays), _empty(later_starts, updates)",
        "pass",
        "tests/ops/test_parallel_scan.py::test_agalite_matches_the_oracle",
        ring=ONCE,
    ),
    "start_leaves_a_cell_full": Fault(
        "start",
        "ops.where(start, ops.zeros_like(s), s), self.cell.compute_dtype",
        "ops.where(start, s, s), self.cell.compute_dtype",
        f"{LAYER}::test_a_start_anywhere_equals_the_episodes_apart",
    ),
    "start_is_forgotten_in_acting": Fault(
        "start",
        'return self._step(observation, state, {"start": start, **rows})',
        'return self._step(observation, state, {"start": start & False, **rows})',
        "tests/models/test_policy.py::test_a_start_empties_the_memory_of_its_row",
    ),
    "start_of_a_masked_step_counts": Fault(
        "mask",
        "            start = ops.logical_and(start, mask)\n        flags.append(",
        "            pass\n        flags.append(",
        f"{LAYER}::test_start_at_a_masked_step_is_skipped",
    ),
    "masked_token_fades_the_keys": Fault(
        "mask",
        "inputs = [ops.where(valid, x, 0.0) for x in inputs]",
        "inputs[:4] = [ops.where(valid, x, 0.0) for x in inputs[:4]]",
        f"{OPS}::test_a_masked_token_is_as_if_it_were_not_there",
    ),
    "packed_weights_are_unpacked": Fault(
        "loader",
        "if plan.get_layout() not in plain or plan.get_external_count():",
        "if plan.get_external_count() < 0:",
        f"{LOADING}::test_a_damaged_weights_file_is_refused_before_anything_is_built",
        ONCE,
    ),
    "weights_may_be_nan": Fault(
        "loader",
        "if not fits.all():",
        "if not fits.any():",
        f"{LOADING}::test_a_damaged_weights_file_is_refused_before_anything_is_built",
        ONCE,
    ),
    "activation_may_be_any_object": Fault(
        "loader",
        "isinstance(value, str) and value in ACTIVATIONS",
        "bool(ACTIVATIONS)",
        "tests/models/test_presets.py::test_no_activation_is_looked_up_in_a_module",
        ONCE,
    ),
    "truncation_is_credited_across_episodes": Fault(
        "engine",
        "decay = jnp.where(ended, 0.0, discount * gae_lambda)",
        "decay = jnp.where(terminated, 0.0, discount * gae_lambda)",
        "tests/training/test_ppo.py::test_advantages_equal_a_plain_loop",
    ),
    "objective_is_the_optimistic_one": Fault(
        "engine",
        "objective = jnp.minimum(ratio * advantage, clipped * advantage)",
        "objective = jnp.maximum(ratio * advantage, clipped * advantage)",
        "tests/training/test_ppo.py"
        "::test_loss_terms_and_gradients_equal_those_of_tf_agents",
        PROCESS,
    ),
    "value_loss_is_the_optimistic_one": Fault(
        "engine",
        "tf.maximum(error, tf.math.squared_difference(returns, clipped))",
        "tf.minimum(error, tf.math.squared_difference(returns, clipped))",
        "tests/integrations/test_ppo_agent.py"
        "::test_equals_the_stock_agent_on_sequences_that_begin_an_episode",
        backend="tensorflow",
    ),
    "advantages_are_those_of_one_replica": Fault(
        "engine",
        "total([tf.reduce_sum(x) for x in (weights, weights * advantages)])",
        "[tf.reduce_sum(x) for x in (weights, weights * advantages)]",
        "tests/integrations/test_replicas.py::test_two_replicas_learn_what_one_learns",
        PROCESS,
        backend="tensorflow",
    ),
    "observations_without_an_action_are_counted": Fault(
        "engine",
        'mask = ops.cast(mask, "bool")[:, None]',
        'mask = ops.ones_like(ops.cast(mask, "bool"))[:, None]',
        "tests/models/test_normalization.py"
        "::test_moments_of_batches_are_those_of_all_rows",
    ),
    "returns_go_on_over_episodes": Fault(
        "engine",
        "linear_recurrence(decay, reward, scale.returns, start=start)",
        "linear_recurrence(decay, reward, scale.returns)",
        "tests/training/test_rewards.py::test_rewards_are_scaled_as_step_by_step",
    ),
    "worst_policy_is_kept": Fault(
        "engine",
        "self.best is None or score(scores) >= score(self.best.scores)",
        "self.best is None or score(scores) <= score(self.best.scores)",
        "tests/training/test_validation.py::test_the_best_policy_is_kept",
        ONCE,
    ),
    "oldest_checkpoint_is_restored": Fault(
        "resume",
        "for step in reversed(self.steps()):",
        "for step in self.steps():",
        "tests/training/test_checkpoints.py::test_what_is_saved_is_restored",
        ONCE,
    ),
    "curve_repeats_what_is_done_again": Fault(
        "resume",
        'self.rows = [row for row in read_curve(path) if row["step"] <= step]',
        "self.rows = read_curve(path)",
        "tests/training/test_jax_engine.py"
        "::test_a_resumed_run_repeats_the_one_that_was_not_stopped",
        PROCESS,
    ),
    "export_forgets_starts": Fault(
        "export",
        'self.policy(observation, state, now["start"])',
        "self.policy(observation, state)",
        "tests/export/test_export.py"
        "::test_an_export_acts_like_its_policy_for_1000_steps",
        PROCESS,
        "torch",
    ),
    "position_is_no_gray_code": Fault(
        "environment",
        "gray = self.position ^ (self.position >> 1)",
        "gray = self.position",
        "tests/environments/test_tmaze.py::test_positions_are_gray_codes",
        ONCE,
    ),
    "reset_shows_the_last_action": Fault(
        "environment",
        "zeros = [np.zeros(size, np.float32) for size in (self.size, 1)]",
        "zeros = [np.ones(size, np.float32) for size in (self.size, 1)]",
        "tests/environments/test_wrappers.py"
        "::test_it_adds_the_previous_action_and_reward",
        ONCE,
    ),
}


def copy(root: Path, to: Path) -> None:
    """Copies what git would commit."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)


def find(root: Path, old: str) -> Path:
    """The one file of the source that holds a text, once."""
    paths = [path for folder in SOURCES for path in (root / folder).rglob("*.py")]
    found = [path for path in paths for _ in range(path.read_text().count(old))]
    if len(found) != 1:
        raise SystemExit(f"Expected {old!r} once in the source. Received: {found}")
    return found[0]


@functools.cache
def passes(root: Path, test: str, backend: str) -> bool:
    """Whether a test passes as the tree is."""
    return not fails(root, test, backend)


def fails(root: Path, test: str, backend: str) -> bool:
    """Whether a test fails; any other end of pytest than its two is an error."""
    run = subprocess.run(
        [PYTHONS[backend], "-m", "pytest", "-q", "-x", "-m", "not slow", test],
        cwd=root,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode not in (0, 1):
        raise SystemExit(f"{test} on {backend} ended otherwise:\n{run.stdout[-2000:]}")
    return run.returncode == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(FAULTS), metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    print("| kind | fault | file | ring | found by |\n|---|---|---|---|---|")
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        copy(options.root, root)
        for name in options.names:
            find(root, FAULTS[name].old)  # before any test is run
        for name in options.names:
            fault = FAULTS[name]
            path = find(root, fault.old)
            where, says = path.relative_to(root), name.replace("_", " ")
            row = f"| {fault.kind} | {says} | {where} | {fault.ring} | `{fault.test}` |"
            if options.list:
                print(row)
                continue
            if not passes(root, fault.test, fault.backend):
                raise SystemExit(f"{fault.test} fails as the tree is.")
            text = path.read_text()
            path.write_text(text.replace(fault.old, fault.new))
            if not fails(root, fault.test, fault.backend):
                missed.append(name)
                row += " MISSED"
            path.write_text(text)
            print(row, flush=True)
    if missed:
        raise SystemExit(f"Not found: {', '.join(missed)}")


if __name__ == "__main__":
    main()
