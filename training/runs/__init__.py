"""What a run keeps and shows: its folder, checkpoints, metrics, interruptions."""
