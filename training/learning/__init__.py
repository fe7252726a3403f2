"""PPO in JAX as pure functions, and the policies that all engines train."""
