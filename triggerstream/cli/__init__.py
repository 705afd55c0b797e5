"""The command `triggerstream`: one module a command group."""

import click


@click.group()
@click.version_option(package_name="triggerstream")
def main() -> None:
    """Fire Celery tasks when the triggers of a session have arrived."""
