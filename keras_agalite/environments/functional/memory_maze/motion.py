"""The walker's motion for one action: 50 substeps of a ball that drives and steers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keras_agalite.environments.functional.memory_maze import contact as c
from keras_agalite.environments.functional.memory_maze.solver import first_start, solve

SUBSTEPS = 50
GRAVITY = 9.81
ROLL_DAMPING = 5.0
YAW_DAMPING = 20.0
ROLL_TORQUE = 50.0
YAW_TORQUE = 30.0
CELL = 2.0
TARGET_RADIUS = 0.6
# Measured: with 8 Newton steps and 8 for each multiplier the motion is MuJoCo's to a
# few micrometres; with these, cheaper, to a fraction of a millimetre (docs).
NEWTON = 6
SWEEPS = 5

# Drive and turn (left positive) of the six actions.
DRIVE = (0.0, 1.0, 0.0, 0.0, 1.0, 1.0)
TURN = (0.0, 0.0, 1.0, -1.0, 1.0, -1.0)


class Body(NamedTuple):
    """The walker: all its joints, and how fast they move. World axes, m, rad, s.

    Attributes:
        x: Of the ball's centre, from the middle of the maze; y likewise.
        height: Of the ball's centre above that of a ball that just touches the ground.
        heading: Angle to the x axis, positive to the left.
        vx: Velocity; vy, vz likewise.
        yaw: Rate of turn to the left.
        roll: Rate of the ball's roll, forward positive.
    """

    x: Any
    y: Any
    height: Any
    heading: Any
    vx: Any
    vy: Any
    vz: Any
    yaw: Any
    roll: Any


def substep(
    body: Body, start: Any, drive: Any, turn: Any, walls: Any
) -> tuple[Body, Any]:
    """5 ms of motion.

    Args:
        body: The walker.
        start: Where the search for the forces starts.
        drive: Command of the roll motor, 1 is forward.
        turn: Command of the steering motor, 1 is to the left.
        walls: `(gap, nx, ny)` for each wall that may be touched.

    Returns:
        The walker, and where the next search starts.
    """
    cos, sin = jnp.cos(body.heading), jnp.sin(body.heading)
    forward = cos * body.vx + sin * body.vy
    left = cos * body.vy - sin * body.vx
    u = (forward, left, body.vz, body.yaw, body.roll)
    push = (
        c.OFFSET * body.yaw**2,
        jnp.zeros_like(left),
        jnp.full_like(left, -GRAVITY * c.MASS),
        YAW_TORQUE * turn - YAW_DAMPING * body.yaw,
        ROLL_TORQUE * drive - ROLL_DAMPING * body.roll,
    )
    free = c.inverse_mass_times(push)
    contacts = [c.make_contact(body.height, u)]
    for gap, nx, ny in walls:
        normal = (cos * nx + sin * ny, cos * ny - sin * nx)
        contacts.append(c.make_contact(gap, u, normal))
    a, start = solve(free, contacts, start, NEWTON, SWEEPS)
    # Implicit joint damping: MuJoCo's Euler integrator.
    _, left_force, _, yaw_force, roll_force = c.mass_times(a)
    inertia = c.YAW_INERTIA + c.SUBSTEP * YAW_DAMPING
    determinant = c.MASS * inertia - c.OFFSET**2
    a_left = (inertia * left_force - c.OFFSET * yaw_force) / determinant
    a_yaw = (c.MASS * yaw_force - c.OFFSET * left_force) / determinant
    a_roll = roll_force / (c.ROLL_INERTIA + c.SUBSTEP * ROLL_DAMPING)
    h = c.SUBSTEP
    vx = body.vx + h * (cos * a[0] - sin * a_left)
    vy = body.vy + h * (sin * a[0] + cos * a_left)
    vz = body.vz + h * a[2]
    yaw, roll = body.yaw + h * a_yaw, body.roll + h * a_roll
    return Body(
        body.x + h * vx,
        body.y + h * vy,
        body.height + h * vz,
        body.heading + h * yaw,
        vx,
        vy,
        vz,
        yaw,
        roll,
    ), start


def find_walls(lookup: Any, x: Any, y: Any, size: int) -> Any:
    """The walls or the corner that a ball at x, y may touch.

    Args:
        lookup: Function of row and column: whether there is a wall.
        size: Cells along a side.

    Returns:
        Two times `(gap, nx, ny)`: a wall to the east or west, or the corner of a cell;
        a wall to the north or south. A gap of 1 stands for nothing there.
    """
    middle = (size - 1) / 2
    column = jnp.round(x / CELL + middle)
    row = jnp.round(middle - y / CELL)
    dx = x - (column - middle) * CELL
    dy = y - (middle - row) * CELL
    sx, sy = jnp.where(dx < 0, -1.0, 1.0), jnp.where(dy < 0, -1.0, 1.0)
    i, j = row.astype(jnp.int32), column.astype(jnp.int32)
    next_j, next_i = j + sx.astype(jnp.int32), i - sy.astype(jnp.int32)
    east, north = lookup(i, next_j), lookup(next_i, j)
    diagonal = lookup(next_i, next_j) & ~east & ~north
    px, py = 1.0 - jnp.abs(dx), 1.0 - jnp.abs(dy)
    distance = jnp.sqrt(px * px + py * py + 1e-12)
    one, zero = jnp.ones_like(x), jnp.zeros_like(x)
    gap = jnp.where(east, px, jnp.where(diagonal, distance, 1.0 + c.RADIUS))
    nx = -sx * jnp.where(east, one, px / distance)
    ny = -sy * jnp.where(east, zero, py / distance)
    other = jnp.where(north, py, 1.0 + c.RADIUS)
    return (gap - c.RADIUS, nx, ny), (other - c.RADIUS, zero, -sy)


def move(body: Body, action: Any, rows: Any, targets: Any) -> tuple[Body, Any]:
    """0.25 s of motion under one action.

    Args:
        body: The walker.
        action: Number of the action, int32.
        rows: Walls: bit j of word i is the cell at row i, column j.
        targets: x and y of the targets, m, of shape `(targets, 2)`.

    Returns:
        The walker, and which targets it touched after any of the substeps.
    """
    drive, turn = jnp.asarray(DRIVE)[action], jnp.asarray(TURN)[action]

    def lookup(i: Any, j: Any) -> Any:
        return (rows[i] >> j.astype(rows.dtype)) & 1 > 0

    def one(_: Any, carry: Any) -> Any:
        body, start, touched = carry
        walls = find_walls(lookup, body.x, body.y, len(rows))
        body, start = substep(body, start, drive, turn, walls)
        across = (targets - jnp.stack([body.x, body.y])) ** 2
        rise = (c.RADIUS + body.height) ** 2
        near = across.sum(-1) + rise < (TARGET_RADIUS + c.RADIUS) ** 2
        return body, start, touched | near

    zero = jnp.zeros_like(body.x)
    touched = jnp.zeros(len(targets), bool)
    carry = (body, first_start(zero, 3), touched)
    body, _, touched = jax.lax.fori_loop(0, SUBSTEPS, one, carry)
    return body, touched
