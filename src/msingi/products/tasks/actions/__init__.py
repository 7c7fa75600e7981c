"""What may be done: each action checks, writes and says what happened, all of it or nothing."""
