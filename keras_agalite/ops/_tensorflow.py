"""A scan over time for TensorFlow, with a gradient that recomputes chunks.

`tf.while_loop` would keep every intermediate of every step for its gradient.
Here a custom gradient keeps one carry a chunk and runs the chunk again.
"""

from typing import Any

import tensorflow as tf

# Whether gradients reach what a step reads besides its arguments: no,
# a custom gradient knows its arguments alone.
READS_AROUND = False


def scan(step: Any, carry: Any, xs: Any, chunk_size: int) -> tuple[Any, Any]:
    """See `keras_agalite.ops._backend.scan`; here time is the first axis."""
    length = xs[0].shape[0]
    if length is None:  # one chunk, run again as a whole
        whole = chunk_size = tf.shape(xs[0])[0]
        rest = 0
    else:
        rest = length % chunk_size
        whole = length - rest
    outputs = []
    if length is None or whole:
        shapes = [tf.shape(x)[1:] for x in xs]
        chunks = [
            tf.reshape(x[:whole], tf.concat([[whole // chunk_size, chunk_size], s], 0))
            for x, s in zip(xs, shapes, strict=True)
        ]
        for chunk, x in zip(chunks, xs, strict=True):
            static = None if length is None else chunk_size
            steps = None if length is None else whole // chunk_size
            chunk.set_shape([steps, static, *x.shape[1:]])
        ys, carry = _scan_chunks(step, carry, chunks)
        flat = tf.reshape(ys, tf.concat([[whole], tf.shape(ys)[2:]], 0))
        flat.set_shape([None, *ys.shape[2:]])
        outputs.append(flat)
    if rest:
        ys, carry = _loop(step, carry, [x[whole:] for x in xs])
        outputs.append(ys)
    ys = tf.concat(outputs, 0)
    ys.set_shape([length, *ys.shape[1:]])
    return ys, carry


def _arrays(xs: Any) -> list[tf.TensorArray]:
    return [
        tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:]).unstack(x)
        for x in xs
    ]


def _empty(length: Any, like: Any) -> list[tf.TensorArray]:
    return [
        tf.TensorArray(x.dtype, length, element_shape=x.shape, clear_after_read=False)
        for x in like
    ]


def _loop(step: Any, carry: Any, xs: Any) -> tuple[Any, list[Any]]:
    """The plain loop: differentiable, keeps what every step computes."""
    length = xs[0].shape[0] or tf.shape(xs[0])[0]
    reads = _arrays(xs)
    carry, y = step(carry, [x.read(0) for x in reads])
    if xs[0].shape[0] == 1:
        return y[None], list(carry)
    ys = tf.TensorArray(y.dtype, length, element_shape=y.shape).write(0, y)

    def body(t: Any, carry: Any, ys: Any) -> tuple[Any, Any, Any]:
        new, y = step(carry, [x.read(t) for x in reads])
        for n, c in zip(new, carry, strict=True):
            n.set_shape(c.shape)
        return t + 1, list(new), ys.write(t, y)

    _, carry, ys = tf.while_loop(
        lambda t, *_: t < length,
        body,
        (1, list(carry), ys),
        maximum_iterations=length - 1,
    )
    return ys.stack(), list(carry)


def _scan_chunks(step: Any, carry: Any, xs: Any) -> tuple[Any, list[Any]]:
    """`_loop` over xs of shape (chunks, steps, ...), recomputed in its gradient."""
    chunks = xs[0].shape[0] or tf.shape(xs[0])[0]
    num_carry = len(carry)
    shape = tf.TensorShape(None)  # of the outputs of a chunk, once traced

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*arguments: Any) -> Any:
        carry, xs = arguments[:num_carry], arguments[num_carry:]
        reads = _arrays(xs)
        kept = _empty(chunks, carry)
        ys = tf.TensorArray(carry[0].dtype, chunks, infer_shape=False)

        def forward(i: Any, carry: Any, ys: Any, kept: Any) -> Any:
            nonlocal shape
            kept = [k.write(i, c) for k, c in zip(kept, carry, strict=True)]
            y, new = _loop(step, carry, [x.read(i) for x in reads])
            shape = y.shape
            for n, c in zip(new, carry, strict=True):
                n.set_shape(c.shape)
            return i + 1, new, ys.write(i, y), kept

        _, final, ys, kept = tf.while_loop(
            lambda i, *_: i < chunks,
            forward,
            (0, list(carry), ys, kept),
            maximum_iterations=chunks,
        )
        kept = [k.stack() for k in kept]

        def gradient(d_ys: Any, *d_carry: Any) -> Any:
            d_ys = tf.ensure_shape(d_ys, [None, *shape])
            reads, starts = _arrays(xs), _arrays(kept)
            [d_reads] = _arrays([d_ys])

            def backward(i: Any, d_carry: Any, d_xs: Any) -> Any:
                inputs = [[s.read(i) for s in starts], [x.read(i) for x in reads]]
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    outputs = _loop(step, *inputs)
                d_inputs = tape.gradient(
                    outputs,
                    inputs,
                    (d_reads.read(i), list(d_carry)),
                    unconnected_gradients="zero",
                )
                for d, c in zip(d_inputs[0], carry, strict=True):
                    d.set_shape(c.shape)
                d_xs = [a.write(i, d) for a, d in zip(d_xs, d_inputs[1], strict=True)]
                return i - 1, d_inputs[0], d_xs

            _, d_carry, d_xs = tf.while_loop(
                lambda i, *_: i >= 0,
                backward,
                (chunks - 1, list(d_carry), _empty(chunks, [x[0] for x in xs])),
                maximum_iterations=chunks,
            )
            return [*d_carry, *(d.stack() for d in d_xs)]

        return [ys.stack(), *final], gradient

    ys, *final = run(*carry, *xs)
    ys.set_shape([None, *shape])
    for f, c in zip(final, carry, strict=True):
        f.set_shape(c.shape)
    return ys, final


def custom_gradient(forward: Any, keep: Any, backward: Any, *inputs: Any) -> Any:
    """See `keras_agalite.ops._backend.custom_gradient`."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*inputs: Any) -> Any:
        output = forward(*inputs)
        kept = keep(inputs, output)
        return output, lambda d_output: backward(kept, d_output)

    # A variable would have to be one of the function's own.
    return run(*map(tf.convert_to_tensor, inputs))


def row_bounds(x: Any) -> tuple[Any, Any]:
    """See `keras_agalite.ops._backend.row_bounds`; Keras's refuse an empty batch."""
    return tf.reduce_min(x, -1, keepdims=True), tf.reduce_max(x, -1, keepdims=True)
