"""The command `fairlth`, also where its script is not on the path: `python -m fairlth`."""

import sys


def main() -> int:
    """The command's exit status; a variable of the environment that is refused is bad input."""
    try:
        from fairlth.workflow import cli
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
