import click


@click.command()
def has_a_summary():
    """Good, but for its record."""


def is_a_command():
    """A function, and no command."""


@click.command()
def has_help():
    pass


class Helpless(click.Command):
    def format_help(self, ctx, formatter):
        raise RuntimeError("there is no help")


@click.command(cls=Helpless)
def help_can_be_shown():
    """Good, but for its class."""


name_is_free = name_is_free_2 = name_is_free_3 = name_is_free_4 = has_a_summary
