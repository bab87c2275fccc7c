"""`python -m lidr` is `lidr`."""

from lidr.cli import main

if __name__ == "__main__":
    main()
