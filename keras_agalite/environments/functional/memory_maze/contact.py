"""Forces of the ground and the walls on the ball: one substep's accelerations.

MuJoCo's soft contacts (its documentation, "Computation"), written out for this one
walker: five coordinates, the ground, and at most two walls. Accelerations are in the
walker's frame, `(forward, left, up, yaw, roll)`; yaw is positive to the left, roll
when the ball rolls forward. Units are m, rad, s, kg and N. All values are arrays of
one shape, for instance `(batch,)`, and every operation is elementwise.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

# The compiled model of memory-maze 1.0.3.
MASS = 22.00001
YAW_INERTIA = 1.185332
OFFSET = 0.15  # kg m: the camera's 1 kg is 0.15 m ahead of the axis
ROLL_INERTIA = 0.016
RADIUS = 0.2
TORSION = 0.02  # torsional friction; that of sliding is 1
SUBSTEP = 0.005

# solref (0.02, 1) and solimp (0.9, 0.95, 0.001, 0.5, 2), MuJoCo's defaults.
STIFFNESS = 1 / (0.95 * 0.02) ** 2
DAMPING = 2 / (0.95 * 0.02)
# MuJoCo's estimate of the inverse mass that a contact moves.
INVERSE_WEIGHT = 0.0454728

_DETERMINANT = MASS * YAW_INERTIA - OFFSET**2
# The inverse of the mass matrix: left and yaw are coupled, the others alone.
INVERSE_LEFT = YAW_INERTIA / _DETERMINANT
INVERSE_YAW = MASS / _DETERMINANT
INVERSE_COUPLING = -OFFSET / _DETERMINANT

Vector = tuple[Any, Any, Any, Any, Any]
Rows = tuple[Any, Any, Any, Any]


class Contact(NamedTuple):
    """One contact: with the ground where `normal` is None, else with a wall.

    Attributes:
        arm: From the centre of the ball to the contact, m.
        weight: Stiffness of the regularised constraint; 0 where they do not touch.
        target: Acceleration that the constraint asks for, by row.
        normal: Horizontal unit vector `(forward, left)` from the wall to the ball.
    """

    arm: Any
    weight: Any
    target: Rows
    normal: Any = None

    def rows(self, u: Vector) -> Rows:
        """The constraint's Jacobian times `u`: normal, two tangents, torsion.

        The torsional row is scaled by its friction, so that the friction cone is
        round: the force along the normal bounds the length of the other three.
        """
        forward, left, up, yaw, roll = u
        if self.normal is None:
            return up, forward - self.arm * roll, left, TORSION * yaw
        nf, nl = self.normal
        return (
            nf * forward + nl * left,
            nf * left - nl * forward - self.arm * yaw,
            up + self.arm * nf * roll,
            TORSION * nl * roll,
        )

    def pull(self, f: Rows) -> Vector:
        """The transposed Jacobian times the forces `f` of the four rows."""
        n, a, b, t = f
        zero = jnp.zeros_like(n)
        if self.normal is None:
            return a, b, n, TORSION * t, -self.arm * a
        nf, nl = self.normal
        return (
            nf * n - nl * a,
            nl * n + nf * a,
            b + zero,
            -self.arm * a,
            self.arm * nf * b + TORSION * nl * t,
        )

    def jacobian(self) -> list[list[Any]]:
        """The four rows of `rows`; 0.0 where there is nothing."""
        if self.normal is None:
            return [
                [0.0, 0.0, 1.0, 0.0, 0.0],
                [1.0, 0.0, 0.0, 0.0, -self.arm],
                [0.0, 1.0, 0.0, 0.0, 0.0],
                [0.0, 0.0, 0.0, TORSION, 0.0],
            ]
        nf, nl = self.normal
        return [
            [nf, nl, 0.0, 0.0, 0.0],
            [-nl, nf, 0.0, -self.arm, 0.0],
            [0.0, 0.0, 1.0, 0.0, self.arm * nf],
            [0.0, 0.0, 0.0, 0.0, TORSION * nl],
        ]

    def tangent_matrix(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        """J M^-1 J^T of the three friction rows: xx, yy, zz, xy, xz, yz."""
        zero = jnp.zeros_like(self.arm)
        if self.normal is None:
            return (
                1 / MASS + self.arm**2 / ROLL_INERTIA,
                INVERSE_LEFT + zero,
                TORSION**2 * INVERSE_YAW + zero,
                zero,
                zero,
                TORSION * INVERSE_COUPLING + zero,
            )
        nf, nl = self.normal
        rolling = self.arm * nf
        spin = TORSION * nl
        return (
            nl**2 / MASS
            + nf**2 * INVERSE_LEFT
            - 2 * nf * self.arm * INVERSE_COUPLING
            + self.arm**2 * INVERSE_YAW,
            1 / MASS + rolling**2 / ROLL_INERTIA,
            spin**2 / ROLL_INERTIA,
            zero,
            zero,
            rolling * spin / ROLL_INERTIA,
        )


def make_contact(gap: Any, u: Vector, normal: Any = None) -> Contact:
    """The contact at a distance `gap` between ball and obstacle; u: velocity."""
    depth = jnp.clip(-gap / 0.001, 0.0, 1.0)
    bend = jnp.where(depth < 0.5, 2 * depth**2, 1 - 2 * (1 - depth) ** 2)
    impedance = 0.9 + 0.05 * bend
    stiff = impedance / ((1 - impedance) * INVERSE_WEIGHT)
    weight = jnp.where(gap < 0, stiff, 0.0)
    arm = RADIUS + 0.5 * jnp.minimum(gap, 0.0)
    contact = Contact(arm, weight, (gap, gap, gap, gap), normal)
    n, a, b, t = contact.rows(u)
    target = (
        -DAMPING * n - STIFFNESS * impedance * gap,
        -DAMPING * a,
        -DAMPING * b,
        -DAMPING * t,
    )
    return contact._replace(target=target)


def mass_times(a: Vector) -> Vector:
    forward, left, up, yaw, roll = a
    return (
        MASS * forward,
        MASS * left + OFFSET * yaw,
        MASS * up,
        OFFSET * left + YAW_INERTIA * yaw,
        ROLL_INERTIA * roll,
    )


def inverse_mass_times(f: Vector) -> Vector:
    forward, left, up, yaw, roll = f
    return (
        forward / MASS,
        INVERSE_LEFT * left + INVERSE_COUPLING * yaw,
        up / MASS,
        INVERSE_COUPLING * left + INVERSE_YAW * yaw,
        roll / ROLL_INERTIA,
    )


def add(a: Any, b: Any, scale: Any = 1.0) -> Any:
    return tuple(x + scale * y for x, y in zip(a, b, strict=True))


def dot(a: Any, b: Any) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


def forces(contact: Contact, rows: Rows) -> Rows:
    """Force of each row where the constraint is violated by `rows`, MuJoCo's cone."""
    n, a, b, t = rows
    length = jnp.sqrt(a * a + b * b + t * t + 1e-12)
    sticks = n + length <= 0
    free = n >= length
    scale = 0.5 * (length - n)
    normal = jnp.where(sticks, -n, jnp.where(free, 0.0, scale))
    along = jnp.where(sticks, -1.0, jnp.where(free, 0.0, -scale / length))
    w = contact.weight
    return w * normal, w * along * a, w * along * b, w * along * t
