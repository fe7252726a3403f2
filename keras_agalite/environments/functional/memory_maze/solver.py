"""Accelerations under soft contacts: Newton's method, then friction without slip."""

from typing import Any

import jax
import jax.numpy as jnp

from keras_agalite.environments.functional.memory_maze import contact as c
from keras_agalite.environments.functional.memory_maze.contact import Contact, Vector

# Steps for the multiplier of each contact's friction, which goes on from sweep to sweep
# and from substep to substep.
INNER = 3


def solve(
    free: Vector, contacts: list[Contact], start: Any, newton: int, sweeps: int
) -> tuple[Vector, Any]:
    """Accelerations of the walker with its contacts, as MuJoCo finds them.

    Args:
        free: Accelerations without contacts.
        contacts: The contacts.
        start: What the last substep returned; see `first_start`.
        newton: Newton steps. MuJoCo goes on to a tolerance.
        sweeps: Sweeps of the friction without slip; MuJoCo's model asks for 5.

    Returns:
        The accelerations, and where the next substep may start.
    """
    begin, extras = start
    a: Vector = jax.lax.fori_loop(
        0, newton, lambda _, a: _newton_step(a, free, contacts), begin
    )
    found = [c.forces(x, c.add(x.rows(a), x.target, -1.0)) for x in contacts]
    final, extras = _without_slip(free, contacts, found, extras, sweeps)
    return final, (a, extras)


def first_start(zero: Any, contacts: int) -> Any:
    return (zero,) * 5, (zero,) * contacts


def _newton_step(a: Vector, free: Vector, contacts: list[Contact]) -> Vector:
    """One step along Newton's direction to about the lowest point there."""
    slips = [c.add(x.rows(a), x.target, -1.0) for x in contacts]
    gradient = c.mass_times(c.add(a, free, -1.0))
    hessian = _mass_matrix()
    for x, slip in zip(contacts, slips, strict=True):
        gradient = c.add(gradient, x.pull(c.forces(x, slip)), -1.0)
        _add_hessian(hessian, x, slip)
    direction = _solve_linear(hessian, [-g for g in gradient])
    # The cost along the direction is convex; its slope is zero at the lowest point.
    moves = [x.rows(direction) for x in contacts]
    heavy = c.mass_times(direction)
    slope0 = c.dot(heavy, c.add(a, free, -1.0))
    curve0 = c.dot(heavy, direction)
    low = jnp.zeros_like(slope0)
    high = jnp.full_like(slope0, 2.0)
    step = jnp.ones_like(slope0)
    for _ in range(3):
        slope, curve = slope0 + step * curve0, curve0
        for x, slip, move in zip(contacts, slips, moves, strict=True):
            more, bend = _along(x, c.add(slip, move, step), move)
            slope, curve = slope + more, curve + bend
        low = jnp.where(slope < 0, step, low)
        high = jnp.where(slope > 0, step, high)
        step = step - slope / curve
        step = jnp.where((step > low) & (step < high), step, 0.5 * (low + high))
    return c.add(a, direction, step)


def _along(x: Contact, slip: Any, move: Any) -> tuple[Any, Any]:
    """First and second derivative of the cost along `move`."""
    nn, cross, outer, eye, unit = _curvature(x, slip)
    slope = -c.dot(c.forces(x, slip), move)
    n, *rest = move
    along = c.dot(unit, rest)
    bend = nn * n * n + 2 * cross * n * along + outer * along**2
    return slope, bend + eye * c.dot(rest, rest)


def _curvature(x: Contact, slip: Any) -> Any:
    """The 4x4 Hessian of the cost: parts nn, n(unit), (unit)(unit), identity."""
    n, a, b, t = slip
    length = jnp.sqrt(a * a + b * b + t * t + 1e-12)
    sticks = n + length <= 0
    free = n >= length
    half = jnp.where(free, 0.0, 0.5 * x.weight)
    around = jnp.where(free | sticks, 0.0, half * (length - n) / length)
    nn = jnp.where(sticks, x.weight, half)
    cross = jnp.where(sticks, 0.0, -half)
    outer = jnp.where(sticks, 0.0, half - around)
    eye = jnp.where(sticks, x.weight, around)
    return nn, cross, outer, eye, (a / length, b / length, t / length)


def _mass_matrix() -> list[list[Any]]:
    zero = 0.0
    matrix: list[list[Any]] = [[zero] * 5 for _ in range(5)]
    for i, value in enumerate((c.MASS, c.MASS, c.MASS, c.YAW_INERTIA, c.ROLL_INERTIA)):
        matrix[i][i] = value
    matrix[1][3] = matrix[3][1] = c.OFFSET
    return matrix


