"""How many weights the parts of a memory have, in closed form.

A preset's weights are counted before a policy is made, so that a file which asks for
the impossible costs nothing, and the zoo looks for memories of equal size.
"""


def count_dense(inputs: int, units: int, use_bias: bool = True) -> int:
    """Weights of a dense layer, or of a convolution with so many inputs a unit.

    Args:
        inputs: Inputs of one unit.
        units: Number of units.
        use_bias: Whether each unit has a bias.
    """
    return (inputs + use_bias) * units
