"""The commands beside the daemon, one module each; each has `command(arguments) -> exit status`."""
