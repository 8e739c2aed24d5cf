"""`python -m edgedistill`."""

from edgedistill.cli.app import main

if __name__ == "__main__":
    main()
