"""`python -m workers` is the same command as `douse`: hands over to workers.cli and does nothing else."""

from workers.cli import main

if __name__ == "__main__":
    main()
