"""``python -m wsisurv``: the same command line as ``wsisurv``."""

from wsisurv.cli.app import main

if __name__ == "__main__":
    main()
