"""The command line: the only package that imports Hydra, prints, and ends the process.

There is one module per command. It parses and checks the command line without importing torch, and then imports what
does the work, which is in `<command>_job` where it is long. Commands that compose settings take KEY=VALUE (`overrides`,
`setting_suggestions`); the others take `--flags` (`flags`). `main.run_command` turns errors into messages and exit
codes.
"""
