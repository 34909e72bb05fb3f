"""The real server in a simulated, seeded and hostile network."""
