"""The benchmark compares forms that compute the same; memory and traces stay small."""

import json
import mmap
import shutil
import sys

import keras
import numpy as np
import pytest

import benchmarks.backends
import benchmarks.measure
import keras_agalite
from benchmarks import load, memory_maze_forgetting, passive_tmaze, products
from benchmarks.__main__ import main
from benchmarks.forms import make_form
from benchmarks.measure import BACKEND, act_work, learn_work, page_faults, sequences
from benchmarks.saved_activations import FORMS, compare, make, table
from keras_agalite.presets import released_folder

# Of the paper's network. On JAX memory can be told; the textbook form is slow to trace.
STEPS = {"jax": 128, "tensorflow": 9, "torch": 33}[BACKEND]


def run(tmp_path, *arguments):
    file = tmp_path / "rows.json"
    arguments = [*arguments, "--rounds", "1", "--json", str(file)]
    assert main([*arguments, "--forms", "ours", "textbook"]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["form"] for row in rows] == ["ours", "textbook"]
    assert all(row["median_ms"] > 0 for row in rows)
    assert all(row["page_faults"] >= 0 for row in rows)
    assert rows[0]["parameters"] == 1_740_608
    assert rows[0]["state_bytes"] == 36_880
    return rows


@pytest.mark.process
def test_ours_learns_as_the_textbook_form_in_a_third_of_its_memory(tmp_path, capsys):
    ours, _ = run(tmp_path, "learn", "--batch", "2", "--steps", str(STEPS))
    printed = capsys.readouterr().out
    assert "speedup_over_textbook" in printed
    assert "page_faults" in printed
    if BACKEND == "jax":
        assert ours["temporaries_over_textbook"] <= 0.35


def test_touching_new_memory_is_a_page_fault():
    pages = 500
    zeros = bytes(pages * mmap.PAGESIZE)
    with mmap.mmap(-1, len(zeros)) as memory:
        assert page_faults(lambda: memory.write(zeros)) >= pages
        memory.seek(0)
        assert page_faults(lambda: memory.write(zeros)) < pages // 10


@pytest.mark.process
def test_ours_acts_as_the_textbook_form(tmp_path):
    run(tmp_path, "act", "--batch", "2")


@pytest.mark.skipif(BACKEND != "jax", reason="the others do not tell")
def test_the_recurrence_adds_few_kernels_to_a_step():
    with_it, without = (
        act_work(make_form(form, num_layers=1), 1).kernels
        for form in ("ours", "no_recurrence")
    )
    # Measured: 7.
    assert 0 < with_it - without <= 8


def test_the_products_of_learning_are_made(capsys):
    measured = products.main(["--tokens", "8", "--rounds", "1"])
    assert f"{BACKEND}: " in capsys.readouterr().out
    # Those of the paper's network: 6 operations a token and number of a kernel.
    work = 6 * 8 * 1_730_560
    assert measured["gflops"] * measured["median_ms"] * 1e6 == pytest.approx(work)

    x, w, d = (np.random.normal(size=s) for s in ((5, 3), (3, 2), (5, 2)))
    [made] = products.compiled([[a.astype("float32") for a in (x, w, d)]])()
    for product, expected in zip(made, (x @ w, d @ w.T, x.T @ d), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(product), expected, 1e-4)


@pytest.mark.once
def test_no_speed_is_told_of_forms_that_differ(tmp_path, monkeypatch, capsys):
    def other_weights(name):
        layer = make_form(name)
        layer.set_weights = lambda weights: None
        return layer

    monkeypatch.setattr("benchmarks.forms.make_form", other_weights)
    file = tmp_path / "rows.json"
    arguments = ["act", "--batch", "1", "--forms", "ours", "textbook"]
    assert main([*arguments, "--json", str(file)]) == 2
    captured = capsys.readouterr()
    assert "compute different things" in captured.err
    assert captured.out == ""
    assert not file.exists()


@pytest.mark.skipif(BACKEND == "torch", reason="torch traces no sequences")
def test_the_program_does_not_grow_with_the_sequence():
    layer = make_form("ours", num_layers=1)
    sizes = [program_size(layer, steps) for steps in (128, 512)]
    assert sizes[1] <= 1.02 * sizes[0]
    # Measured: 4,815 lines of StableHLO, 12,858 nodes of a TensorFlow graph.
    assert sizes[0] <= {"jax": 6_000, "tensorflow": 15_000}[BACKEND]


@pytest.mark.skipif(BACKEND != "torch", reason="the others compile a sequence")
def test_torch_learns_from_a_sequence_in_few_calls():
    from torch.profiler import profile

    work = learn_work(make_form("ours"), 2, 128)
    with profile() as profiler:
        work.run()
    calls = sum(e.name.startswith("aten::") for e in profiler.events())
    # Measured: 21,152.
    assert calls <= 22_000


def program_size(layer, steps):
    inputs, start = sequences(2, steps)
    variables = layer.trainable_variables
    if BACKEND == "jax":
        import jax

        def loss(weights, inputs, start):
            with keras.StatelessScope(list(zip(variables, weights, strict=True))):
                outputs, *_ = layer(inputs, start=start)
            return keras.ops.sum(keras.ops.square(outputs))

        weights = [v.value for v in variables]
        lowered = jax.jit(jax.grad(loss)).lower(weights, inputs, start)
        return lowered.as_text().count("\n")
    import tensorflow as tf

    @tf.function(autograph=False)
    def gradients(inputs, start):
        with tf.GradientTape() as tape:
            outputs, *_ = layer(inputs, start=start)
            loss = tf.reduce_sum(tf.square(outputs))
        return tape.gradient(loss, [v.value for v in variables])

    arguments = tf.constant(inputs), tf.constant(start)
    graph = gradients.get_concrete_function(*arguments).graph.as_graph_def()
    inside = sum(len(function.node_def) for function in graph.library.function)
    return len(graph.node) + inside


