"""Stand-ins of payment providers that answer over real HTTP, and misbehave as the real ones do."""
