"""`python train.py`: see captioner/cli/train.py."""

from captioner.cli.train import main

if __name__ == "__main__":
    main()