@pytest.mark.process
@pytest.mark.skipif(BACKEND == "tensorflow", reason="its graphs do not tell")
def test_gtrxl_keeps_less_in_8_bits():
    sizes = {"num_layers": 1, "hidden_dim": 32, "num_heads": 2, "head_dim": 16}
    sizes |= {"intermediate_dim": 32, "memory_length": 16}
    plain, saved = (make("gtrxl", form, **sizes) for form in FORMS)
    saved.set_weights(plain.get_weights())

    row = compare(plain, saved, batch=8, steps=32, rounds=0)

    kept = row["kept_bytes"]
    assert 0 < kept["saved"] <= 0.5 * kept["plain"]
    assert 0 < row["gradient_error"] < 0.03
    assert "| gtrxl |" in table([{"memory": "gtrxl", **row}])


@pytest.mark.once
def test_the_forms_of_devices_compute_the_same(tmp_path, capsys):
    file = tmp_path / "rows.json"
    arguments = ["devices", "--batch", "2", "--steps", "5", "--rounds", "1"]
    forms = ["--forms", "mingru", "memoryless"]
    assert main([*arguments, *forms, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["work"], row["memory"], row["form"]) for row in rows] == [
        ("learn", "mingru", "loop"),
        ("learn", "mingru", "scan"),
        ("learn", "memoryless", ""),
        ("act", "mingru", ""),
        ("act", "memoryless", ""),
    ]
    assert rows[1]["difference"] < 1e-5
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


@pytest.mark.once
def test_the_measure_sees_a_difference():
    work = benchmarks.measure.Work(None, lambda: [np.ones(3)], 0.0, None)
    other = work._replace(result=lambda: [np.ones(3) * (1 + 2e-4)])
    assert benchmarks.measure.check_equal({"ours": work, "textbook": work}, 1) == 0.0
    with pytest.raises(ValueError, match="relative difference 2"):
        benchmarks.measure.check_equal({"ours": work, "textbook": other}, 1)
    # Over 1,024 steps some ReLU stands at its kink.
    benchmarks.measure.check_equal({"ours": work, "textbook": other}, 1024)
    wrong = work._replace(result=lambda: [np.ones(3) * (1 + 1e-3)])
    with pytest.raises(ValueError, match="relative difference 1"):
        benchmarks.measure.check_equal({"ours": work, "textbook": wrong}, 1024)


@pytest.mark.once
def test_each_form_is_called_as_often_in_each_round():
    called = []
    works = {
        name: benchmarks.measure.Work(
            lambda name=name: called.append(name), *[None] * 3
        )
        for name in ("ours", "textbook")
    }
    times = benchmarks.measure.interleave(works, 3, 4, lambda: None)
    one_round = ["ours"] * 4 + ["textbook"] * 4
    assert called == ["ours", "textbook", *one_round * 3]
    assert {name: len(rounds) for name, rounds in times.items()} == {
        "ours": 3,
        "textbook": 3,
    }


@pytest.mark.process
def test_a_backend_is_measured_in_a_process_of_its_own():
    assert benchmarks.backends.measure(BACKEND, sys.executable, "act", ["1"])[0] > 0


@pytest.mark.once
def test_an_emptied_memory_forgets():
    policy = keras_agalite.MemoryPolicy.from_preset("tmaze_10")

    def returns(every):
        forgetful = memory_maze_forgetting.Forgetful(policy, every)
        rewards = memory_maze_forgetting.play(forgetful, "tmaze_10", {}, 70, seed=7)
        assert rewards.shape == (70, 4)
        return rewards.sum(1)

    whole = returns(0)
    expected = keras_agalite.evaluate(policy, "tmaze_10", 70, seed=7)["returns"]
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    np.testing.assert_array_equal(returns(1000), whole)
    assert returns(1).mean() < 0.7 * whole.mean()


@pytest.mark.once
def test_the_table_of_passive_tmaze(tmp_path, capsys):
    released = released_folder() / "passive_tmaze_28_rate"
    shutil.copytree(released, tmp_path / "run" / "preset")
    file = tmp_path / "successes.json"
    options = ["--lengths", "3", "30", "--episodes", "4", "--json", str(file)]

    passive_tmaze.main([str(tmp_path / "run"), *options])

    row = "| run | 1 | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |"
    assert capsys.readouterr().out.splitlines()[-1] == row
    found = json.loads(file.read_text())
    assert found == {"run": {"3": [[True] * 4], "30": [[True] * 4]}}


@pytest.mark.process
def test_the_time_to_a_first_action(monkeypatch, capsys):
    monkeypatch.setattr(load, "POLICIES", (("tmaze_10", True),))
    (row,) = load.load(lambda *_: None)
    assert row["total"] == sum(row[stage] for stage in load.STAGES[1:])
    assert all(row[stage] > 0 for stage in load.STAGES)
    assert load.table([row]).splitlines()[-1].startswith("| tmaze_10 | released |")


@pytest.mark.skipif(BACKEND != "jax", reason="memax runs on JAX")
def test_memax_computes_what_our_memories_do():
    pytest.importorskip("memax")
    from benchmarks.peers import PEERS, peers

    rows = list(peers(list(PEERS), batch=2, steps=5, rounds=1))
    assert [row["memory"] for row in rows] == list(PEERS)
