"""`python -m saccade` is the command `saccade`."""

from saccade.cli import run

if __name__ == "__main__":
    run()
