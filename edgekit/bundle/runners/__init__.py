"""The smallest programs that run a shipped file on its target; copied into the bundle as they are."""
