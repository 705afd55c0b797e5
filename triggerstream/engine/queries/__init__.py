"""Questions of people and programs about sessions, answered while an engine runs."""