def _add_hessian(matrix: list[list[Any]], x: Contact, slip: Any) -> None:
    nn, cross, outer, eye, unit = _curvature(x, slip)
    n, *rest = x.jacobian()
    u = [
        sum(_times(k, row[i]) for k, row in zip(unit, rest, strict=True))
        for i in range(5)
    ]
    half = [_times(nn, n[i]) + _times(cross, u[i]) for i in range(5)]
    other = [_times(cross, n[i]) + _times(outer, u[i]) for i in range(5)]
    for i in range(5):
        for j in range(i + 1):
            value = _times(half[i], n[j]) + _times(other[i], u[j])
            for row in rest:
                value = value + _times(eye, _times(row[i], row[j]))
            matrix[i][j] = matrix[i][j] + value


def _times(a: Any, b: Any) -> Any:
    """Product that knows zeros at trace time."""
    if (isinstance(a, float) and a == 0.0) or (isinstance(b, float) and b == 0.0):
        return 0.0
    return a * b


def _solve_linear(matrix: list[list[Any]], right: list[Any]) -> Any:
    """Solves a symmetric system, given by its lower triangle: L D L^T."""
    size = len(right)
    lower: list[list[Any]] = [[0.0] * size for _ in range(size)]
    scale: list[Any] = [1.0] * size
    y = list(right)
    for j in range(size):
        value = matrix[j][j]
        for k in range(j):
            value = value - _times(_times(lower[j][k], lower[j][k]), 1.0) * scale[k]
        scale[j] = value
        inverse = 1.0 / value
        for i in range(j + 1, size):
            value = matrix[i][j]
            for k in range(j):
                value = value - _times(_times(lower[i][k], lower[j][k]), scale[k])
            lower[i][j] = _times(value, inverse)
    for i in range(size):
        for k in range(i):
            y[i] = y[i] - _times(lower[i][k], y[k])
    y = [y[i] / scale[i] for i in range(size)]
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            y[i] = y[i] - _times(lower[k][i], y[k])
    return tuple(y)


def _without_slip(
    free: Vector, contacts: list[Contact], found: list[Any], extras: Any, sweeps: int
) -> tuple[Vector, Any]:
    """Friction forces solved anew, without regularisation, the normals as they are."""
    a = free
    for x, f in zip(contacts, found, strict=True):
        a = c.add(a, c.inverse_mass_times(x.pull(f)))

    def sweep(_: Any, carry: Any) -> Any:
        a, found, extras = carry
        found, extras = list(found), list(extras)
        for k, x in enumerate(contacts):
            n, *friction = found[k]
            slip = c.add(x.rows(a), x.target, -1.0)[1:]
            matrix = x.tangent_matrix()
            bias = c.add(slip, _symmetric(matrix, friction), -1.0)
            new, extras[k] = _in_ball(matrix, bias, n, extras[k])
            new = [jnp.where(n > 0, value, 0.0) for value in new]
            change = [v - w for v, w in zip(new, friction, strict=True)]
            pull = x.pull((jnp.zeros_like(n), *change))
            a = c.add(a, c.inverse_mass_times(pull))
            found[k] = (n, *new)
        return a, tuple(found), tuple(extras)

    a, _, extras = jax.lax.fori_loop(0, sweeps, sweep, (a, tuple(found), extras))
    return a, extras


def _symmetric(matrix: Any, v: Any) -> Any:
    xx, yy, zz, xy, xz, yz = matrix
    x, y, z = v
    return (
        xx * x + xy * y + xz * z,
        xy * x + yy * y + yz * z,
        xz * x + yz * y + zz * z,
    )


def _in_ball(matrix: Any, bias: Any, radius: Any, extra: Any) -> Any:
    """Minimum of v A v / 2 + b v over the ball of this radius, by its multiplier.

    Returns the minimum and the multiplier; `extra` is where its search begins.
    """
    for _ in range(INNER):
        v = _solve_three(matrix, bias, extra)
        inner = _solve_three(matrix, [-x for x in v], extra)
        square = c.dot(v, v)
        # Newton on 1 / |v| - 1 / radius, nearly linear in the multiplier.
        length = jnp.sqrt(square + 1e-20)
        slope = c.dot(v, inner)
        move = (length - radius) / (radius + 1e-12) * square / (slope + 1e-20)
        extra = jnp.where(radius > 1e-6, jnp.maximum(extra + move, 0.0), 0.0)
    v = _solve_three(matrix, bias, extra)
    length = jnp.sqrt(c.dot(v, v) + 1e-20)
    scale = jnp.minimum(radius / length, 1.0)
    return [x * scale for x in v], extra


def _solve_three(matrix: Any, bias: Any, extra: Any) -> Any:
    """-(A + extra I)^-1 b by cofactors."""
    xx, yy, zz, xy, xz, yz = matrix
    xx, yy, zz = xx + extra, yy + extra, zz + extra
    a, b, d = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    e, f, g = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    scale = -1.0 / (xx * a + xy * b + xz * d)
    x, y, z = bias
    return (
        scale * (a * x + b * y + d * z),
        scale * (b * x + e * y + f * z),
        scale * (d * x + f * y + g * z),
    )
