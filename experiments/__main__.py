"""`python -m experiments`: every experiment at once."""

from experiments.harness.cli import main_all

if __name__ == "__main__":
    main_all()
