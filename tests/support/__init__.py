"""Real servers and processes for tests. Each ends with the test that started it, by its own id."""
